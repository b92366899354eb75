"""A signal while the main thread is in C code; and the descriptor by which it is noticed, which programs may want themselves."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Started

#: Hours of work without the interpreter's lock.
IN_C = """\
import atexit, hashlib, signal, threading
atexit.register(print, "exit handler")
{more}
print("ready")
hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


ALARMS = "signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)"


@pytest.mark.parametrize(
    ("number", "more"),
    [(signal.SIGTERM, ""), (signal.SIGHUP, ""), (signal.SIGTERM, ALARMS)],
    ids=["SIGTERM", "SIGHUP", "among others"],
)
def test_it_ends_when_the_budget_is_over(number: int, more: str, started: Callable[..., Started]) -> None:
    running = started(IN_C.format(more=more), LEAKAGENT_BUDGET="0.3")
    running.until("ready")
    running.send(number)
    assert running.end() == -number, running.errors
    assert running.lines == ["ready"]
    name = signal.Signals(number).name
    assert f"leakagent: the end after {name} took longer than 0.3 s and is cut off here:" in running.errors
    assert 'app.py", line 5' in running.errors


def test_the_second_signal_ends_it_at_once(started: Callable[..., Started]) -> None:
    running = started(IN_C.format(more=""), LEAKAGENT_BUDGET="3600")
    running.until("ready")
    running.send(signal.SIGTERM, signal.SIGTERM)
    # Two of them may come as one.
    while running.process.poll() is None:
        running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM, running.errors
    assert (running.lines, running.errors) == (["ready"], "")


def test_what_is_left_is_told(started: Callable[..., Started]) -> None:
    more = "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)\npool.submit(int).result()"
    running = started(IN_C.format(more=more), LEAKAGENT_BUDGET="0.3")
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM, running.errors
    assert [(one["reason"], one["kind"]) for one in running.report["findings"]] == [("not_shut_down", "thread_pool")]
    assert running.report["exit"] == {"status": None, "signal": signal.SIGTERM}


def test_a_handler_of_the_programs_own_is_waited_for(started: Callable[..., Started]) -> None:
    text = IN_C.format(more='signal.signal(signal.SIGTERM, lambda *_: print("own"))').replace("2**31 - 1", "6_000_000")
    running = started(text, LEAKAGENT_BUDGET="0.1")
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == 0, running.errors
    assert running.lines == ["ready", "own", "exit handler"]
    assert running.errors == ""


THREADS = 'import os\ndef threads(): return len(os.listdir("/proc/self/task"))\n'


@pytest.mark.parametrize(
    ("code", "threads"),
    [
        ("", 1),
        ("import hashlib", 2),
        ("import sqlite3", 2),
        # The third one takes the samples of a JSON report's timeline.
        ("import threading\nthreading.Thread(target=int).start()", 3),
        ("import hashlib, leakagent\nleakagent.uninstall()", 1),
    ],
)
def test_a_thread_only_where_there_is_something_to_notice(code: str, threads: int, told: Callable[..., Any]) -> None:
    wait = "import time\nend = time.monotonic() + 60\n"
    wait += f"while threads() != {threads} and time.monotonic() < end: time.sleep(0.001)\n"
    after = told_lines(told, f"{THREADS}{code}\n{wait}print(threads())")
    assert after == [str(threads)]


def told_lines(told: Callable[..., Any], text: str) -> list[str]:
    report = "" if "uninstall" not in text else "import leakagent\nleakagent.install(report='json:report.json')\n"
    after = told(text + "\n" + report, options=("--live", "0"))
    assert after.ran.returncode == 0, after
    assert after.ran.stderr == "", after
    return list(after.lines)


WAKEUP = """\
import hashlib, os, signal
def at_work():
    return signal.set_wakeup_fd.__wrapped__(-1)
"""


def test_the_descriptor_seems_to_be_free(told: Callable[..., Any]) -> None:
    # What trio does before and after each run.
    text = f"""\
{WAKEUP}
import warnings
reading, writing = os.pipe()
os.set_blocking(writing, False)
print(signal.set_wakeup_fd(writing, warn_on_full_buffer=False))
signal.signal(signal.SIGUSR1, lambda *_: None)
os.kill(os.getpid(), signal.SIGUSR1)
print(os.read(reading, 9) == bytes([signal.SIGUSR1]))
print(signal.set_wakeup_fd(-1) == writing)
print(signal.set_wakeup_fd(-1))
try:
    signal.set_wakeup_fd(12345)
except (ValueError, OSError) as error:
    print(type(error).__name__)
print(at_work() > 3)
"""
    after = told(text)
    assert after.lines == ["-1", "True", "True", "-1", "OSError", "True"], after
    after.clean()
    assert after.ran.stderr == ""


def test_who_was_first_keeps_it(told: Callable[..., Any]) -> None:
    text = """\
import os, signal
reading, writing = os.pipe()
os.set_blocking(writing, False)
signal.set_wakeup_fd(writing)
import hashlib
print(signal.set_wakeup_fd(-1) == writing)
"""
    after = told(text)
    assert after.lines == ["True"], after
    after.clean()


@pytest.mark.filterwarnings("ignore")
def test_a_forked_child_has_none(told: Callable[..., Any]) -> None:
    text = f"""\
{WAKEUP}
import warnings
warnings.simplefilter("error")
pid = os.fork()
if not pid:
    os._exit(at_work() + 1)
print(os.waitpid(pid, 0)[1], at_work() > 3)
"""
    after = told(text)
    assert after.lines == ["0 True"], after
    after.clean()
    assert after.ran.stderr == ""


def test_a_program_that_closes_all_descriptors(started: Callable[..., Started]) -> None:
    text = """\
import atexit, hashlib, os, signal, time
atexit.register(print, "exit handler")
os.closerange(3, 4096)
files = [open(f"file{number}", "w") for number in range(50)]
print("ready")
while True: time.sleep(0.05)
"""
    running = started(text)
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM, running.errors
    assert running.lines == ["ready", "exit handler"]
    # Python says so itself; nothing else is lost.
    assert running.errors.splitlines()[0].startswith("Exception ignored"), running.errors
    assert "leakagent:" not in running.errors
    folder = running.path.parent
    assert {(folder / f"file{number}").read_bytes() for number in range(50)} == {b""}
