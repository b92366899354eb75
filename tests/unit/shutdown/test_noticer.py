"""The descriptor by which signals are noticed: which number it has, and that it is nobody else's."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import pytest

from leakagent.shutdown import noticer as module
from leakagent.shutdown.noticer import Noticer


@pytest.fixture(name="noticer")
def noticer_fixture() -> Noticer:
    made = Noticer()
    made.is_ours = lambda number: number == signal.SIGTERM
    return made


def wakeup() -> int:
    """Return the descriptor in force, which is left as it is."""
    found = signal.set_wakeup_fd(-1)
    if found != -1:
        signal.set_wakeup_fd(found)
    return found


def test_it_takes_the_highest_numbers_and_gives_them_back(noticer: Noticer) -> None:
    assert wakeup() == -1
    noticer.offer(5)
    noticer.needed()
    try:
        taken = wakeup()
        limit = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1024)
        assert limit - 10 < taken < limit
        assert not os.get_inheritable(taken)
    finally:
        noticer.end()
    assert wakeup() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(taken)


def test_the_table_of_descriptors_is_long_enough_before_there_are_threads() -> None:
    code = """if True:
        from leakagent.shutdown.noticer import Noticer

        def size():
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("FDSize"))

        noticer = Noticer()
        noticer.offer(5)
        before = size()
        noticer.needed()
        assert before == size() >= 256, (before, size())
        noticer.end()
        """
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_who_has_it_keeps_it(noticer: Noticer) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    before = len(os.listdir("/proc/self/fd"))
    try:
        noticer.offer(5)
        noticer.needed()
        assert wakeup() == writing
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        signal.set_wakeup_fd(-1)
        noticer.end()
        os.close(reading)
        os.close(writing)


def test_without_descriptors_nothing_is_taken(noticer: Noticer, monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(module.os, "pipe", pipe)
    noticer.offer(5)
    noticer.needed()
    assert wakeup() == -1
    noticer.end()


def test_pretended_windows_has_none(noticer: Noticer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "name", "nt")
    noticer.offer(5)
    noticer.needed()
    assert wakeup() == -1
