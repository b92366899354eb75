"""Lost tasks: kept alive through every collection, and told with the line that made them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

# Each defines ``case``, whose task nobody refers to once it waits.
LOST = {
    "private_future": """
async def case():
    await asyncio.get_running_loop().create_future()
""",
    "self_held_future": """
class Job:
    def __init__(self):
        self.future = asyncio.get_running_loop().create_future()
    async def wait(self):
        await self.future
def case():
    return Job().wait()
""",
    "self_held_task": """
class Job:
    async def wait(self):
        self.task = asyncio.current_task()
        self.future = asyncio.get_running_loop().create_future()
        await self.future
def case():
    return Job().wait()
""",
    "local_queue": """
async def case():
    queue = asyncio.Queue()
    await queue.get()
""",
    "nested": """
async def innermost():
    await asyncio.get_running_loop().create_future()
async def inner():
    await innermost()
async def case():
    await inner()
""",
    "async_generator": """
async def numbers():
    yield 1
    await asyncio.get_running_loop().create_future()
    yield 2
async def case():
    async for _ in numbers():
        pass
""",
    "closure": """
async def case():
    future = asyncio.get_running_loop().create_future()
    async def inner():
        await future
    def finish():
        future.set_result(finish)
    await inner()
""",
    "gather": """
async def part():
    await asyncio.get_running_loop().create_future()
async def case():
    await asyncio.gather(part(), part())
""",
    "shield": """
async def part():
    await asyncio.get_running_loop().create_future()
async def case():
    await asyncio.shield(part())
""",
    "lock": """
async def case():
    lock = asyncio.Lock()
    async with lock:
        async with lock:
            pass
""",
    "condition": """
async def case():
    condition = asyncio.Condition()
    async with condition:
        await condition.wait()
""",
    "event": """
async def case():
    await asyncio.Event().wait()
""",
    "semaphore": """
async def case():
    await asyncio.Semaphore(0).acquire()
""",
}
# An open socket does not keep a stream's task: the protocol refers to the reader weakly.
LOST["stream"] = """
import socket
left, right = socket.socketpair()
async def case():
    reader, writer = await asyncio.open_connection(sock=left)
    await reader.readline()
"""
if sys.version_info >= (3, 11):
    LOST["task_group"] = """
async def part():
    await asyncio.get_running_loop().create_future()
async def case():
    async with asyncio.TaskGroup() as group:
        group.create_task(part())
"""

PROGRAM = """\
import asyncio, gc
{case}
def drop():
    asyncio.create_task(case())  # made

async def main():
    gc.disable()
    drop()
    for _ in range(5):
        await asyncio.sleep(0)
    for generation in (0, 1, 2):
        gc.collect(generation)
    coros = [task.get_coro() for task in asyncio.all_tasks()]
    # A destroyed one can be among them: what it waited for was cancelled and will call it.
    print([coro.__name__ for coro in coros if coro.cr_frame is not None and coro.__name__ not in ("main", "part")])

asyncio.run(main())
"""


@pytest.mark.parametrize("name", LOST)
def test_lost_task_is_kept_and_told(name: str, told: Callable[..., Any], python: Callable[..., Any]) -> None:
    after = told(PROGRAM.format(case=LOST[name]))
    assert after.ran.returncode == 0, after
    assert after.lines[0] != "[]", after
    found = [one for one in after.findings if one["site"]["line"] == after.line("made")]
    assert [(one["reason"], one["kind"], one["site"]["function"]) for one in found] == [("lost_task", "asyncio.task", "drop")], (
        after
    )
    assert found[0]["site"]["file"] == "app.py"
    assert found[0]["site"]["source"].startswith("asyncio.create_task(case())")
    assert found[0]["owner"] == "yours"
    assert found[0]["action"] == "cancelled"
    assert {one["reason"] for one in after.findings} == {"lost_task"}, after
    # The same program without the agent loses it: the case is what it claims to be.
    assert python("app.py").stdout.splitlines()[:1] == ["[]"]


def test_lost_task_that_goes_on_is_told_as_held(told: Callable[..., Any]) -> None:
    """The future is completed by something that referred to it in a way the program could not promise: a finalizer."""
    text = """\
import asyncio, gc, weakref

futures = weakref.WeakSet()

async def work():
    future = asyncio.get_running_loop().create_future()
    futures.add(future)
    await future
    print("finished")

