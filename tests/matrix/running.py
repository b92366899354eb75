"""What all rows of the support table share: the row itself, running a program bare and under the agent, and a server beside it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS = Path(__file__).parent / "programs"

#: Seconds for one program, on a machine that is ten times slower than usual.
DEADLINE = 300

#: What stands in a row after library and release: constructor, left, found, closed, remains, problem.
Cells = tuple[str, ...]


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


class ProgramError(Exception):
    """A program did not end as it should."""


def joined(*problems: str) -> str:
    """Return those problems that there are."""
    return "; ".join(filter(None, problems))


def environment() -> dict[str, str]:
    """Return an environment without anything that changes Python or the agent."""
    dropped = ("LEAKAGENT", "_LEAKAGENT", "OTEL_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONWARNINGS": "ignore", "ANONYMIZED_TELEMETRY": "True", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def command(python: str, program: str, *arguments: str, report: Path | None = None, kinds: str = "") -> list[str]:
    """Return what runs a program of `PROGRAMS`: under the agent if there is a report to write, of more ``kinds`` too, else bare."""
    front = ["-m", "leakagent", "--live", "0", "--report", f"{kinds}json:{report}"] if report else []
    return [python, *front, os.fspath(PROGRAMS / program), *arguments]


def ran(
    python: str,
    program: str,
    *arguments: str,
    folder: Path,
    agent: bool = True,
    status: int | None = 0,
    report_kinds: str = "",
) -> tuple[str, dict[str, Any]]:
    """Run a program to its end.

    Args:
        python: The interpreter.
        program: Its name in `PROGRAMS`.
        arguments: Its arguments.
        folder: Where it runs.
        agent: Run it under the agent, not bare.
        status: What it has to end with; None for any.
        report_kinds: Reports besides the one that is returned, each with a comma: ``"text,"`` has it tell while it runs as well.

    Returns:
        What it printed, and the agent's report (empty without the agent).

    Raises:
        ProgramError: It ended with another status.

    """
    report = folder / "report.json"
    if agent:
        report.unlink(missing_ok=True)
    done = subprocess.run(
        command(python, program, *arguments, report=report if agent else None, kinds=report_kinds),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    if status is not None and done.returncode != status:
        message = f"status {done.returncode} in place of {status}: {done.stderr.strip()[-400:]}"
        raise ProgramError(message)
    return done.stdout, json.loads(report.read_text(encoding="utf-8")) if agent else {}


def free_port() -> int:
    """Return a port of the loopback interface that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def served(words: list[str], folder: Path, answers: Callable[[], bool]) -> Iterator[None]:
    """Run a server beside the block, which begins when the server answers."""
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, cwd=folder, env=environment(), stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        end = time.monotonic() + DEADLINE
        while not answers():
            if time.monotonic() > end or process.poll() is not None:
                message = f"the server did not start: {log.read_text(errors='replace')[-300:]}"
                raise ProgramError(message)
            time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def accepts(port: int) -> bool:
    """Say whether somebody accepts connections there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
