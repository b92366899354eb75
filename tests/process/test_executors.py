"""Pools: those that were never shut down are told and lose no job; those that are used properly are not told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


def test_alive_at_the_end(told: Callable[..., Any]) -> None:
    text = """\
from concurrent.futures import ThreadPoolExecutor

def start():
    return ThreadPoolExecutor(2, thread_name_prefix="ingest")  # made

pool = start()
print(pool.submit(pow, 2, 3).result())
"""
    after = told(text)
    found = after.only("not_shut_down", "thread_pool")
    assert after.lines == ["8"]
    assert (found["site"]["line"], found["site"]["function"]) == (after.line("made"), "start")
    assert found["names"] == ["ingest"]
    assert after.ran.returncode == 0
    assert len(after.findings) == 1, after


def test_dropped_without_shutdown(told: Callable[..., Any]) -> None:
    text = """\
from concurrent.futures import ThreadPoolExecutor

def use():
    pool = ThreadPoolExecutor(2)  # made
    return pool.submit(pow, 2, 3).result()

print(use())
"""
    after = told(text)
    found = after.only("not_shut_down", "thread_pool")
    assert found["site"]["line"] == after.line("made")
    assert "dropped without shutdown()" in found["evidence"]


QUEUED = """\
import atexit, sys, threading, time
from concurrent.futures import ThreadPoolExecutor

done = []
def job(number):
    time.sleep(0.05)
    done.append(number)

atexit.register(lambda: print("jobs done", len(done)))
pool = ThreadPoolExecutor(2)  # made
for number in range(20):
    pool.submit(job, number)
{last}
"""


@pytest.mark.parametrize("last", ["", "del pool", "sys.exit(7)", "raise KeyError('mine')"])
def test_queued_work_is_drained(last: str, told: Callable[..., Any]) -> None:
    after = told(QUEUED.format(last=last))
    assert after.lines == ["jobs done 20"], after
    assert after.ran.returncode == {"sys.exit(7)": 7, "raise KeyError('mine')": 1}.get(last, 0)
    found = after.only("not_shut_down", "thread_pool")
    assert found["site"]["line"] == after.line("made")
    if last != "del pool":
        assert found["action"] == "drained", after
        assert any("queued" in text for text in found["evidence"]), after
    assert len(after.findings) == 1, after


def test_budget_does_not_cut_queued_work(told: Callable[..., Any]) -> None:
    after = told(QUEUED.format(last=""), env={"LEAKAGENT_BUDGET": "0.2", "LEAKAGENT_GRACE": "0.1"})
    assert after.lines == ["jobs done 20"], after
    assert after.ran.returncode == 0


PROPER = {
    "with": "with ThreadPoolExecutor(2) as pool:\n    print(pool.submit(pow, 2, 3).result())",
    "shutdown": "pool = ThreadPoolExecutor(2)\nprint(pool.submit(pow, 2, 3).result())\npool.shutdown()",
    "no_wait": "pool = ThreadPoolExecutor(2)\nprint(pool.submit(pow, 2, 3).result())\npool.shutdown(wait=False)",
    "atexit": "pool = ThreadPoolExecutor(2)\natexit.register(pool.shutdown)\nprint(pool.submit(pow, 2, 3).result())",
    "default_executor": """
async def main():
    print(await asyncio.get_running_loop().run_in_executor(None, pow, 2, 3))
asyncio.run(main())""",
    "to_thread": """
async def main():
    print(await asyncio.to_thread(pow, 2, 3))
asyncio.run(main())""",
    "processes": """
if __name__ == "__main__":
    with ProcessPoolExecutor(1) as pool:
        print(pool.submit(pow, 2, 3).result())""",
    "pool": """
if __name__ == "__main__":
    with multiprocessing.Pool(1) as pool:
        print(pool.apply(pow, (2, 3)))""",
    "pool_closed": """