async def main():
    asyncio.create_task(work())  # made
    await asyncio.sleep(0)
    gc.collect()
    for future in futures:
        future.set_result(None)
    await asyncio.sleep(0.01)

asyncio.run(main())
"""
    after = told(text)
    assert after.lines == ["finished"]
    found = after.only("lost_task")
    assert found["site"]["line"] == after.line("made")
    assert found["action"] == "none"
    assert "held by leakagent, it went on to its end" in found["evidence"]


def test_every_one_of_many_is_counted(told: Callable[..., Any]) -> None:
    text = """\
import asyncio, gc

async def work():
    await asyncio.get_running_loop().create_future()

async def main():
    for _ in range(100):
        asyncio.create_task(work())  # made
    await asyncio.sleep(0)
    for _ in range(3):
        gc.collect()
    print(len(asyncio.all_tasks()))

asyncio.run(main())
"""
    after = told(text)
    assert after.lines == ["101"]
    found = after.only("lost_task")
    assert (found["count"], found["site"]["line"]) == (100, after.line("made"))
    assert after.report["totals"]["asyncio.task"]["created"] >= 101


def test_kept_while_other_threads_collect(told: Callable[..., Any]) -> None:
    """Two threads collect and two loops create as fast as they can; not one dropped task may go."""
    text = """\
import asyncio, gc, sys, threading

ended = []
stop = threading.Event()

async def work():
    try:
        await asyncio.get_running_loop().create_future()
    except GeneratorExit:
        ended.append(1)
        raise

async def main():
    for _ in range(30):
        for _ in range(50):
            asyncio.create_task(work())
        await asyncio.sleep(0)
    sys.stdout.write(f"{len(asyncio.all_tasks())} {len(ended)}\\n")  # `print` writes in two pieces

def collect():
    while not stop.is_set():
        gc.collect(0)
        gc.collect()

threads = [threading.Thread(target=collect) for _ in range(2)]
loops = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
for thread in threads + loops:
    thread.start()
for thread in loops:
    thread.join()
stop.set()
for thread in threads:
    thread.join()
"""
    after = told(text)
    assert after.ran.returncode == 0, after
    assert after.lines == ["1501 0", "1501 0"], after
    assert sum(one["count"] for one in after.findings) == 3000, after
    assert after.report["agent"]["disabled"] == []


def test_kept_by_a_collection_that_cannot_get_the_lock(told: Callable[..., Any]) -> None:
    """Another thread has the lock and does not come back: what is known is held all the same, and nobody waits for ever."""
    text = """\
import asyncio, gc, threading
from leakagent import agent

taken, stop = threading.Event(), threading.Event()

def keep():
    with agent.current().parts["asyncio"].window._lock:
        taken.set()
        stop.wait()

async def work():
    await asyncio.get_running_loop().create_future()

async def main():
    for _ in range(5):
        asyncio.create_task(work())  # made
    await asyncio.sleep(0)
    gc.collect(0)
    for _ in range(5):
        asyncio.create_task(work())
    await asyncio.sleep(0)
    thread = threading.Thread(target=keep)
    thread.start()
    taken.wait()
    gc.collect()
    print(len(asyncio.all_tasks()))
    stop.set()
    thread.join()

asyncio.run(main())
"""
    after = told(text)
    assert after.lines == ["11"], after
    assert sum(one["count"] for one in after.findings) == 10, after
    assert after.report["agent"]["disabled"] == []


# As lancedb's background loop and what it waits for: references move in other threads while the proof goes on.
IN_ANOTHER_THREAD = """
import asyncio, gc, os, queue, sys, threading
sys.setswitchinterval(1e-5)
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
work = queue.SimpleQueue()
def native():
    while True:
        answer = work.get()
        loop.call_soon_threadsafe(answer.set_result, 1)
        del answer
threading.Thread(target=native, daemon=True).start()
async def call():
    answer = loop.create_future()
    work.put(answer)
    return await answer
def caller():
    while True:
        asyncio.run_coroutine_threadsafe(call(), loop).result()
for _ in range(3):
    threading.Thread(target=caller, daemon=True).start()
for _ in range(100):
    gc.collect()
"""


def test_tasks_that_end_in_another_thread_meanwhile(told: Callable[..., Any]) -> None:
    after = told(IN_ANOTHER_THREAD)
    assert after.ran.returncode == 0, after
    assert "lost_task" not in [one["reason"] for one in after.findings], after
