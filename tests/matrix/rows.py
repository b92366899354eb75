"""The rows of the support table: which programs are run for a library, and what has to come out of them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING, Any, TypeAlias

from clients import CLIENTS, client_rows
from killed import killed
from running import DEADLINE, PROGRAMS, Cells, ProgramError, Row, free_port, joined, ran, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Seconds that the end may take when the other end of the telemetry never answers: far less than bare, also where everything takes three times as
#: long as the agent's budget allows for.
TELEMETRY_SECONDS = 30

#: Ways into lancedb whose result has a close(): to let go of any other is the only way to end it.
_CLOSED_BY_NAME = ("connect_async", "remote_async")

#: Bare it takes a minute, however fast the machine is.
TELEMETRY_SECONDS_BARE = 40

_PLANTED = re.compile(r"# leak: (\w+) ([\w.]+)$")


#: What returns the rows of a part of the table: called with the interpreter, a folder and the release.
Part: TypeAlias = "Callable[[str, Path, str], list[Cells]]"


def run(library: str, release: str, python: str, part: Part) -> list[Row]:
    """Run the programs of a part with an interpreter that has this release of the library and leakagent."""
    with tempfile.TemporaryDirectory(prefix="leakagent-matrix-") as folder:
        try:
            return [Row(library, release, *cells) for cells in part(python, Path(folder), release)]
        except (ProgramError, TimeoutExpired, OSError) as error:
            text = " ".join(str(error).split()).replace("|", "/")
            return [Row(library, release, part.__name__, "", "", "", "", problem=text)]


# -- chromadb --------------------------------------------------------------------------------------------------------


def chroma_clients(python: str, folder: Path, _release: str) -> list[Cells]:
    """Return the rows of all constructors."""
    with chroma_server(python, folder) as port:
        text, _ = ran(python, "chroma_clients.py", os.fspath(folder / "clients"), str(port), folder=folder)
    lines = [json.loads(line) for line in text.splitlines()]
    by_hand = {line["constructor"]: line.get("remains") for line in lines if line["how"] == "closed"}
    return [judged(line, by_hand) for line in lines]


def judged(line: dict[str, Any], by_hand: dict[str, Any]) -> Cells:
    """Return the cells of what `programs/chroma_clients.py` has printed about one constructor."""
    name, how = line["constructor"], line["how"]
    if "error" in line:
        return name, how, "not in this release", "", "", ""
    remains, wanted = line["remains"], by_hand.get(name, {})
    planted = 0 if how == "closed" else 3
    # An asynchronous client belongs to its event loop, and has no close().
    actions = [] if how == "closed" else ["none"] if name == "AsyncHttpClient" else ["closed"]
    problems = [
        f"found {line['found']} of {planted}" if line["found"] != planted else "",
        f"actions {line['actions']}" if line["actions"] != actions else "",
        "not seen to be unused" if line["unused"] != (how == "dropped") else "",
        f"remains {remains}, closed by hand {wanted}"
        if name in by_hand and any(remains[one] > wanted.get(one, 0) for one in remains)
        else "",
    ]
    kept = ", ".join(f"+{number} {what}" for what, number in remains.items()) or "nothing"
    by_itself = (
        ""
        if how == "closed" or name not in by_hand
        else ", as closed by hand"
        if remains == wanted
        else ", less than closed by hand"
    )
    action = (
        "by the program"
        if how == "closed"
        else "ends with the process: chromadb gives it no close()"
        if actions == ["none"]
        else "by leakagent"
    )
    return name, how, f"{line['found']} of {planted}", action, kept + by_itself, "; ".join(filter(None, problems))


@contextmanager
def chroma_server(python: str, folder: Path) -> Iterator[int]:
    """Run this release's own server."""
    port = free_port()
    start = "import sys; from chromadb.cli.cli import app; sys.exit(app())"
    words = [python, "-c", start, "run", "--path", os.fspath(folder / "server"), "--port", str(port), "--host", "127.0.0.1"]
    with served(words, folder, lambda: _answers(f"http://127.0.0.1:{port}/api/")):
        yield port


def _answers(url: str) -> bool:
    for version in ("v2", "v1"):
        try:
            with urllib.request.urlopen(f"{url}{version}/heartbeat", timeout=10):
                return True
        except urllib.error.HTTPError:
            continue
        except OSError:
            return False
    return False


