"""Stuck or at work?  Only complete silence of all threads counts, and it needs two looks."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from leakagent.shutdown import stuck
from leakagent.shutdown.stuck import Watch

#: Runs with a second thread that does something, and says whether the process was ever, and always, called silent.
PROGRAM = """\
import socket, subprocess, sys, threading, time
from leakagent.shutdown.stuck import Watch
import os
held, _ = os.pipe()
never = threading.Lock()
never.acquire()
started = threading.Event()
def thread():
    started.set()
    {work}
threading.Thread(target=thread, daemon=True).start()
started.wait()
watch = Watch()
deadline = time.monotonic() + {seconds}
silent = False
while not silent and time.monotonic() < deadline:
    time.sleep(0.02)
    silent = watch.silent()
print(silent)
"""

WORKS = {
    "sleep": "time.sleep(600)",
    "select": "import select; select.select([], [], [], 600)",
    "accept": "s = socket.create_server(('127.0.0.1', 0)); s.accept()",
    "recv": "pair = socket.socketpair(); pair[0].recv(1)",
    "read": "import os; os.read(os.pipe()[0], 1)",
    "computing": "[None for _ in iter(lambda: 0, 1)]",
    "a child": "subprocess.run([sys.executable, '-c', 'input()'], stdin=held, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)",
}


def look(work: str, seconds: float) -> str:
    code = PROGRAM.format(work=work, seconds=seconds)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout.strip()


@pytest.mark.parametrize("name", WORKS)
def test_a_thread_that_works_is_never_called_stuck(name: str) -> None:
    assert look(WORKS[name], 0.3) == "False"


@pytest.mark.parametrize("work", ["never.acquire()", "threading.Event().wait()", "import queue; queue.Queue().get()"])
def test_a_thread_that_waits_for_a_lock_is_seen(work: str) -> None:
    assert look(work, 60) == "True"


def test_the_first_look_proves_nothing() -> None:
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    try:
        assert not Watch().silent()
    finally:
        event.set()
        thread.join()


def test_where_the_kernel_does_not_tell_nothing_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    watch.futex = None
    assert [watch.silent(), watch.silent()] == [False, False]
    watch = Watch()
    monkeypatch.setattr(stuck.os, "listdir", _refuse)
    assert [watch.silent(), watch.silent()] == [False, False]
    monkeypatch.undo()
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    try:
        watch = Watch()
        monkeypatch.setattr(stuck, "read", lambda _path: "")
        assert [watch.silent(), watch.silent()] == [False, False]
    finally:
        event.set()
        thread.join()


def _refuse(_path: str) -> list[str]:
    raise PermissionError
