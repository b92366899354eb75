"""What tests of bad conditions share: a program that uses everything, bare and under the agent, in the same conditions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

CONDITIONS = Path(__file__).with_name("conditions.py")
_NOT_ALLOWED = 77


class Both:
    """What a program left bare, and under the agent."""

    def __init__(self, bare: Any, ran: Any, report: Path) -> None:
        """Keep it."""
        self.bare = bare
        self.ran = ran
        self.report: dict[str, Any] = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}

    def __repr__(self) -> str:
        """Show everything: this is what a failed assertion prints."""
        return f"bare {self.bare!r}\nunder the agent {self.ran!r}\nreport {json.dumps(self.report, indent=1)}"

    @property
    def told(self) -> list[tuple[str, str, int]]:
        """Reason, kind and count of each finding."""
        return sorted((one["reason"], one["kind"], one["count"]) for one in self.report["findings"])

    def same(self) -> None:
        """Assert that the program has not noticed: its output and status are the bare one's, and no traceback is the agent's."""
        assert (self.ran.stdout, self.ran.returncode) == (self.bare.stdout, self.bare.returncode), self
        assert self.ran.stderr.count("Traceback") == self.bare.stderr.count("Traceback"), self


@pytest.fixture
def both(run: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> Callable[..., Both]:
    """Run a program's text bare and under the agent, in the conditions of `conditions.py`."""

    def run_both(
        text: str, *conditions: str, options: tuple[str, ...] = (), env: dict[str, str] | None = None, report: str = ""
    ) -> Both:
        app = program(text)
        path = tmp_path / "report.json"
        runtime = tmp_path / "runtime"
        runtime.mkdir(mode=0o700, exist_ok=True)
        env = {"XDG_RUNTIME_DIR": os.fspath(runtime), **(env or {})}
        front = [sys.executable, CONDITIONS, *conditions, "--"] if conditions else []
        bare = run([*front, sys.executable, app], env=env, cwd=tmp_path, timeout=600.0)
        if bare.returncode == _NOT_ALLOWED:
            pytest.skip(f"this system does not allow it: {bare.stderr.strip()}")
        agent = ["-m", "leakagent", "--report", report or f"json:{path}", *options]
        return Both(bare, run([*front, sys.executable, *agent, app], env=env, cwd=tmp_path, timeout=600.0), path)

    return run_both


@pytest.fixture
def spawn_in(spawn: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start this interpreter in a condition and a session of its own."""

    def start(condition: str, *arguments: object) -> subprocess.Popen[str]:
        variables = {"XDG_RUNTIME_DIR": os.fspath(tmp_path)}
        return spawn(CONDITIONS, condition, "--", sys.executable, *arguments, variables=variables)

    return start
