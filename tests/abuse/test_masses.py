"""Masses at the end, forks in threads, a clock that jumps: it ends as the bare program does, and the counts are right."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

THREADS = """\
import sys, threading
threading.stack_size(64 << 10)
go = threading.Event()
threads = [threading.Thread(target=go.wait) for _ in range(2_000)]
for thread in threads: thread.start()
print(threading.active_count())
# They end when Python already waits for them.
threading.Timer(0.3, go.set).start()
sys.exit(7)
"""


def test_two_thousand_threads_at_the_end(both: Callable[..., Any]) -> None:
    found = both(THREADS)
    found.same()
    assert (found.bare.returncode, found.bare.stdout) == (7, "2001\n"), found
    assert found.report["totals"]["thread"]["created"] == 2_001, found
    assert found.report["agent"]["disabled"] == [], found
    # All of one line are one finding.
    assert [one["count"] for one in found.report["findings"] if one["kind"] == "thread"][0:1] in ([], [2_000]), found


STUCK = """\
import sys, threading, time
threading.stack_size(64 << 10)
for _ in range(300):
    threading.Thread(target=threading.Event().wait).start()
print(threading.active_count())
sys.stdout.flush()
sys.exit(7)
"""


def test_three_hundred_stuck_threads_do_not_keep_it(
    python: Callable[..., Any], program: Callable[..., Any], tmp_path: Path
) -> None:
    ran = python("-m", "leakagent", "--report", "json:report.json", "--budget", "6", program(STUCK))
    assert (ran.returncode, ran.stdout) == (7, "301\n"), ran
    (found,) = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["findings"]
    assert (found["reason"], found["kind"], found["count"], found["action"]) == ("blocks_exit", "thread", 300, "released"), found


TASKS = """\
import asyncio, sys
async def wait():
    try:
        await asyncio.sleep(3600)
    finally:
        ended.append(1)
async def main():
    global kept
    kept = [asyncio.create_task(wait()) for _ in range(int(sys.argv[1]))]  # tasks
    await asyncio.sleep(0)
ended = []
asyncio.run(main())
print(len(ended), all(task.cancelled() for task in kept))
sys.exit(7)
"""


def test_a_hundred_thousand_tasks_at_the_end(both: Callable[..., Any]) -> None:
    # All of them in one interpreter, a tenth in the others.
    number = 100_000 if sys.version_info[:2] == (3, 13) else 10_000
    found = both(TASKS.replace("int(sys.argv[1])", str(number)), options=("--grace", "100", "--budget", "200"))
    found.same()
    assert found.bare.stdout == f"{number} True\n", found
    assert found.told == [("outlived_scope", "asyncio.task", number)], found
    assert found.report["agent"]["disabled"] == [], found


FORKS = """\
import asyncio, os, sys, threading, time, warnings
from concurrent.futures import ThreadPoolExecutor
warnings.simplefilter("ignore")

def fork(number):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            # The child is a program of its own: it has one thread, and makes what it likes.
            with ThreadPoolExecutor(1) as pool:
                status = pool.submit(int, number).result() % 100 + 100
            assert asyncio.run(part(3)) == 3
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

async def part(number):
    await asyncio.sleep(0)
    return number

def forks(first):
    for number in range(first, first + 12):
        if fork(number) != number + 100:
            bad.append(number)

def work():
    while not done.is_set():
        asyncio.run(part(1))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(int).result()

bad, done = [], threading.Event()
workers = [threading.Thread(target=work) for _ in range(2)]
threads = [threading.Thread(target=forks, args=(first,)) for first in (0, 20, 40)]
for thread in workers + threads: thread.start()
for thread in threads: thread.join()
done.set()
for thread in workers: thread.join()
print(bad)
left = ThreadPoolExecutor(1)
left.submit(int).result()
sys.exit(7)
"""


def test_forks_in_threads_beside_others_at_work(both: Callable[..., Any]) -> None:
    found = both(FORKS)
    found.same()
    assert (found.ran.returncode, found.ran.stdout, found.ran.stderr) == (7, "[]\n", ""), found
    assert found.told == [("not_shut_down", "thread_pool", 1)], found
    assert found.report["agent"]["disabled"] == [], found


#: Stands for a clock that somebody sets: no process may set that of the machine.
CLOCK = """\
import itertools, time
original, jumps = time.time, itertools.cycle([0, 86400.0, -86400.0, 3e9, -1.5e9])
time.time = lambda: original() + next(jumps)
import asyncio, subprocess, sys, threading
from concurrent.futures import ThreadPoolExecutor

async def main():
    global kept
    kept = asyncio.create_task(asyncio.sleep(3600))
    print(await asyncio.wait_for(asyncio.sleep(0.01, 5), 10))

asyncio.run(main())
pool = ThreadPoolExecutor(1)
print(pool.submit(pow, 2, 3).result())
child = subprocess.Popen([sys.executable, "-S", "-c", ""])
print(child.wait())
time.sleep(0.5)
sys.exit(7)
"""


@pytest.mark.parametrize("when", ["before the agent", "after it"])
def test_a_clock_that_jumps(when: str, both: Callable[..., Any], program: Callable[..., Any], tmp_path: Path) -> None:
    env = {}
    if when == "before the agent":
        program(CLOCK.partition("import asyncio")[0], "site/usercustomize.py")
        program("import usercustomize", "site/sitecustomize.py")
        env = {"PYTHONPATH": str(tmp_path / "site")}
    found = both(CLOCK, env=env)
    found.same()
    assert found.bare.stdout == "5\n8\n0\n", found
    assert found.told == [("not_shut_down", "thread_pool", 1), ("outlived_scope", "asyncio.task", 1)], found
    report = found.report
    assert report["agent"]["disabled"] == [], found
    # How old something is, and how long something took, is measured by a clock that does not jump.
    assert all(0 <= one["oldest_age_s"] < 3600 for one in report["findings"]), found
    assert all(0 <= one["seconds"] < 3600 for one in report["receipt"]), found
    for moment in (report["started"], report["ended"], *(sample["at"] for sample in report.get("timeline", ()))):
        datetime.fromisoformat(moment.replace("Z", "+00:00"))
