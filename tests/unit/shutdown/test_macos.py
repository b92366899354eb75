"""What is written for macOS and can't be run here: no `/proc` and no pidfd, but kqueue.  Each test's name says that it pretends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from leakagent.processes import parent_watch
from leakagent.processes.parent_watch import ParentWatch
from leakagent.shutdown.stuck import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Event:
    """As `select.kevent`."""

    ident: int
    filter: int
    flags: int = 0
    fflags: int = 0


class Queue:
    """As `select.kqueue`, as far as it is used: on Linux's own means."""

    made: list[Queue]

    def __init__(self) -> None:
        self.poll = select.poll()
        self.events: dict[int, Event] = {}
        self.opened: list[int] = []
        self.waits = threading.Event()
        self.closed = False
        Queue.made.append(self)

    def control(self, changes: list[Event] | None, most: int) -> list[Event]:
        for change in changes or []:
            descriptor = change.ident
            if change.filter == -5:
                descriptor = os.pidfd_open(change.ident)  # ESRCH where it is gone, as kevent(2) answers
                self.opened.append(descriptor)
            self.events[descriptor] = change
            self.poll.register(descriptor, select.POLLIN)
        if not most:
            return []
        self.waits.set()
        return [self.events[descriptor] for descriptor, _ in self.poll.poll()]

    def close(self) -> None:
        self.closed = True
        for descriptor in self.opened:
            os.close(descriptor)


@pytest.fixture(name="macos")
def macos_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend."""
    Queue.made = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "eventfd", raising=False)  # so that no pidfd is used
    for name, value in {"KQ_FILTER_PROC": -5, "KQ_FILTER_READ": -1, "KQ_EV_ADD": 1, "KQ_NOTE_EXIT": 1 << 31}.items():
        monkeypatch.setattr(select, name, value, raising=False)
    monkeypatch.setattr(select, "kqueue", Queue, raising=False)
    monkeypatch.setattr(select, "kevent", Event, raising=False)


@pytest.fixture(name="starter")
def starter_fixture() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.fixture(name="watch")
def watch_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ParentWatch, threading.Event]]:
    """A watch whose end of the process is an event."""
    signals: Any = None
    watch, ended = ParentWatch(signals, 1, lambda: None), threading.Event()
    monkeypatch.setattr(watch, "_end", ended.set)
    monkeypatch.setattr(parent_watch.interpreter, "take_spare_signal", lambda _handler: 0)
    yield watch, ended
    assert all(queue.closed for queue in Queue.made)


def queue_that_waits(number: int) -> Queue:
    deadline = time.monotonic() + 60
    while len(Queue.made) <= number:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert Queue.made[number].waits.wait(60)
    return Queue.made[number]


@pytest.mark.usefixtures("macos")
def test_pretended_macos_a_child_ends_with_its_starter(
    starter: subprocess.Popen[bytes], watch: tuple[ParentWatch, threading.Event]
) -> None:
    watch[0].start(starter.pid)
    queue_that_waits(0)
    assert not watch[1].is_set()
    starter.kill()
    assert watch[1].wait(60)
    assert watch[0]._pipe == ()


@pytest.mark.usefixtures("macos")
def test_pretended_macos_a_starter_that_is_gone_already(
    starter: subprocess.Popen[bytes], watch: tuple[ParentWatch, threading.Event]
) -> None:
    starter.kill()
    starter.wait()
    watch[0].start(starter.pid)
    assert watch[1].wait(60)


@pytest.mark.usefixtures("macos")
def test_pretended_macos_the_thread_ends_before_a_fork_and_starts_again(
    starter: subprocess.Popen[bytes], watch: tuple[ParentWatch, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent_watch.interpreter, "FORK_COUNTS_THREADS", True)
    monkeypatch.setattr(parent_watch, "_COUNTS_AFTER_HOOKS", False)
    watch[0].start(starter.pid)
    first = queue_that_waits(0)
    watch[0].before_fork()
    assert first.closed
    assert not watch[0]._runs
    watch[0].after_fork()
    queue_that_waits(1)
    starter.kill()
    assert watch[1].wait(60)


@pytest.mark.usefixtures("macos")
def test_pretended_macos_nothing_is_called_stuck() -> None:
    never = threading.Event()
    thread = threading.Thread(target=never.wait, daemon=True)
    thread.start()
    watch = Watch()
    try:
        assert not any(watch.silent() for _ in range(5))
    finally:
        watch.close()
        never.set()
        thread.join()


PROGRAM = """\
import atexit, sys, threading
sys.platform = "darwin"
import leakagent
leakagent.install(report="text", budget=20, grace=0.5)
atexit.register(print, "exit handler", flush=True)
threading.Thread(target=threading.Event().wait, name="never").start()
print("ready", flush=True)
while True: threading.Event().wait(0.05)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_pretended_macos_a_signal_ends_the_program(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"]},
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(number)
        output, errors = running.communicate(timeout=120)
    assert (running.returncode, output) == (-number, "exit handler\n"), errors
    assert "1 x thread " in errors
    assert "cut off here" not in errors