def end_of(program: str) -> Callable[[str, Path, str], list[Cells]]:
    """Return what compares the end of a program, bare and under the agent."""

    def end_of_a_program(python: str, folder: Path, _release: str) -> list[Cells]:
        # lancedb up to 0.40 can abort at the end: what is printed is compared with what it should be, not with such a run.
        text, report = ran(python, program, os.fspath(folder / "agent"), folder=folder, status=3)
        plain, _ = ran(python, program, os.fspath(folder / "bare"), folder=folder, agent=False, status=None)
        lines = (PROGRAMS / program).read_text(encoding="utf-8").splitlines()
        planted = sorted((found[1], found[2], number) for number, line in enumerate(lines, 1) if (found := _PLANTED.search(line)))
        told = sorted((one["reason"], one["kind"], one["site"]["line"]) for one in report["findings"])
        actions = sorted({one["action"] for one in report["findings"]})
        problem = joined(
            f"told {told}, planted {planted}" if told != planted else "",
            f"printed {text!r}, bare {plain!r}" if text != plain else "",
            f"stages forced: {report['receipt']}" if any(stage["forced"] for stage in report["receipt"]) else "",
        )
        done = "by leakagent" if actions == ["closed"] else "let go: it has no close()"
        found = f"{len(told)} of {len(planted)}"
        return [("the end of a program", "open, and a thread writes", found, done, "status kept", problem)]

    return end_of_a_program


def residue(program: str) -> Callable[[str, Path, str], list[Cells]]:
    """Return what compares what a process has when the agent has closed everything with one that has closed it itself.

    Args:
        program: One of ``programs/*_residue.py``: prints what it has more than before its first connection; with ``closed`` it closes
            everything itself, else it leaves that to the agent.

    """

    def what_the_library_keeps(python: str, folder: Path, _release: str) -> list[Cells]:
        by_hand, _ = ran(python, program, os.fspath(folder / "closed"), "closed", folder=folder, agent=False)
        by_agent, _ = ran(python, program, os.fspath(folder / "left"), "left open", folder=folder)
        problem = f"{by_agent.strip()}, closed by hand {by_hand.strip()}" if by_agent != by_hand else ""
        kept = ", ".join(f"{number} {what}" for what, number in json.loads(by_agent).items()) or "nothing"
        return [("all that was opened", "left open", "", "by leakagent", f"{kept}, as closed by hand", problem)]

    return what_the_library_keeps


def inherited(program: str) -> Callable[[str, Path, str], list[Cells]]:
    """Return what has a forked child use what it has inherited: it is told before it hangs, or it comes to its end.

    Args:
        program: One of ``programs/*_forks.py``.

    """

    def a_forked_child(python: str, folder: Path, _release: str) -> list[Cells]:
        text, _ = ran(python, program, os.fspath(folder / "forks"), folder=folder, report_kinds="text,")
        seen = json.loads(text)
        hangs = seen["status"] is None
        problem = joined(
            "it hangs, and is not told" if hangs and not seen["told"] else "",
            "it is told, and comes to its end" if seen["told"] and not hangs else "",
            # lancedb resets its threads in the child, and says that this can fail.
            f"status {seen['status']}: {seen['errors']}" if seen["status"] not in {None, 0, -signal.SIGSEGV} else "",
        )
        found = "told with its line, before it hangs" if seen["told"] else "not told: it comes to its end"
        return [("the first call in a forked child", "inherited", found, "left as it is", "the parent goes on", problem)]

    return a_forked_child


def telemetry(python: str, folder: Path, release: str) -> list[Cells]:
    """Return the row of a release that reports its use, where the other end never answers."""
    if release not in {"1.0.20", "1.4.1"}:
        return []
    seconds, told = {}, []
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        server.settimeout(DEADLINE)
        for how in ("bare", "agent"):
            text, report = ran(python, "telemetry_end.py", os.fspath(folder / how), address, folder=folder, agent=how == "agent")
            # From the last line of the program to the end of its process.
            seconds[how] = time.time() - float(text)
            server.accept()[0].close()
            told = [one for one in report.get("findings", ()) if (one["reason"], one["kind"]) == ("blocks_exit", "thread")]
    problem = joined(
        "" if told else "the thread that sends is not told",
        f"the end took {seconds['agent']:.1f} s" if seconds["agent"] > TELEMETRY_SECONDS else "",
        f"bare the end took {seconds['bare']:.1f} s alone" if seconds["bare"] < TELEMETRY_SECONDS_BARE else "",
    )
    kept = f"ended after {seconds['agent']:.1f} s, bare {seconds['bare']:.1f} s"
    return [("telemetry to a server that never answers", "open", f"{len(told)} thread", "let go", kept, problem)]


