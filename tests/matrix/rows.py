"""The rows of the support table: which programs are run for a library, and what has to come out of them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS = Path(__file__).parent / "programs"

#: Seconds for one program, on a machine that is ten times slower than usual.
DEADLINE = 300

#: Seconds that the end may take when the other end of the telemetry never answers: the agent's whole budget, and the start of Python.
TELEMETRY_SECONDS = 10

_PLANTED = re.compile(r"# leak: (\w+) ([\w.]+)$")


@dataclass
class Row:
    """One line of the table; ``problem`` is empty if all is well."""

    library: str
    release: str
    constructor: str
    left: str
    found: str
    closed: str
    remains: str
    problem: str = ""

    def line(self) -> str:
        """Return it as a line of Markdown."""
        well = f"**fails**: {self.problem}" if self.problem else "well"
        cells = [self.library, self.release, f"`{self.constructor}`", self.left, self.found, self.closed, self.remains, well]
        return f"| {' | '.join(cells)} |"

    @classmethod
    def from_line(cls, line: str) -> Row:
        """Read such a line."""
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        problem = "" if cells[7] == "well" else cells[7].removeprefix("**fails**: ")
        return cls(cells[0], cells[1], cells[2].strip("`"), *cells[3:7], problem=problem)


def run(library: str, release: str, python: str) -> list[Row]:
    """Run the programs of a library with an interpreter that has this release and leakagent."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="leakagent-matrix-") as folder:
        for part in ROWS[library]:
            try:
                found += [Row(library, release, *cells) for cells in part(python, Path(folder), release)]
            except (ProgramError, subprocess.TimeoutExpired, OSError) as error:
                text = " ".join(str(error).split()).replace("|", "/")
                found.append(Row(library, release, part.__name__, "", "", "", "", problem=text))
    return found


