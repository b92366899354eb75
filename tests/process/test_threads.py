"""Threads that serve are waited for as Python does, however long it takes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVER = """\
import socket, threading

listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)

def serve():
    connection, _ = listener.accept()
    connection.sendall(b"hello")
    connection.recv(1)
    print("stopped from outside", flush=True)

threading.Thread(target=serve).start()
"""


def test_server_thread_is_told_to_stop_from_outside(program: Callable[..., Path], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    path = program(SERVER)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LEAKAGENT", "_LEAKAGENT", "PYTHON"))}
    command = [sys.executable, "-m", "leakagent", "--budget", "1", "--report", f"json:{report}", str(path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=kept, start_new_session=True
    )
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    try:
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            assert client.recv(5) == b"hello"
            # Three times the budget: what is shown is that nothing happens in this time.
            time.sleep(3)
            assert process.poll() is None
            client.sendall(b"x")
        stdout, stderr = process.communicate(timeout=60)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    assert (process.returncode, stdout, stderr) == (0, "stopped from outside\n", "")
    assert json.loads(report.read_text())["findings"] == []


def test_daemon_threads_are_not_told(told: Callable[..., Any]) -> None:
    text = """\
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("end")
"""
    after = told(text, env={"LEAKAGENT_BUDGET": "1"})
    after.clean()
    assert after.lines == ["end"]


def test_many_threads_come_and_go(told: Callable[..., Any]) -> None:
    text = """\
import threading
from leakagent import agent
for _ in range(2_000):
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
print(len(agent.current().registry) < 1_000)
"""
    after = told(text)
    after.clean()
    assert after.lines == ["True"]


def test_start_is_untouched(told: Callable[..., Any]) -> None:
    text = """\
import inspect, threading
class Mine(threading.Thread):
    def run(self):
        print("run")
thread = Mine()
thread.start()
thread.join()
print(inspect.signature(threading.Thread.start), threading.Thread.start.__qualname__)
try:
    thread.start()
except RuntimeError as error:
    print(error)
"""
    after = told(text)
    after.clean()
    assert after.lines == ["run", "(self)", "threads can only be started once"] or after.lines[1].startswith("(self)"), after


WRITES = """\
import threading
def write(path, mode):
    with open(path, mode) as file:
        file.write("half")
        begun.release()
        threading.Event().wait()
def write_whole(path):
    with open(path, "w") as file:
        file.write("whole")
    begun.release()
    threading.Event().wait()
def start(daemon=True, *arguments, target=write):
    threading.Thread(target=target, args=arguments, daemon=daemon).start()
    begun.acquire()
begun = threading.Semaphore(0)
"""


@pytest.mark.parametrize("mode", ["w", "wb", "x", "w+", "r+"])
def test_a_daemon_thread_that_is_cut_off_while_it_writes(mode: str, told: Callable[..., Any]) -> None:
    text = WRITES.replace('"half"', '"half".encode()' if "b" in mode else '"half"')
    text += "open('out', 'w').close()\n" if mode == "r+" else ""
    after = told(text + f"def job():\n    start(True, 'out', {mode!r})  # made\njob()\nprint(open('out').read())\n")
    found = after.only("outlived_scope", "thread")
    assert found["site"]["function"] == "start", found
    assert "had out open for writing" in found["evidence"][0], found
    assert after.lines == [""], after
    assert after.ran.returncode == 0


@pytest.mark.parametrize("job", ["'out', 'a'", "'out', target=write_whole", "'out', 'w', target=lambda *_: begun.release()"])
def test_daemon_threads_that_lose_nothing_are_not_told(job: str, told: Callable[..., Any]) -> None:
    told(WRITES + f"start(True, {job})\n").clean()