# -- lancedb ---------------------------------------------------------------------------------------------------------


def lance_connections(python: str, folder: Path, release: str) -> list[Cells]:
    """Return the rows of all ways into lancedb."""
    text, _ = ran(python, "lance_connections.py", os.fspath(folder / "connections"), folder=folder)
    *lines, last = [json.loads(line) for line in text.splitlines()]
    found: list[Cells] = []
    for line in lines:
        name, how = line["constructor"], line["how"]
        # Synchronous ones have an asynchronous one inside, which can be closed, from 0.17 on.
        can_close = line.get("can_close", False)
        # To let go of a synchronous connection is the only way to end it; the asynchronous one has a close().
        wanted = int(how == "left open" or (how == "dropped" and name in _CLOSED_BY_NAME))
        is_closed = how == "left open" and can_close
        problem = joined(
            line.get("error", ""),
            f"found {line.get('found')} of {wanted}" if line.get("found") != wanted else "",
            f"closed by leakagent: {last['closed']}" if how == "left open" and (name in last["closed"]) != can_close else "",
        )
        action = "by leakagent" if is_closed else "with the process" if wanted else "by the program"
        left = "let go of" if how == "closed" and not can_close else how
        found.append((name, left, f"{line.get('found')} of {wanted}", action, "its native runtime", problem))
    problem = f"threads {last['threads']}" if last["threads"] else ""
    loop = "thread ended, loop closed" if int(release.split(".")[1]) >= 17 else "no loop in this release"
    found.append(("lancedb.background_loop.LOOP", "running", f"{last['found']} connections", loop, "its native runtime", problem))
    return found


# -- llama-index -----------------------------------------------------------------------------------------------------


def llama_answers(python: str, folder: Path, release: str) -> list[Cells]:
    """Return the row of streamed answers."""
    text, report = ran(python, "llama_answers.py", folder=folder)
    bare, _ = ran(python, "llama_answers.py", folder=folder, agent=False)
    found = sorted((one["reason"], one["site"]["file"].rpartition("/")[2]) for one in report["findings"])
    is_old = release.startswith("0.12")
    files = {"condense_question.py", "context.py", "simple.py"}
    # The proof that a task is lost has a deadline; told in any case are those that wait.
    waiting = {name for reason, name in found if reason in {"lost_task", "outlived_scope"}}
    failed = {name for reason, name in found if reason == "unretrieved_exception"}
    problems = [
        # The context engine of 0.12 begins to read when it is read, and nobody does.
        f"found {found}" if waiting != files - ({"context.py"} if is_old else set()) or (failed and not is_old) else "",
        f"reasons {found}" if {reason for reason, _ in found} - {"lost_task", "outlived_scope", "unretrieved_exception"} else "",
        f"printed {text!r}, bare {bare!r}" if text != bare else "",
    ]
    told = ", ".join(f"{reason} {file}" for reason, file in found)
    return [
        (
            "chat engines, streamed",
            "read, broken off, dropped",
            told,
            "cancelled with the loop",
            "nothing",
            "; ".join(filter(None, problems)),
        )
    ]


def streamlit_sessions(python: str, folder: Path, _release: str) -> list[Cells]:
    """Return the rows of a Streamlit app."""
    text, _ = ran(python, "streamlit_sessions.py", python, os.fspath(folder / "sessions"), folder=folder, agent=False)
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [
        (line["constructor"], line["left"], line["found"], line["closed"], line["remains"], line["problem"]) for line in found
    ]


ROWS: dict[str, list[Part]] = {
    "chromadb": [
        chroma_clients,
        residue("chroma_residue.py"),
        end_of("chroma_end.py"),
        killed("chroma_writes.py"),
        inherited("chroma_forks.py"),
        telemetry,
    ],
    "lancedb": [
        lance_connections,
        residue("lance_residue.py"),
        end_of("lance_end.py"),
        killed("lance_writes.py"),
        inherited("lance_forks.py"),
    ],
    "llama-index-core": [llama_answers],
    "streamlit": [streamlit_sessions],
    **{library: [client_rows(library)] for library in CLIENTS},
}