def ran(
    command: list[str], folder: Path, *, agent: bool = True, expect: int = 0, options: tuple[str, ...] = ()
) -> tuple[str, dict[str, Any]]:
    """Run a program bare or under the agent; return its stdout and the report."""
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    front = ["-m", "leakagent", "--live", "0", "--report", f"json:{report}", *options] if agent else []
    done = subprocess.run(
        [command[0], *front, *command[1:]],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    if done.returncode != expect:
        message = f"status {done.returncode} in place of {expect}: {done.stderr.strip()[-400:]}"
        raise ProgramError(message)
    return done.stdout, json.loads(report.read_text(encoding="utf-8")) if agent else {}


class ProgramError(Exception):
    """A program did not end as it should."""


def _environment() -> dict[str, str]:
    dropped = ("LEAKAGENT", "_LEAKAGENT", "OTEL_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONWARNINGS": "ignore", "ANONYMIZED_TELEMETRY": "True", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


Cells = tuple[str, ...]


# -- chromadb --------------------------------------------------------------------------------------------------------


def chroma_clients(python: str, folder: Path, _release: str) -> list[Cells]:
    """Return the rows of all constructors."""
    with chroma_server(python, folder) as port:
        text, _ = ran([python, os.fspath(PROGRAMS / "chroma_clients.py"), os.fspath(folder / "clients"), str(port)], folder)
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
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    start = "import sys; from chromadb.cli.cli import app; sys.exit(app())"
    command = [python, "-c", start, "run", "--path", os.fspath(folder / "server"), "--port", str(port), "--host", "127.0.0.1"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=_environment(), stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + DEADLINE
        while not _answers(f"http://127.0.0.1:{port}/api/"):
            if time.monotonic() > end or process.poll() is not None:
                message = f"the server did not start: {(folder / 'server.log').read_text(errors='replace')[-300:]}"
                raise ProgramError(message)
            time.sleep(0.1)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


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


def end_of(name: str) -> Callable[[str, Path, str], list[Cells]]:
    """Return what compares the end of a program, bare and under the agent."""

    def rows(python: str, folder: Path, _release: str) -> list[Cells]:
        path = PROGRAMS / name
        bare = folder / "bare"
        bare.mkdir(exist_ok=True)
        # lancedb up to 0.40 can abort at the end: what is printed is compared with what it should be, not with such a run.
        text, report = ran([python, os.fspath(path), os.fspath(folder / "agent")], folder, expect=3)
        plain = subprocess.run(
            [python, os.fspath(path), os.fspath(bare)], env=_environment(), capture_output=True, text=True, check=False
        )
        lines = path.read_text(encoding="utf-8").splitlines()
        planted = sorted((found[1], found[2], number) for number, line in enumerate(lines, 1) if (found := _PLANTED.search(line)))
        told = sorted((one["reason"], one["kind"], one["site"]["line"]) for one in report["findings"])
        actions = sorted({one["action"] for one in report["findings"]})
        problems = [
            f"told {told}, planted {planted}" if told != planted else "",
            f"printed {text!r}, bare {plain.stdout!r}" if text != plain.stdout else "",
            f"stages forced: {report['receipt']}" if any(stage["forced"] for stage in report["receipt"]) else "",
        ]
        ended = "" if plain.returncode == 3 else f" (bare it ended with {plain.returncode})"
        done = "by leakagent" if actions == ["closed"] else "let go: it has no close()"
        return [
            (
                "the end of a program",
                "open, and a thread writes",
                f"{len(told)} of {len(planted)}",
                done,
                f"status kept{ended}",
                "; ".join(filter(None, problems)),
            )
        ]

    return rows


def telemetry(python: str, folder: Path, release: str) -> list[Cells]:
    """Return the row of a release that reports its use, where the other end never answers."""
    if release not in {"1.0.20", "1.4.1"}:
        return []
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        _, report = ran([python, os.fspath(PROGRAMS / "telemetry_end.py"), os.fspath(folder), address], folder)
        server.settimeout(DEADLINE)
        server.accept()[0].close()
    seconds = sum(stage["seconds"] for stage in report["receipt"])
    stuck = [one for one in report["findings"] if one["reason"] == "blocks_exit" and one["kind"] == "thread"]
    problem = "" if stuck else f"the thread that sends is not told: {report['findings']}"
    return [
        (
            "telemetry to a server that never answers",
            "open",
            f"{len(stuck)} thread",
            "let go",
            f"stages took {seconds:.1f} s",
            problem,
        )
    ]


# -- lancedb ---------------------------------------------------------------------------------------------------------


def lance_connections(python: str, folder: Path, release: str) -> list[Cells]:
    """Return the rows of all ways into lancedb."""
    text, _ = ran([python, os.fspath(PROGRAMS / "lance_connections.py"), os.fspath(folder / "connections")], folder)
    lines = [json.loads(line) for line in text.splitlines()]
    found: list[Cells] = []
    early = release.startswith("0.14")
    for line in lines[:-1]:
        name, how = line["constructor"], line["how"]
        # To let go of a synchronous connection is the only way to end it; the asynchronous one has a close().
        wanted = int(how == "left open" or (how == "dropped" and name == "connect_async"))
        if early and name in {"connect", "remote"} and how == "closed":
            how = "let go of"
        problem = line.get("error", "") or ("" if line["found"] == wanted else f"found {line['found']} of {wanted}")
        action = (
            "by the program"
            if not wanted
            else "with the process"
            if how == "dropped" or (early and name != "connect_async")
            else "by leakagent"
        )
        found.append((name, how, f"{line.get('found')} of {wanted}", action, "its native runtime", problem))
    last = lines[-1]
    problem = f"threads {last['threads']}" if last["threads"] else ""
    loop = "no loop in this release" if early else "thread ended, loop closed"
    found.append(("lancedb.background_loop.LOOP", "running", f"{last['found']} connections", loop, "its native runtime", problem))
    return found


# -- llama-index -----------------------------------------------------------------------------------------------------


def llama_answers(python: str, folder: Path, release: str) -> list[Cells]:
    """Return the row of streamed answers."""
    command = [python, os.fspath(PROGRAMS / "llama_answers.py")]
    text, report = ran(command, folder)
    bare, _ = ran(command, folder, agent=False)
    found = sorted((one["reason"], one["site"]["file"].rpartition("/")[2]) for one in report["findings"])
    lost = (
        [("lost_task", "simple.py")] if release.startswith("0.12") else [("lost_task", "context.py"), ("lost_task", "simple.py")]
    )
    failed = (
        [("unretrieved_exception", "context.py"), ("unretrieved_exception", "simple.py")] if release.startswith("0.12") else []
    )
    problems = [
        f"found {found}" if not set(lost) <= set(found) or not set(found) <= {*lost, *failed} else "",
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
    text, _ = ran(
        [python, os.fspath(PROGRAMS / "streamlit_sessions.py"), python, os.fspath(folder / "sessions")], folder, agent=False
    )
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [
        (line["constructor"], line["left"], line["found"], line["closed"], line["remains"], line["problem"]) for line in found
    ]


ROWS: dict[str, list[Callable[[str, Path, str], list[Cells]]]] = {
    "chromadb": [chroma_clients, end_of("chroma_end.py"), telemetry],
    "lancedb": [lance_connections, end_of("lance_end.py")],
    "llama-index-core": [llama_answers],
    "streamlit": [streamlit_sessions],
}
