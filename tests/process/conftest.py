"""What tests of programs under the agent share: running one, and reading what it was told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


class Told:
    """A program that has ended under the agent, and its JSON report."""

    def __init__(self, ran: Any, report: dict[str, Any], text: str) -> None:
        """Keep what it left; ``text`` is the program's own text."""
        self.ran = ran
        self.report = report
        self.text = text

    def __repr__(self) -> str:
        """Show everything: this is what a failed assertion prints."""
        return f"{self.ran!r}\n--- report\n{json.dumps(self.report, indent=1)}"

    @property
    def lines(self) -> list[str]:
        """The lines of its standard output."""
        return list(self.ran.stdout.splitlines())

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The findings of the report."""
        return list(self.report["findings"])

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """The receipt, by stage."""
        return {stage["stage"]: stage for stage in self.report["receipt"]}

    def line(self, marker: str) -> int:
        """Return the number of the only line that ends with ``# marker``."""
        found = [number for number, line in enumerate(self.text.splitlines(), 1) if line.endswith(f"# {marker}")]
        assert len(found) == 1, (marker, found)
        return found[0]

    def only(self, reason: str, kind: str = "") -> dict[str, Any]:
        """Return the one finding with this reason (and kind)."""
        found = [one for one in self.findings if one["reason"] == reason and kind in {"", one["kind"]}]
        assert len(found) == 1, (reason, kind, self)
        return found[0]

    def clean(self, status: int = 0) -> None:
        """Assert that nothing was found, nothing of the agent broke, and the status is the program's own."""
        assert self.report["findings"] == [], self
        assert self.report["agent"]["disabled"] == [], self
        assert self.ran.returncode == status, self


@pytest.fixture
def told(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> Callable[..., Told]:
    """Run a program's text under ``python -m leakagent`` and return what it was told."""

    def run_told(
        text: str, *arguments: str, options: tuple[str, ...] = (), env: dict[str, str] | None = None, **more: object
    ) -> Told:
        path, report = program(text), tmp_path / "report.json"
        ran = python("-m", "leakagent", "--report", f"text,json:{report}", *options, path, *arguments, env=env, **more)
        assert report.exists(), ran
        return Told(ran, json.loads(report.read_text(encoding="utf-8")), text)

    return run_told


def _sleeps(pid: int) -> bool:
    """Say whether the main thread has not run between two looks: it is where it stays."""
    looks = []
    for _ in range(2):
        time.sleep(0.02)
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        looks.append([line for line in lines if line.startswith(("State", "voluntary"))])
    return looks[0] == looks[1] and "R (running)" not in looks[0][0]


@pytest.fixture
def interrupted(
    spawn: Callable[..., subprocess.Popen[str]], until: Callable[..., None]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Start this interpreter, press Ctrl+C when it has printed its first line and sleeps, and return how it ended."""

    def run_interrupted(
        arguments: list[Any], *, group: bool = False, signum: int = signal.SIGINT, variables: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        process = spawn(*arguments, variables=variables)
        assert process.stdout is not None
        first = process.stdout.readline()
        until(lambda: _sleeps(process.pid), "the program sleeps")
        (os.killpg if group else os.kill)(process.pid, signum)
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, first + stdout, stderr)

    return run_interrupted


class Started:
    """A program under the agent that is sent signals when it says so."""

    def __init__(self, process: subprocess.Popen[str], report: Path) -> None:
        """Keep the process, and where its report will be."""
        self.process = process
        self.path = report
        self.lines: list[str] = []
        self.errors = ""
        self.sent = False

    def until(self, line: str) -> None:
        """Read the program's output up to this line."""
        assert self.process.stdout is not None
        while line not in self.lines:
            # Past the stream's buffer: what it has read ahead would be missing in `communicate`.
            read = b""
            while not read.endswith(b"\n"):
                byte = os.read(self.process.stdout.fileno(), 1)
                assert byte, (self.lines, line, read, self.process.communicate())
                read += byte
            self.lines.append(read.decode().rstrip("\n"))

    def send(self, *signals: int) -> None:
        """Send signals; the first one when the program sleeps, or after a second if it never does.

        A signal that comes after the interpreter's last look and before the system call is handled when that returns.
        """
        end = time.monotonic() + 1
        while not self.sent and not _sleeps(self.process.pid) and time.monotonic() < end:
            time.sleep(0.005)
        self.sent = True
        for number in signals:
            self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the end and return the status."""
        stdout, self.errors = self.process.communicate(timeout=120)
        self.lines += stdout.splitlines()
        return self.process.returncode

    @property
    def report(self) -> dict[str, Any]:
        """The JSON report."""
        return dict(json.loads(self.path.read_text(encoding="utf-8")))


@pytest.fixture
def started(spawn: Callable[..., subprocess.Popen[str]], program: Callable[..., Path], tmp_path: Path) -> Callable[..., Started]:
    """Start a program's text under the agent."""

    def start(text: str, *arguments: str, **variables: str) -> Started:
        report = tmp_path / "report.json"
        options = ("-u", "-m", "leakagent", "--report", f"text,json:{report}")
        return Started(spawn(*options, program(text), *arguments, variables=variables), report)

    return start
