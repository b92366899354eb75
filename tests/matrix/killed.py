"""Rows about programs that a signal ends in the middle of their writing: every acknowledged row is there, bare and under the agent."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from running import DEADLINE, Cells, ProgramError, command, environment, joined, ran

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

#: Batches that have been acknowledged when the signal comes.
ENOUGH = 10

#: Seconds after which the signal is sent again: chromadb up to 0.6 loses a Ctrl+C now and then, bare as well, and people press it again.
AGAIN = 60


def killed(program: str, signals: tuple[signal.Signals, ...] = SIGNALS) -> Callable[[str, Path, str], list[Cells]]:
    """Return what kills a program that writes, and looks at what it has written.

    Args:
        program: One of ``programs/*_writes.py``: prints the number of rows after each batch; with ``read`` it prints how many rows there are, how
            many different ones, and how many a batch has.
        signals: What ends it, each in turn.

    """

    def writers_killed(python: str, folder: Path, _release: str) -> list[Cells]:
        return [_row(python, program, folder, signum) for signum in signals]

    return writers_killed


class _Writer:
    """The program that writes; what it prints goes to files, which lose nothing."""

    def __init__(self, python: str, program: str, folder: Path, *, agent: bool) -> None:
        folder.mkdir()
        self.program, self.python, self.folder = program, python, folder
        self.report = folder / "report.json"
        self.is_under_agent = agent
        words = command(python, program, report=self.report if agent else None)
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            self.process = subprocess.Popen(words, cwd=folder, env=environment(), stdout=out, stderr=err)

    def acknowledged(self) -> list[str]:
        """Return what it has printed: the number of rows after each batch."""
        return (self.folder / "out").read_text(encoding="utf-8").split()

    def works(self) -> bool:
        """Say whether it is in the middle of its work."""
        return len(self.acknowledged()) >= ENOUGH

    def end(self, signum: int) -> str:
        """End it; returns what is wrong."""
        end = time.monotonic() + DEADLINE
        status = None
        while status is None and time.monotonic() < end:
            self.process.send_signal(signum)
            with suppress(subprocess.TimeoutExpired):
                status = self.process.wait(AGAIN)
        rows = int(self.acknowledged()[-1])
        # lancedb up to 0.40 can abort at the end, when everything was read and printed.
        text, _ = ran(self.python, self.program, "read", folder=self.folder, agent=False, status=None)
        count, different, batch = map(int, text.split() or (0, 0, 0))
        # One batch may have been written and not acknowledged.
        lost = (count, different) not in {(rows, rows), (rows + batch, rows + batch)}
        return joined(
            f"{self.folder.name}: {rows} rows acknowledged, {count} found, {different} different" if lost else "",
            # Bare, an early lancedb can abort when Ctrl+C comes.
            f"{self.folder.name}: ended with {status}: {self.errors()}" if self.is_under_agent and status != -signum else "",
        )

    def errors(self) -> str:
        """Return the end of its stderr."""
        return " ".join((self.folder / "err").read_text(encoding="utf-8", errors="replace")[-300:].split())


def _row(python: str, program: str, folder: Path, signum: signal.Signals) -> Cells:
    bare = _Writer(python, program, folder / f"{program}-{signum.name}-bare", agent=False)
    under = _Writer(python, program, folder / f"{program}-{signum.name}-agent", agent=True)
    try:
        end = time.monotonic() + DEADLINE
        while not (bare.works() and under.works()):
            if time.monotonic() > end or bare.process.poll() is not None or under.process.poll() is not None:
                message = f"the writers did not come to work: {bare.errors()} {under.errors()}"
                raise ProgramError(message)
            time.sleep(0.02)
        problems = [bare.end(signum), under.end(signum)]
    finally:
        for writer in (bare, under):
            writer.process.kill()
            writer.process.wait()
    if signum == signal.SIGKILL:
        return "writing", signum.name, "nobody is left to tell", "by nobody", "every acknowledged row, as bare", joined(*problems)
    told = json.loads(under.report.read_text(encoding="utf-8"))["findings"]
    actions = [one["action"] for one in told if one["reason"] == "not_closed"]
    problems += [f"told {told}"] if len(told) != 1 or actions not in (["closed"], ["none"]) else []
    closed = "by leakagent" if actions == ["closed"] else "let go: it has no close()"
    return "writing", signum.name, f"{len(told)} of 1", closed, "every acknowledged row, as bare", joined(*problems)
