"""Servers under the agent: they start, answer and end as without it, and what a request left is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

STREAMLIT = """\
import streamlit
streamlit.write("hello")
"""

FASTAPI = """\
import asyncio
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def root():
    asyncio.create_task(asyncio.sleep(3600))  # leak
    return {}
"""


class Server:
    """A server that was started, and what it printed when it has ended."""

    def __init__(self, command: list[str], url: str, env: Mapping[str, str], cwd: Path) -> None:
        self.url = url
        self.log = cwd / "log"
        with self.log.open("w", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
        try:
            with urllib.request.urlopen(self.url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def end_by(self, signum: int) -> tuple[int, str]:
        self.process.send_signal(signum)
        try:
            status = self.process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            pytest.fail("did not end:\n" + self.log.read_text(encoding="utf-8"))
        return status, self.log.read_text(encoding="utf-8")


@pytest.fixture
def port() -> int:
    """Return a port of the loopback interface that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def serve(
    tmp_path: Path, environment: Callable[..., dict[str, str]], until: Callable[..., None]
) -> Iterator[Callable[..., Server]]:
    """Start a server, wait until it answers, and kill what is left of it after the test."""
    started: list[Server] = []

    def start(command: list[str], url: str, variables: Mapping[str, str]) -> Server:
        server = Server([sys.executable, "-m", *command], url, environment(variables), tmp_path)
        started.append(server)
        until(server.answers, f"{url} answers")
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()


@pytest.mark.parametrize("agent", ["0", "1"])
def test_streamlit_ends_on_ctrl_c(serve: Callable[..., Server], program: Callable[..., Path], port: int, agent: str) -> None:
    # Its file watcher submits itself to a pool again and again: waiting for that pool before it is told to end never ends.
    app = program(STREAMLIT)
    options = [
        "--server.headless=true",
        f"--server.port={port}",
        "--server.address=127.0.0.1",
        "--browser.gatherUsageStats=false",
    ]
    server = serve(["streamlit", "run", str(app), *options], f"http://127.0.0.1:{port}/_stcore/health", {"LEAKAGENT": agent})
    status, printed = server.end_by(signal.SIGINT)
    assert status == 0, printed
    assert printed.rstrip().endswith("Stopping..."), printed


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_uvicorn_tells_the_task_of_a_request(
    serve: Callable[..., Server], program: Callable[..., Path], port: int, loop: str
) -> None:
    program(FASTAPI)
    command = ["uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(port), "--loop", loop]
    server = serve(command, f"http://127.0.0.1:{port}/", {"LEAKAGENT": "1"})
    status, printed = server.end_by(signal.SIGINT)
    assert status == 0, printed
    assert "still alive when the scope that made it ended" in printed, printed
    assert "app.py:9 root" in printed, printed
