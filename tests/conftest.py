"""What tests of real interpreters share: running a program with a clean environment, and waiting for a condition."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Seconds for one program; generous, since machines can be ten times slower.
DEADLINE = 120.0

_DROPPED = ("LEAKAGENT", "_LEAKAGENT", "OTEL_", "PYTHON", "COVERAGE")


class Ran:
    """A program that has ended."""

    def __init__(self, returncode: int, stdout: str, stderr: str, seconds: float) -> None:
        """Keep what it left."""
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr
        self.seconds = seconds

    def __repr__(self) -> str:
        """Show everything: this is what a failed assertion prints."""
        return f"<status {self.returncode}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}>"


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment without anything that changes Python, the agent or telemetry, plus ``extra``."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_DROPPED)}
    return {**kept, **(extra or {})}


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    text: str = "",
    timeout: float = DEADLINE,
) -> Ran:
    """Run a command to its end.

    Args:
        command: Program and arguments.
        env: Variables added to a clean environment.
        cwd: Working folder.
        text: Its standard input.
        timeout: Seconds after which its process group is killed and the test fails.

    """
    begin = time.monotonic()
    process = subprocess.Popen(
        [os.fspath(word) for word in command],
        env=clean_environment(env),
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(text, timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        pytest.fail(f"{command} did not end in {timeout} s\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    return Ran(process.returncode, stdout, stderr, time.monotonic() - begin)


def wait_until(condition: Callable[[], object], what: str, deadline: float = DEADLINE) -> None:
    """Wait until ``condition()`` is true, looking every 10 ms; fail with ``what`` after ``deadline`` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"did not happen in {deadline} s: {what}")
        time.sleep(0.01)


@pytest.fixture(name="run")
def run_fixture() -> Callable[..., Ran]:
    """Run a command: see `run`."""
    return run


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., Ran]:
    """Run this interpreter with some arguments, in a folder of the test's own."""

    def run_python(*arguments: str | os.PathLike[str], **options: object) -> Ran:
        options.setdefault("cwd", tmp_path)
        return run([sys.executable, *arguments], **options)  # type: ignore[arg-type]

    return run_python


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Path]:
    """Write a program's text into the test's own folder and return its path."""

    def write(text: str, name: str = "app.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def pytest_configure() -> None:
    """Tests run against the installed wheel, never against the checkout beside them."""
    root = os.fspath(Path(__file__).parent.parent)
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or os.curdir) != os.path.realpath(root)]


@pytest.fixture(name="environment")
def environment_fixture() -> Callable[..., dict[str, str]]:
    """Return an environment without anything that changes Python or the agent: see `clean_environment`."""
    return clean_environment


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., None]:
    """Wait until a condition is true: see `wait_until`."""
    return wait_until
