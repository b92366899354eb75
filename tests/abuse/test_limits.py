"""No descriptor left, no memory left: the program gets the errors that it gets without the agent, handles them, and ends as it would."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

#: Takes every descriptor, gives back none, one and a dozen, and each time does what needs some, and says what came of each.
DESCRIPTORS = """\
import asyncio, multiprocessing, os, resource, subprocess, sys, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor

def tried(what, function):
    try:
        print(what, function())
    except OSError as error:
        print(what, type(error).__name__, error.errno)

def pool():
    with ThreadPoolExecutor(2) as workers:
        return list(workers.map(abs, [-1, -2]))

def thread():
    seen = []
    one = threading.Thread(target=seen.append, args=(1,))
    one.start()
    one.join()
    return seen

async def work():
    return await asyncio.gather(*(asyncio.create_task(asyncio.sleep(0, number)) for number in range(3)))

def child():
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()
    return process.exitcode

if __name__ == "__main__":
    # Everything is imported, and the agent's threads have what they need.
    print(pool(), thread(), asyncio.run(work()), child(), subprocess.run([sys.executable, "-S", "-c", ""]).returncode)
    time.sleep(0.5)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        print("full", error.errno)
    for free in (0, 1, 12):
        for _ in range(free):
            os.close(taken.pop())
        tried("pool", pool)
        tried("thread", thread)
        tried("loop", lambda: asyncio.run(work()))
        tried("child", child)
        tried("file", lambda: open(__file__).close())
    kept = ThreadPoolExecutor(1)
    print(kept.submit(pow, 2, 3).result())
    sys.exit(7)
"""


def test_no_descriptor_left(both: Callable[..., Any]) -> None:
    found = both(DESCRIPTORS, env={"PYTHONWARNINGS": "ignore"})
    found.same()
    assert found.bare.returncode == 7, found
    assert "loop OSError 24" in found.bare.stdout, found
    assert "loop [0, 1, 2]" in found.bare.stdout, found
    # The last loop that could not be made, and the pool.
    assert ("not_shut_down", "thread_pool", 1) in found.told, found
    assert found.report["agent"]["disabled"] == [], found


@pytest.mark.parametrize("number", [16, 24])
def test_few_descriptors_from_the_start(number: int, both: Callable[..., Any]) -> None:
    text = """\
import asyncio, sys, threading
from concurrent.futures import ThreadPoolExecutor
async def work():
    return await asyncio.gather(*(asyncio.to_thread(abs, -number) for number in range(3)))
print(asyncio.run(work()))
left = ThreadPoolExecutor(1)
print(left.submit(int).result())
sys.exit(7)
"""
    found = both(text, f"descriptors={number}")
    found.same()
    assert (found.bare.returncode, found.told) == (7, [("not_shut_down", "thread_pool", 1)]), found


#: Takes memory until there is none, several times in a row, in the middle of what is patched.
MEMORY = """\
import asyncio, gc, resource, sys, threading, time
from concurrent.futures import ThreadPoolExecutor

async def quick(number):
    await asyncio.sleep(0)
    return number

async def main():
    total = 0
    for _ in range(20):
        total += sum(await asyncio.gather(*(asyncio.create_task(quick(number)) for number in range(50))))
    return total

def fill():
    # The largest blocks first, then ever smaller ones, down to where not even a task can be made; 3.15.0 itself crashes there.
    kept, size = [], 1 << 26
    while size >= (64 if sys.version_info < (3, 14) else 1 << 16):
        try:
            kept.append(bytearray(size))
        except MemoryError:
            size >>= 1
    return kept

def in_need():
    kept = fill()
    made = []
    try:
        for number in range(20_000):
            made.append(quick(number))
            loop.create_task(made[-1])
    except MemoryError:
        hit.append(len(made))
    try:
        with ThreadPoolExecutor(2) as pool:
            pool.submit(abs, -1).result()
    except (MemoryError, RuntimeError):
        pass
    kept.clear()

hit = []
print(asyncio.run(main()))
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (24 << 20), resource.RLIM_INFINITY))
for _ in range(10):
    try:
        loop = asyncio.new_event_loop()
        in_need()
        gc.collect()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    except MemoryError:
        pass
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(asyncio.run(main()), len(hit) > 5)
sys.exit(7)
"""


def test_no_memory_left(both: Callable[..., Any]) -> None:
    # What Python itself warns of in such a moment (a coroutine that never became a task) is none of this test's business.
    for _ in range(6):
        found = both(MEMORY, env={"PYTHONWARNINGS": "ignore"})
        # Bare, 3.15.0 ends by SIGSEGV in such a moment now and then: there is nothing to compare with.
        if sys.version_info < (3, 15) or found.bare.returncode != -signal.SIGSEGV:
            break
    assert (found.ran.stdout, found.ran.returncode) == (found.bare.stdout, found.bare.returncode) == (found.bare.stdout, 7), found
    assert found.bare.stdout == "24500\n24500 True\n", found
    assert ("not_shut_down", "thread_pool") in {(reason, kind) for reason, kind, _ in found.told}, found
    assert "leakagent/" not in found.ran.stderr, found
