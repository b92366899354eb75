"""The last resort: ends the process with its own status when the clean-up does not end, and only then."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """\
import os, sys, threading
from leakagent.shutdown import watchdog
class End:
    def what(self):
        return {what!r}
    def last_words(self):
        os.write(1, b"last words\\n")
        {last}
    def forced(self):
        os._exit({status})
{before}
dog = watchdog.Watchdog(End())
dog.arm({seconds})
dog.arm({seconds})
print("armed")
{after}
"""
HANG = "threading.Event().wait()"


def run(
    after: str, *, status: int = 0, seconds: float = 0.05, before: str = "", what: str = "the end", last: str = "pass"
) -> subprocess.CompletedProcess[str]:
    code = PROGRAM.format(after=after, status=status, seconds=seconds, before=before, what=what, last=last)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("status", [0, 7])
def test_it_ends_what_hangs(status: int) -> None:
    ran = run(HANG, status=status)
    assert (ran.returncode, sorted(ran.stdout.splitlines())) == (status, ["armed", "last words"])
    assert ran.stderr.startswith("leakagent: the end took longer than 0.05 s and is cut off here:\n")
    assert "most recent call first" in ran.stderr


@pytest.mark.parametrize("last", ["raise KeyError", "threading.Event().wait()", "sys.exit(9)"])
def test_last_words_that_fail_or_hang(last: str) -> None:
    ran = run(HANG, status=3, last=last)
    assert (ran.returncode, sorted(ran.stdout.splitlines())) == (3, ["armed", "last words"]), ran


def test_a_child_shows_nothing() -> None:
    ran = run(HANG, status=3, what="")
    assert (ran.returncode, ran.stderr) == (3, "")


def test_called_off_it_does_nothing() -> None:
    ran = run("dog.disarm()\ndog.disarm()\nimport time\ntime.sleep(0.5)\nsys.exit(3)")
    assert (ran.returncode, ran.stdout, ran.stderr) == (3, "armed\n", "")


def test_armed_again_after_it_was_called_off() -> None:
    ran = run("dog.disarm()\ndog.arm(0.05)\n" + HANG, status=5, seconds=600)
    assert (ran.returncode, sorted(ran.stdout.splitlines())) == (5, ["armed", "last words"])


NO_THREADS = """
def refuse(*args):
    raise RuntimeError("can't create new thread at interpreter shutdown")
watchdog._thread = type("Module", (), {"start_new_thread": refuse, "allocate_lock": watchdog._thread.allocate_lock})
"""


def test_where_no_thread_can_be_started_the_fault_handler_watches() -> None:
    ran = run(HANG, before=NO_THREADS)
    assert (ran.returncode, "most recent call first" in ran.stderr) == (1, True), ran
    ran = run("dog.disarm()\nimport time\ntime.sleep(0.5)", before=NO_THREADS)
    assert (ran.returncode, ran.stderr) == (0, "")


NOTICER = """
from leakagent.shutdown.noticer import noticer
noticer.is_ours = lambda number: False
noticer.offer(5)
noticer.needed()
"""


def test_where_no_thread_can_be_started_a_running_one_watches() -> None:
    ran = run(HANG, before=NOTICER + NO_THREADS, status=4)
    assert (ran.returncode, sorted(ran.stdout.splitlines())) == (4, ["armed", "last words"]), ran
    assert ran.stderr.startswith("leakagent: the end took longer than 0.05 s and is cut off here:\n")
    # Called off, it reads signals again, and can be borrowed again.
    off = "dog.disarm()\nwhile noticer._errand is not None: pass\n"
    ran = run(off + "dog.arm(0.05)\n" + HANG, before=NOTICER + NO_THREADS, status=5, seconds=600)
    assert (ran.returncode, sorted(ran.stdout.splitlines())) == (5, ["armed", "last words"]), ran
    gone = "noticer.end()\nwhile len(os.listdir('/proc/self/task')) > 1: pass\nprint('gone')"
    ran = run(off + gone, before=NOTICER + NO_THREADS, seconds=600)
    assert (ran.returncode, ran.stdout) == (0, "armed\ngone\n"), ran


def test_last_words_that_hang_where_no_thread_can_be_started() -> None:
    all_of_them = NO_THREADS + "import _thread\n_thread.start_new_thread = refuse\n"
    ran = run(HANG, before=NOTICER + all_of_them, last=HANG, status=4)
    assert (ran.returncode, sorted(ran.stdout.splitlines())) == (1, ["armed", "last words"]), ran


@pytest.mark.parametrize("gone", ["sys.stderr.close()", "import os\nos.close(2)", "sys.stderr = sys.__stderr__ = None"])
def test_without_an_error_output(gone: str) -> None:
    assert run(HANG, before=gone, status=4).returncode == 4
