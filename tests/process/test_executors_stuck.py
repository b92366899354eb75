"""Stuck workers and threads do not keep the process; working ones are waited for as Python does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

QUICK = {"LEAKAGENT_BUDGET": "2"}

HEAD = """\
import atexit, sys, threading
from concurrent.futures import ThreadPoolExecutor
atexit.register(print, "exit handler")
"""
STUCK = {
    "worker": """
def job():
    threading.Event().wait()  # stuck
pool = ThreadPoolExecutor(1)  # made
pool.submit(job)
""",
    "worker_with_queue": """
def job():
    threading.Event().wait()  # stuck
pool = ThreadPoolExecutor(1)  # made
for _ in range(5):
    pool.submit(job)
""",
    "worker_after_shutdown": """
def job():
    threading.Event().wait()  # stuck
pool = ThreadPoolExecutor(1)  # made
pool.submit(job)
pool.shutdown(wait=False, cancel_futures=True)
""",
    "thread": """
def job():
    threading.Event().wait()  # stuck
thread = threading.Thread(target=job, name="the stuck one")
thread.start()  # made
""",
    "lock": """
lock = threading.Lock()
lock.acquire()
def job():
    lock.acquire()  # stuck
thread = threading.Thread(target=job)
thread.start()  # made
""",
    "queue": """
import queue
def job():
    queue.Queue().get()  # stuck
thread = threading.Thread(target=job)
thread.start()  # made
""",
}


@pytest.mark.parametrize("last", ["", "sys.exit(7)", "raise KeyError('mine')"])
@pytest.mark.parametrize("name", STUCK)
def test_stuck_ends_by_itself_with_its_status(name: str, last: str, told: Callable[..., Any]) -> None:
    after = told(HEAD + STUCK[name] + last, env=QUICK)
    assert after.lines == ["exit handler"], after
    assert after.ran.returncode == {"sys.exit(7)": 7, "raise KeyError('mine')": 1}.get(last, 0), after
    found = after.only("blocks_exit")
    assert found["action"] == "released", after
    assert found["kind"] == ("thread_pool" if name.startswith("worker") else "thread"), after
    assert found["site"]["line"] == after.line("made"), after
    assert any(f"app.py:{after.line('stuck')} job" in text for text in found["evidence"]), after


def test_two_stuck_threads_are_both_named(told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
def one():
    threading.Event().wait()
def two():
    threading.Event().wait()
threading.Thread(target=one, name="one").start()
threading.Thread(target=two, name="two").start()
"""
    )
    after = told(text, env=QUICK)
    found = [one for one in after.findings if one["reason"] == "blocks_exit"]
    assert sorted(name for one in found for name in one["names"]) == ["one", "two"], after


def test_two_stuck_threads_of_one_pool(told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
pool = ThreadPoolExecutor(3)  # made
for _ in range(3):
    pool.submit(threading.Event().wait)
"""
    )
    after = told(text, env=QUICK)
    assert after.only("blocks_exit", "thread_pool")["site"]["line"] == after.line("made")
    assert after.ran.returncode == 0
    assert after.stages["executors"]["forced"] == 3, after


WORKING = {
    "sleeping_loop": """
def job():
    for _ in range(35):
        time.sleep(0.1)
    print("done by itself")
""",
    "computing": """
def job():
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        sum(range(10_000))
    print("done by itself")
""",
    "one_long_sleep": """
def job():
    time.sleep(3.5)
    print("done by itself")
""",
    "waiting_for_a_worker_that_sleeps": """
def job():
    event = threading.Event()
    threading.Timer(3.5, event.set).start()
    event.wait()
    print("done by itself")
""",
    "child": """
def job():
    subprocess.run([sys.executable, "-c", "import time; time.sleep(3.5)"])
    print("done by itself")
""",
}


@pytest.mark.parametrize("how", ["thread", "pool"])
@pytest.mark.parametrize("name", WORKING)
def test_working_thread_is_not_cut_off(name: str, how: str, told: Callable[..., Any]) -> None:
    start = "ThreadPoolExecutor(1).submit(job)" if how == "pool" else "threading.Thread(target=job).start()"
    text = HEAD + "import subprocess, time\n" + WORKING[name] + start + "\n"
    after = told(text, env={"LEAKAGENT_BUDGET": "1"})
    assert after.lines == ["done by itself", "exit handler"], after
    assert after.ran.returncode == 0
    assert [one for one in after.findings if one["reason"] == "blocks_exit"] == [], after
