"""The agent's own thread: only where there is something to look at, seen by nobody, no part of a fork."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

THREADS = """\
import os, sys, time

def threads(wanted):
    end = time.monotonic() + 60
    while len(os.listdir("/proc/self/task")) != wanted and time.monotonic() < end:
        time.sleep(0.001)
    return len(os.listdir("/proc/self/task"))
"""


@pytest.mark.parametrize(
    ("code", "threads"),
    [
        ("import asyncio, threading, concurrent.futures.thread", 1),
        ("import asyncio\nloop = asyncio.new_event_loop()\nloop.close()", 4),
        ("import asyncio\nasyncio.run(asyncio.sleep(0))", 4),
        ("from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor()", 4),
        ("import asyncio\nasyncio.run(asyncio.sleep(0))\nfrom leakagent.watcher import watcher\nwatcher.end()", 3),
    ],
)
def test_a_thread_only_where_there_is_something_to_look_at(told: Callable[..., Any], code: str, threads: int) -> None:
    text = f"{THREADS}{code}\nprint(threads({threads}))\nimport threading\nprint(threading.active_count())\n"
    # The live socket has a thread of its own; those of `leakagent.shutdown.noticer` and, because a JSON report is written,
    # `leakagent.samples` are there under the same conditions.
    after = told(text, options=("--live", "0"))
    assert after.lines == [str(threads), "1"], after


FORKS = f"""\
import asyncio, gc, warnings
{THREADS}
warnings.simplefilter("error")

def fork():
    child = os.fork()
    if not child:
        os._exit(threads(1) - 1)
    return os.waitpid(child, 0)[1]

async def main():
    statuses = []
    for _ in range(20):
        statuses.append(fork())
        asyncio.new_event_loop().close()  # the thread is there again
    print(statuses == [0] * 20)
    fork()
    print(threads(5 if sys.version_info < (3, 12) else 1))
    gc.collect()
    print(threads(5))  # this one, the live socket's, and those of `leakagent.shutdown.noticer` and `leakagent.samples`

asyncio.run(main())
"""


def test_a_fork_neither_warns_nor_copies_it(told: Callable[..., Any]) -> None:
    after = told(FORKS)
    # Up to 3.11 a fork does not count threads, and they stay.
    assert after.lines == ["True", "5" if sys.version_info < (3, 12) else "1", "5"], after
    after.clean()


def test_a_fork_waits_for_a_look(told: Callable[..., Any]) -> None:
    """What a look holds is not copied; and a look that forks does not wait for itself."""
    text = f"""\
import asyncio
{THREADS}
from leakagent.watcher import watcher
looking, statuses, own = [], [], []

def fork():
    child = os.fork()
    if not child: os._exit(len(looking))
    return os.waitpid(child, 0)[1]

def takes_time():
    looking.append(1)
    time.sleep(0.005)
    looking.clear()

def forks():
    if not own: own.append(fork())

watcher.look_every(0.001, takes_time)
end = time.monotonic() + 60
while len(statuses) < 5 and time.monotonic() < end:
    asyncio.new_event_loop().close()  # the thread is there again, if it was ended
    while not looking and time.monotonic() < end: time.sleep(0.0002)
    statuses.append(fork())
watcher.look_every(0.001, forks)
asyncio.new_event_loop().close()
while not own and time.monotonic() < end: time.sleep(0.001)
print(statuses, own)
"""
    after = told(text)
    assert after.lines == ["[0, 0, 0, 0, 0] [0]"], after
    after.clean()


def test_a_fork_in_the_first_moment_of_the_thread(told: Callable[..., Any]) -> None:
    """The thread has been asked for and has not run yet: it is waited for all the same."""
    text = f"""\
import asyncio, sys
{FORKS.partition("async def")[0]}
sys.setswitchinterval(1000)
for _ in range(50):
    asyncio.new_event_loop().close()
    fork()
print("forked")
"""
    after = told(text)
    assert after.lines == ["forked"], after
    after.clean()


def test_a_forked_child_is_watched_anew(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    text = f"""\
import asyncio
{THREADS}
asyncio.new_event_loop().close()
child = os.fork()
if not child:
    before = threads(1)
    asyncio.new_event_loop().close()
    print(before, threads(3), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    ran = python("-m", "leakagent", program(text))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "1 3\n", "")


def test_an_error_in_a_look_is_told_once_and_ends_it(told: Callable[..., Any]) -> None:
    text = f"""\
import asyncio
{THREADS}
from leakagent.watcher import watcher
asyncio.new_event_loop().close()
def broken():
    raise ValueError("broken")
watcher.looks.insert(0, broken)
print(threads(3))
"""
    after = told(text, options=("--stalled-after", "0.5", "--live", "0"))
    assert after.lines == ["3"], after
    assert list(after.report["agent"]["disabled"]) == ["watcher: ValueError: broken"], after
    assert after.ran.stderr.count("watcher switched off") == 1
    assert after.ran.returncode == 0


PACES = """\
import asyncio, time
from leakagent.watcher import watcher
asyncio.new_event_loop().close()
common, own = [], []
watcher.looks.insert(0, lambda: common.append(1))
watcher.look_every(0.05, lambda: own.append(1))
watcher.look_every(60, print)
watcher.stop()
watcher.needed()
end = time.monotonic() + 60
while len(own) < 10 and time.monotonic() < end:
    time.sleep(0.01)
print(len(own) >= 10, len(common) <= 2)
"""


def test_a_look_has_a_pace_of_its_own(told: Callable[..., Any]) -> None:
    # The others go on at theirs, a quarter of the threshold.
    after = told(PACES, options=("--stalled-after", "1000", "--live", "0"))
    assert after.lines == ["", "True True"], after


def test_stuck_workers_are_still_recognised(told: Callable[..., Any]) -> None:
    """The thread wakes up four times a second; it is no sign of life of the program's."""
    text = """\
import threading
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(threading.Event().wait)
"""
    after = told(text, options=("--stalled-after", "0.5", "--budget", "2"))
    assert after.ran.returncode == 0
    assert after.only("blocks_exit")["kind"] == "thread_pool"
