"""What tests of real interpreters share: running a program with a clean environment, waiting for a condition, and servers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# Tests run against the installed wheel, never against the checkout beside them: `python -m` puts that in front, and pytest imports
# the next conftest.py before it calls the first hook of this one.
_ROOT = os.path.realpath(Path(__file__).parent.parent)
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or os.curdir) != _ROOT]

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


@pytest.fixture(name="environment", scope="session")
def environment_fixture() -> Callable[..., dict[str, str]]:
    """Return an environment without anything that changes Python or the agent: see `clean_environment`."""
    return clean_environment


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., None]:
    """Wait until a condition is true: see `wait_until`."""
    return wait_until


class Server:
    """A server that was started, and what it printed when it has ended."""

    def __init__(self, command: Sequence[str], url: str, env: Mapping[str, str], folder: Path) -> None:
        """Start it; its output and its report go to its folder."""
        self.url = url
        self.folder = folder
        with (folder / "log").open("w", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                command,
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return (self.folder / "log").read_text(encoding="utf-8")

    def get(self, path: str = "") -> str:
        """Return what it answers, empty if it does not."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return str(answer.read().decode()) if answer.status == 200 else ""
        except (urllib.error.URLError, OSError):
            return ""

    @property
    def _address(self) -> tuple[str, int]:
        parts = urllib.parse.urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def open(self, path: str = "") -> socket.socket:
        """Send a request and return the connection, on which nobody has read."""
        client = socket.create_connection(self._address, timeout=60)
        client.sendall(f"GET /{path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        return client

    def answers(self) -> bool:
        """Say whether it answers; fail if it has ended."""
        assert self.process.poll() is None, self.log
        return bool(self.get())

    def accepts(self) -> bool:
        """Say whether it still accepts connections."""
        try:
            socket.create_connection(self._address, timeout=5).close()
        except OSError:
            return False
        return True

    def end_by(self, signum: int) -> int:
        """Send it a signal and return its status."""
        self.process.send_signal(signum)
        return self.ended()

    def ended(self) -> int:
        """Wait until it has ended and return its status."""
        try:
            return self.process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            pytest.fail("did not end:\n" + self.log)

    @property
    def report(self) -> dict[str, Any]:
        """The JSON report of the agent."""
        path = self.folder / "report.json"
        assert path.exists(), self.log
        return dict(json.loads(path.read_text(encoding="utf-8")))


@pytest.fixture
def port() -> int:
    """Return a port of the loopback interface that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server with or without the agent, wait until it answers, and kill what is left of it after the test."""
    started: list[Server] = []

    def start(
        command: Sequence[str],
        url: str,
        *,
        agent: bool = False,
        files: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Server:
        folder = tmp_path / f"server{len(started)}"
        folder.mkdir()
        for name, text in (files or {}).items():
            (folder / name).write_text(text, encoding="utf-8")
        # Some servers write into the home folder, or send a greeting over the network.
        variables = {"HOME": os.fspath(folder), "ANONYMIZED_TELEMETRY": "False", **(env or {})}
        if agent:
            variables |= {"LEAKAGENT": "1", "LEAKAGENT_REPORT": "text,json:report.json"}
        server = Server(command, url, clean_environment(variables), folder)
        started.append(server)
        wait_until(server.answers, f"{url} answers")
        return server

    yield start
    for server in started:
        # Its children as well, if it has left any.
        with suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


# -- a program that is signalled while it runs ----------------------------------------------------------------------


@pytest.fixture
def spawn(environment: Callable[..., dict[str, str]], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start this interpreter in a session of its own; whatever is left of that is killed in the end."""
    running: list[subprocess.Popen[str]] = []

    def run(*arguments: object, variables: dict[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**environment(), **(variables or {})},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


# -- pytest run by a test --------------------------------------------------------------------------------------------

#: Only leakagent's own plugin, and nothing from outside.
_ALONE = {"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

TESTS_HEAD = """\
import asyncio, multiprocessing, subprocess, sys, threading, time, unittest
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import pytest

kept = []
gate = threading.Event()

async def background():
    await asyncio.sleep(600)

def wait():
    gate.wait(600)
"""


class Outcome:
    """What pytest said of a file of tests."""

    def __init__(self, ran: Any, folder: Path, text: str) -> None:
        """Read its reports."""
        self.ran = ran
        self.text = text
        cases = ET.parse(folder / "junit.xml").getroot().iter("testcase")
        self.cases = [(str(case.get("name")), case) for case in cases]
        report = folder / "report.json"
        self.findings = json.loads(report.read_text(encoding="utf-8"))["findings"] if report.exists() else []

    def __repr__(self) -> str:
        """Show everything: this is what a failed assertion prints."""
        return repr(self.ran)

    def of(self, outcome: str) -> list[str]:
        """Return the names of the tests that have failed, or had errors."""
        return [name for name, case in self.cases if case.find(outcome) is not None]

    def message(self, name: str) -> str:
        """Return what was said of a failed test."""
        found = next(case for known, case in self.cases if known == name).find("failure")
        assert found is not None, self
        return f"{found.get('message')}\n{found.text}"


@pytest.fixture(name="outcome")
def outcome_fixture(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> Callable[..., Outcome]:
    """Run a file of tests with ``--leakagent``."""

    def run(text: str, *options: str, env: dict[str, str] | None = None) -> Outcome:
        path = program(TESTS_HEAD + text, "test_it.py")
        variables = {"LEAKAGENT_REPORT": "json:report.json", **_ALONE, **(env or {})}
        words = (
            "-m",
            "pytest",
            "-q",
            "-p",
            "leakagent.pytest_plugin",
            "-o",
            "leakagent_grace=0.1",
            "--junit-xml=junit.xml",
            "--leakagent",
        )
        ran = python(*words, *options, path.name, env=variables)
        assert (tmp_path / "junit.xml").exists(), ran
        return Outcome(ran, tmp_path, TESTS_HEAD + text)

    return run
