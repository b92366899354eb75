"""Calls of chromadb and lancedb that other threads are in when everything is closed; also run with older releases of both."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# An embedding function stands in the middle of a call: here it takes until the agent waits for calls, or longer than that.
CHROMADB = """\
import signal, sys, threading, time
import chromadb
from chromadb.config import System

how, end = sys.argv[1:]
begun = threading.Semaphore(0)
waits = False

def frames(frame):
    while frame is not None:
        yield frame
        frame = frame.f_back

def agent_waits():
    main = sys._current_frames().get(threading.main_thread().ident)
    return how == "ends" and any(frame.f_code.co_name == "drain" for frame in frames(main))

class Slow(chromadb.EmbeddingFunction):
    def __init__(self):
        pass
    def __call__(self, input):
        if waits:
            begun.release()
            while not agent_waits():
                time.sleep(0.001)
        return [[1.0, 2.0] for _ in input]

def in_flight():
    own = threading.get_ident()
    return sum(
        any(str(frame.f_globals.get("__name__")).startswith("chromadb.") for frame in frames(innermost))
        for thread, innermost in sys._current_frames().items() if thread != own
    )

stop = System.stop
def told(system):
    print("stopped with", in_flight(), "calls in flight", flush=True)
    stop(system)
System.stop = told

settings = chromadb.Settings(anonymized_telemetry=False)
client = chromadb.PersistentClient("db", settings=settings)  # leak
things = client.get_or_create_collection("things", embedding_function=Slow())
things.add(ids=["0"], documents=["zero"])
waits = True
for work in (
    lambda: things.add(ids=["1"], documents=["one"]),
    lambda: things.query(query_texts=["zero"], n_results=1),
):
    threading.Thread(target=work, daemon=True).start()
    begun.acquire()
print("end", flush=True)
if end == "SIGTERM":
    signal.pause()
"""


@pytest.fixture
def ended(
    environment: Callable[..., dict[str, str]], program: Callable[..., Path], tmp_path: Path
) -> Callable[..., tuple[int, list[str], dict[str, Any]]]:
    """Run a program under the agent, end it when it has printed ``end``, and return its status, its other lines and the report."""

    def run(text: str, *arguments: str) -> tuple[int, list[str], dict[str, Any]]:
        words = [sys.executable, "-m", "leakagent", "--report", "json:report.json", program(text), *arguments]
        pipe = subprocess.PIPE
        process: Any
        with subprocess.Popen(words, cwd=tmp_path, env=environment(), stdout=pipe, stderr=pipe, text=True) as process:
            try:
                line = process.stdout.readline()
                if "SIGTERM" in arguments:
                    process.send_signal(signal.SIGTERM)
                stdout, stderr = process.communicate(timeout=240)
            finally:
                process.kill()
        assert line == "end\n", stderr
        assert "Traceback" not in stderr, stderr
        return process.returncode, stdout.splitlines(), json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))

    return run


@pytest.mark.parametrize(("end", "status"), [("return", 0), ("SIGTERM", -signal.SIGTERM)], ids=["at the end", "SIGTERM"])
def test_a_system_is_stopped_when_its_calls_have_ended(
    ended: Callable[..., tuple[int, list[str], dict[str, Any]]], tmp_path: Path, end: str, status: int
) -> None:
    ran, lines, report = ended(CHROMADB, "ends", end)
    assert (ran, lines) == (status, ["stopped with 0 calls in flight"])
    assert [(one["reason"], one["kind"], one["action"]) for one in report["findings"]] == [
        ("not_closed", "chromadb.client", "closed")
    ]
    with closing(sqlite3.connect(tmp_path / "db" / "chroma.sqlite3")) as database:
        assert sorted(database.execute("select embedding_id from embeddings")) == [("0",), ("1",)]


def test_a_call_that_does_not_end_is_waited_for_until_the_deadline(
    ended: Callable[..., tuple[int, list[str], dict[str, Any]]],
) -> None:
    ran, lines, report = ended(CHROMADB, "never ends", "return")
    assert (ran, lines) == (0, ["stopped with 2 calls in flight"])
    assert [(one["reason"], one["action"]) for one in report["findings"]] == [("not_closed", "closed")]
    (stage,) = (one for one in report["receipt"] if one["stage"] == "clients")
    # Half of what the stage may take.
    assert stage["seconds"] >= 0.5, stage


# One call comes again and again until it is refused, one ends when it is, one never ends.
LANCEDB = """\
import asyncio, threading
import lancedb
import leakagent
from lancedb.background_loop import LOOP
from lancedb.db import AsyncConnection

steps = []
refused = threading.Event()

def noted(owner, name, word):
    original = getattr(owner, name)
    def note(*args, **kwargs):
        result = original(*args, **kwargs)
        if word not in steps:
            steps.append(word)
        return result
    setattr(owner, name, note)

db = lancedb.connect("db")
table = db.create_table("t", [{"id": 1}])
begun = threading.Semaphore(0)

async def ends():
    begun.release()
    while not refused.is_set():
        await asyncio.sleep(0.001)
    steps.append("drained")
    return "its result"

async def never_ends():
    begun.release()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        steps.append("cancelled")

def again_and_again():
    begun.release()
    try:
        while True:
            table.count_rows()
    except RuntimeError as error:
        steps.append(f"refused: {error}")
        refused.set()

results = []
threads = [
    threading.Thread(target=lambda: results.append(LOOP.run(ends()))),
    threading.Thread(target=again_and_again),
]
if STUCK:
    def stuck():
        try:
            LOOP.run(never_ends())
        except BaseException as error:
            results.append(type(error).__name__)
    threads.append(threading.Thread(target=stuck))
for thread in threads:
    thread.start()
    begun.acquire()
noted(AsyncConnection, "close", "connection closed")
noted(LOOP.loop, "stop", "loop stopped")
noted(LOOP.thread, "join", "thread joined")
noted(LOOP.loop, "close", "loop closed")
print("end", flush=True)
leakagent.shutdown()
for thread in threads:
    thread.join()
print(*steps, sep="\\n")
print(results, LOOP.thread.is_alive(), LOOP.loop.is_closed())
"""

ORDER = ["connection closed", "loop stopped", "thread joined", "loop closed"]
REFUSED = "refused: lancedb was closed by leakagent: leakagent.shutdown() was called"


@pytest.mark.parametrize("stuck", [False, True], ids=["ends", "never ends"])
def test_the_order_in_which_the_loop_is_ended(ended: Callable[..., tuple[int, list[str], dict[str, Any]]], stuck: bool) -> None:
    ran, lines, _ = ended(LANCEDB.replace("STUCK", str(stuck)))
    cancelled = ["cancelled"] if stuck else []
    results = ["its result", *(["CancelledError"] if stuck else [])]
    assert ran == 0
    assert lines == [REFUSED, "drained", *cancelled, *ORDER, f"{results} False True"]
