"""A Streamlit app with a chromadb client per session, one per rerun and a shared one: what is told while it runs, and how it ends.

    python streamlit_sessions.py PYTHON FOLDER [SIGNAL...]

Prints one JSON line for each row.  Streamlit keeps the state of a closed session for two minutes; here for a second.
"""

from __future__ import annotations

import collections
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import websocket
from streamlit.proto.BackMsg_pb2 import BackMsg

APP = """\
import itertools, time
import chromadb
import streamlit as st
from chromadb.config import System
if System.stop.__name__ == "stop":
    def counted(system, stop=System.stop):
        print("STOPPED", id(system), flush=True)
        stop(system)
    System.stop = counted
settings = chromadb.Settings(anonymized_telemetry=False)
def make(name):
    return chromadb.PersistentClient(f"{name}-{time.time_ns()}", settings=settings)
@st.cache_resource
def shared():
    client = chromadb.PersistentClient("shared", settings=settings)  # shared
    return client
if "client" not in st.session_state:
    st.session_state.client = chromadb.PersistentClient(f"session-{time.time_ns()}", settings=settings)  # session
rerun = chromadb.PersistentClient(f"rerun-{time.time_ns()}", settings=settings)  # rerun
same = chromadb.PersistentClient("same", settings=chromadb.Settings(anonymized_telemetry=False))  # same
things = shared().get_or_create_collection("things", embedding_function=None)
things.upsert(ids=["1"], embeddings=[[1.0, 2.0]])
print("RAN", flush=True)
"""

START = """\
import sys
from streamlit.runtime import memory_session_storage as storage
made = storage.MemorySessionStorage.__init__
def short(self, *_arguments, **_more):
    made(self, ttl_seconds=1)
storage.MemorySessionStorage.__init__ = short
from streamlit.web.cli import main
sys.exit(main())
"""

DEADLINE = 240.0

#: More than `leakagent.instrumentation.chroma_looks.MANY`.
RERUNS = 12


class App:
    """The server, and what it has printed."""

    def __init__(self, python: str, folder: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = int(found.getsockname()[1])
        folder.mkdir(parents=True)
        (folder / "app.py").write_text(APP, encoding="utf-8")
        (folder / "start.py").write_text(START, encoding="utf-8")
        self.folder, self.python = folder, python
        server = ["run", "app.py", f"--server.port={self.port}", "--server.address=127.0.0.1", "--server.fileWatcherType=none"]
        quiet = ["--server.headless=true", "--browser.gatherUsageStats=false"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LEAKAGENT", "_LEAKAGENT"))}
        env = {**kept, "LEAKAGENT": "1", "LEAKAGENT_REPORT": "text,json:report.json", "HOME": os.fspath(folder)}
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [python, "start.py", *server, *quiet], cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def until(self, condition: Any, what: str) -> None:
        end = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > end or self.process.poll() is not None:
                sys.exit(f"did not happen: {what}\n{self.log}")
            time.sleep(0.05)

    def session(self) -> Any:
        """Open a session as a browser does, and wait until its script has run."""
        before = self.log.count("RAN")
        made: list[Any] = []

        def connect() -> bool:
            url, protocol = f"ws://127.0.0.1:{self.port}/_stcore/stream", ["streamlit"]
            try:
                made.append(websocket.create_connection(url, subprotocols=protocol, timeout=60, http_no_proxy=["127.0.0.1"]))
            except OSError:
                return False
            return True

        self.until(connect, "a connection")
        self.rerun(made[0], before)
        return made[0]

    def rerun(self, opened: Any, before: int | None = None) -> None:
        """Have the script run, and wait until it has."""
        before = self.log.count("RAN") if before is None else before
        message = BackMsg()
        message.rerun_script.query_string = ""
        opened.send(message.SerializeToString(), opcode=websocket.ABNF.OPCODE_BINARY)
        self.until(lambda: self.log.count("RAN") > before, "the script has run")

    def told(self, word: str, how: str = "not closed") -> bool:
        """Say whether the client of a line was told while the app runs."""
        return bool(re.search(rf"leakagent: chroma client {how}\n.*app\.py:{line_of(word)} ", self.log))

    @property
    def counts_users(self) -> bool:
        """Whether its chromadb counts the users of a System (1.5.2 and newer): before, one more client of a directory costs nothing."""
        code = "from chromadb.api.shared_system_client import SharedSystemClient as S; print(hasattr(S, '_release_system'))"
        return subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "True"


def line_of(word: str) -> int:
    return next(number for number, line in enumerate(APP.splitlines(), 1) if line.endswith(f"# {word}"))


def row(constructor: str, left: str, found: str, closed: str, remains: str, problem: str = "") -> None:
    names = {"constructor": constructor, "left": left, "found": found, "closed": closed, "remains": remains, "problem": problem}
    print(json.dumps(names), flush=True)


def main() -> None:
    python, folder = sys.argv[1], Path(sys.argv[2])
    for signum in [signal.Signals[name] for name in sys.argv[3:] or ("SIGINT", "SIGTERM")]:
        app = App(python, folder / signum.name)
        try:
            first = app.session()
            # The first run's variables stay: st.cache_resource refers to its function.
            for _ in range(RERUNS):
                app.rerun(first)
            app.until(lambda app=app: app.told("rerun"), "the client of the rerun before is told")
            if app.counts_users:
                app.until(lambda app=app: app.told("same", "keeps growing"), "the users of one System keep growing")
            first.close()
            # The state of a session that is over goes when another one is over.
            second = app.session()
            time.sleep(1.1)
            second.close()
            third = app.session()
            third.close()
            app.until(lambda app=app: app.told("session"), "the client of a closed session is told")
            early = app.told("shared")
            app.process.send_signal(signum)
            status = app.process.wait(DEADLINE)
            report = json.loads((app.folder / "report.json").read_text(encoding="utf-8"))
        finally:
            if app.process.poll() is None:
                os.killpg(app.process.pid, signal.SIGKILL)
        mine = {one["site"]["line"]: one for one in report["findings"] if one["reason"] == "not_closed"}
        lines = {word: line_of(word) for word in ("shared", "session", "rerun", "same")}
        stopped = collections.Counter(re.findall(r"^STOPPED (\d+)$", app.log, re.MULTILINE))
        # Of each session and each run one, the shared one, and that of all reruns.
        systems = 3 + (1 + RERUNS + 2) + 2
        # Besides the report that the agent ends with.
        after = [
            line
            for line in app.log.partition("Stopping...")[2].partition("\nleakagent: ")[0].splitlines()
            if line.strip() and not line.startswith("STOPPED ")
        ]
        problems = [
            f"status {status}" if status else "",
            "the shared client was told while it is used" if early else "",
            f"told lines {sorted(mine)}" if set(mine) != set(lines.values()) else "",
            f"not closed: {mine}" if any(one["action"] != "closed" for one in mine.values()) else "",
            "a traceback" if "Traceback" in app.log else "",
            f"stopped {stopped}" if sorted(stopped.values()) != [1] * systems else "",
            f"talks after Stopping: {after}" if after else "",
        ]
        count = sum(one["count"] for one in mine.values())
        users = ", and the users of one System, which grow" if app.counts_users else ""
        where = "a client per session, per rerun, in st.cache_resource"
        row(
            where,
            signum.name,
            f"{count} with the script's lines, while it runs those of closed sessions and of reruns{users}",
            "by leakagent",
            "nothing",
            "; ".join(filter(None, problems)),
        )


if __name__ == "__main__":
    main()
