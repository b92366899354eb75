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

#: Batches after a Ctrl+C that show that the program has not noticed: then it is pressed again, as people do.
GOES_ON = 3

#: What chromadb up to 0.6 prints when it has caught everything that came up in the middle of writing a batch, a KeyboardInterrupt as well
#: (``db/mixins/embeddings_queue.py``, ``_notify_one``): the program goes on, and the batch is acknowledged though rows of it are not there.
CAUGHT = "Exception occurred invoking consumer"


def killed(program: str, signals: tuple[signal.Signals, ...] = SIGNALS) -> Callable[[str, Path, str], list[Cells]]:
    """Return what kills a program that writes, and looks at what it has written.

    Args:
        program: One of ``programs/*_writes.py``: prints the number of rows after each batch; with ``read ROWS`` it prints how many rows there are,
            how many different ones, how many a batch has, and how many of the first ROWS are missing.
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
        while self.process.poll() is None and time.monotonic() < end:
            seen = len(self.acknowledged())
            self.process.send_signal(signum)
            self._wait_for_end_or(seen + GOES_ON if signum == signal.SIGINT else None, end)
        status = self.process.poll()
        self.process.kill()
        self.process.wait()
        rows = int(self.acknowledged()[-1])
        # lancedb up to 0.40 can abort at the end, when everything was read and printed.
        text, _ = ran(self.python, self.program, "read", str(rows), folder=self.folder, agent=False, status=None)
        count, different, batch, missing = map(int, text.split() or (0, 0, 0, rows))
        # One batch may have been written and not acknowledged.
        lost = missing > self.caught() * batch or count != different or count > rows + batch
        return joined(
            f"{self.folder.name}: {rows} rows acknowledged, {missing} missing, {count} found, {different} different"
            if lost
            else "",
            # Bare, an early lancedb can abort when Ctrl+C comes.
            f"{self.folder.name}: ended with {status}: {self.errors()}" if self.is_under_agent and status != -signum else "",
        )

    def _wait_for_end_or(self, acknowledged: int | None, end: float) -> None:
        while time.monotonic() < end and (acknowledged is None or len(self.acknowledged()) < acknowledged):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
                return

    def caught(self) -> int:
        """Return how often the library itself has caught what should have ended the program."""
        return (self.folder / "err").read_text(encoding="utf-8", errors="replace").count(CAUGHT)

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
    there = "every acknowledged row, as bare"
    if bare.caught() or under.caught():
        there += "; chromadb, not leakagent, catches Ctrl+C in the middle of a batch, goes on and acknowledges it in part"
    if signum == signal.SIGKILL:
        return "writing", signum.name, "nobody is left to tell", "by nobody", there, joined(*problems)
    told = json.loads(under.report.read_text(encoding="utf-8"))["findings"]
    actions = [one["action"] for one in told if one["reason"] == "not_closed"]
    problems += [f"told {told}"] if len(told) != 1 or actions not in (["closed"], ["none"]) else []
    closed = "by leakagent" if actions == ["closed"] else "let go: it has no close()"
    return "writing", signum.name, f"{len(told)} of 1", closed, there, joined(*problems)