if __name__ == "__main__":
    pool = multiprocessing.Pool(1)
    print(pool.apply(pow, (2, 3)))
    pool.close()
    pool.join()""",
    "thread_pool_of_multiprocessing": """
with multiprocessing.pool.ThreadPool(1) as pool:
    print(pool.apply(pow, (2, 3)))""",
    "subclass": """
class Mine(ThreadPoolExecutor):
    def __init__(self):
        super().__init__(2)
    def shutdown(self, *args, **kwargs):
        super().shutdown(*args, **kwargs)
with Mine() as pool:
    print(pool.submit(pow, 2, 3).result())""",
}
IMPORTS = "import asyncio, atexit, multiprocessing, multiprocessing.pool\nfrom concurrent.futures import *\n"


@pytest.mark.parametrize("name", PROPER)
def test_proper_use_is_not_told(name: str, told: Callable[..., Any]) -> None:
    after = told(IMPORTS + PROPER[name])
    assert after.lines == ["8"], after
    after.clean()
    assert after.ran.stderr == ""


LEFT = {
    "subclass": (
        "thread_pool",
        """
class Mine(ThreadPoolExecutor):
    def __init__(self):
        super().__init__(2)
def start():
    return Mine()  # made
pool = start()
print(pool.submit(pow, 2, 3).result())""",
    ),
    "processes": (
        "process_pool",
        """
def start():
    return ProcessPoolExecutor(1)  # made
if __name__ == "__main__":
    pool = start()
    print(pool.submit(pow, 2, 3).result())""",
    ),
    "pool": (
        "process_pool",
        """
def start():
    return multiprocessing.Pool(1)  # made
if __name__ == "__main__":
    pool = start()
    print(pool.apply(pow, (2, 3)))""",
    ),
    "thread_pool_of_multiprocessing": (
        "thread_pool",
        """
def start():
    return multiprocessing.pool.ThreadPool(1)  # made
pool = start()
print(pool.apply(pow, (2, 3)))""",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_left_over_is_told_at_its_line(name: str, told: Callable[..., Any]) -> None:
    kind, text = LEFT[name]
    after = told(IMPORTS + text)
    found = after.only("not_shut_down", kind)
    assert after.lines == ["8"], after
    assert (found["site"]["line"], found["site"]["function"]) == (after.line("made"), "start"), after
    assert after.ran.returncode == 0
    assert len(after.findings) == 1, after
    assert ("pool.join()" in found["fix"]) == ("multiprocessing" in text), found


UNFINISHED = """\
import threading
def start():
    pool = multiprocessing.pool.ThreadPool(1)  # made
    for _ in range(3):
        pool.apply_async(threading.Event().wait)
    return pool
pool = start()
"""


def test_jobs_that_multiprocessing_drops_are_told(told: Callable[..., Any]) -> None:
    after = told(IMPORTS + UNFINISHED)
    found = after.only("not_shut_down", "thread_pool")
    assert any("3 results had not come" in line for line in found["evidence"]), found
    assert after.ran.returncode == 0


def test_classes_stay_what_they_are(told: Callable[..., Any]) -> None:
    text = """\
import concurrent.futures, inspect, pickle
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(max_workers=1, thread_name_prefix="x") as pool:
    print(type(pool) is ThreadPoolExecutor is concurrent.futures.ThreadPoolExecutor, isinstance(pool, concurrent.futures.Executor))
print(list(inspect.signature(ThreadPoolExecutor).parameters)[:2], ThreadPoolExecutor.__init__.__qualname__)
print(pickle.loads(pickle.dumps(ThreadPoolExecutor)) is ThreadPoolExecutor)
try:
    ThreadPoolExecutor(max_workers=-1)
except ValueError as error:
    print(error)
"""
    after = told(text)
    after.clean()
    assert after.lines == [
        "True True",
        "['max_workers', 'thread_name_prefix'] ThreadPoolExecutor.__init__",
        "True",
        "max_workers must be greater than 0",
    ]
