"""What tests of the live socket share: programs that run under the agent, and asking them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from leakagent.live import client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Running:
    """A program that runs under the agent in a runtime folder of its own."""

    def __init__(self, process: subprocess.Popen[str], runtime: Path, until: Callable[..., None]) -> None:
        """Keep it."""
        self.process = process
        self.runtime = runtime
        self.until = until

    @property
    def pid(self) -> int:
        """Its pid."""
        return self.process.pid

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        """Let it read a line."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def sockets(self, pid: int = 0) -> list[Path]:
        """Return its sockets, or those of one of its children."""
        return sorted((self.runtime / "leakagent").glob(f"live-{pid or self.pid}-*.sock"))

    def socket(self, pid: int = 0) -> Path:
        """Wait for its socket."""
        self.until(lambda: self.sockets(pid), "it has a socket")
        return self.sockets(pid)[0]

    def ask(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a command of leakagent in its runtime folder."""
        command = [sys.executable, "-m", "leakagent", *map(str, words)]
        variables = {**os.environ, "XDG_RUNTIME_DIR": str(self.runtime)}
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)

    def json(self, *words: object) -> Any:
        """Run a command and return its JSON output."""
        ran = self.ask(*words)
        assert ran.returncode == 0, ran
        return json.loads(ran.stdout)

    def asked(self, word: str) -> Any:
        """Ask it something, without a process of its own for each question."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", str(self.runtime))
            return client.ask(self.pid, word, 120)

    def why(self) -> dict[str, Any]:
        """Ask what keeps it alive."""
        return dict(self.asked("why"))

    def end(self) -> tuple[int, str]:
        """Wait until it has ended; return its status and what it said on stderr."""
        _, stderr = self.process.communicate(timeout=120)
        return self.process.returncode, stderr


@pytest.fixture
def running(
    program: Callable[..., Path], environment: Callable[..., dict[str, str]], tmp_path: Path, until: Callable[..., None]
) -> Iterator[Callable[..., Running]]:
    """Start a program's text under the agent; whatever is left of it is killed in the end."""
    started: list[Running] = []
    runtime = tmp_path / "runtime"
    runtime.mkdir()

    def start(
        text: str, *, options: tuple[str, ...] = (), switches: tuple[str, ...] = (), arguments: tuple[str, ...] = ()
    ) -> Running:
        words = ["--budget", "3600", *options, program(text, f"app{len(started)}.py"), *arguments]
        process = subprocess.Popen(
            [sys.executable, *switches, "-m", "leakagent", *words],
            env=environment({"XDG_RUNTIME_DIR": str(runtime)}),
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A job in the background of a shell has Ctrl+C ignored, and so have its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one thread
        )
        started.append(Running(process, runtime, until))
        return started[-1]

    yield start
    for one in started:
        with suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)
        one.process.communicate()
