"""Tasks that wait for something alive are never called lost, and nothing that is used properly is told."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

# ``work`` is dropped while it waits for something that is alive; ``finish`` ends the wait.
LIVE = {
    "timer": """
async def work():
    await asyncio.sleep(0.05)
""",
    "socket": """
left, right = socket.socketpair()
left.setblocking(False)
async def work():
    await asyncio.get_running_loop().sock_recv(left, 1)
def finish():
    right.send(b"x")
""",
    "stream": """
left, right = socket.socketpair()
reader = None
async def work():
    # A stream is only alive as long as somebody has its reader: the protocol refers to it weakly.
    global reader
    reader, writer = await asyncio.open_connection(sock=left)
    await reader.readline()
    writer.close()
    await writer.wait_closed()
def finish():
    right.send(b"x\\n")
""",
    "queue": """
queue = None
async def work():
    global queue
    queue = asyncio.Queue()
    await queue.get()
def finish():
    queue.put_nowait(1)
""",
    "executor": """
gate = threading.Event()
async def work():
    await asyncio.get_running_loop().run_in_executor(None, gate.wait)
def finish():
    gate.set()
""",
    "event": """
event = None
async def work():
    global event
    event = asyncio.Event()
    await event.wait()
def finish():
    event.set()
""",
    "subprocess": """
child = None
async def work():
    global child
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    await child.wait()
async def finish():
    while child is None:
        await asyncio.sleep(0.01)
    gc.collect()
    child.stdin.write(b"x\\n")
""",
    "lock": """
lock = None
async def work():
    global lock
    lock = asyncio.Lock()
    await lock.acquire()
    await lock.acquire()
def finish():
    lock.release()
""",
    "condition": """
condition = None
async def work():
    global condition
    condition = asyncio.Condition()
    async with condition:
        await condition.wait()
async def finish():
    async with condition:
        condition.notify_all()
""",
    "semaphore": """
semaphore = None
async def work():
    global semaphore
    semaphore = asyncio.Semaphore(0)
    await semaphore.acquire()
def finish():
    semaphore.release()
""",
    "wait_for": """
future = None
async def work():
    global future
    future = asyncio.get_running_loop().create_future()
    await asyncio.wait_for(future, 600)
def finish():
    future.set_result(1)
""",
    "wait_for_private": """
async def work():
    try:
        await asyncio.wait_for(asyncio.get_running_loop().create_future(), 0.05)
    except asyncio.TimeoutError:
        pass
""",
    "shield": """
future = None
async def work():
    global future
    future = asyncio.get_running_loop().create_future()
    await asyncio.shield(future)
def finish():
    future.set_result(1)
""",
    "other_task": """
kept = None
async def part():
    await asyncio.sleep(0.05)
async def work():
    global kept
    kept = asyncio.ensure_future(part())
    await kept
""",
    "weak_holder_in_c": """
handle = None
async def work():
    global handle
    future = asyncio.get_running_loop().create_future()
    handle = functools.partial(future.set_result, 1)
    await future
def finish():
    handle()
""",
    "thread_local": """
result = queue_module.Queue()
gate = threading.Event()
def runner(future, loop):
    gate.wait()
    loop.call_soon_threadsafe(future.set_result, 1)
async def work():
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    threading.Thread(target=runner, args=(future, loop)).start()
    await future
def finish():
    gate.set()
""",
    "frame_only": """
gate = threading.Event()
futures = queue_module.Queue()
def runner():
    future, loop = futures.get()
    gate.wait()
    loop.call_soon_threadsafe(future.set_result, 1)
threading.Thread(target=runner).start()
async def work():
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    futures.put((future, loop))
    await future
def finish():
    gate.set()
""",
}

PROGRAM = """\
import asyncio, functools, gc, inspect, queue as queue_module, socket, sys, threading, weakref

def finish():
    pass
{case}
ended = []

async def observed():
    await work()
    ended.append(True)

async def main():
    waiting = weakref.ref(asyncio.create_task(observed()))
    for _ in range(20):
        await asyncio.sleep(0)
    for generation in (0, 1, 2):
        gc.collect(generation)
        await asyncio.sleep(0)
    result = finish()
    if inspect.isawaitable(result):
        await result
    while waiting() is not None and not waiting().done():
        await asyncio.sleep(0.01)
    print("finished", ended)

{run}
"""


@pytest.mark.parametrize("name", LIVE)
def test_live_task_is_not_called_lost(name: str, told: Callable[..., Any], python: Callable[..., Any]) -> None:
    after = told(PROGRAM.format(case=LIVE[name], run="asyncio.run(main())"))
    assert after.lines == ["finished [True]"], after
    after.clean()
    assert after.ran.stderr == ""
    # The same program without the agent keeps it: the case is what it claims to be.
    assert python("app.py").stdout == "finished [True]\n"


UVLOOP = """
import uvloop
loop = uvloop.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
"""


if importlib.util.find_spec("uvloop"):

    @pytest.mark.parametrize("name", LIVE)
    def test_live_task_under_uvloop(name: str, told: Callable[..., Any]) -> None:
        after = told(PROGRAM.format(case=LIVE[name], run=UVLOOP))
        assert after.lines == ["finished [True]"], after
        after.clean()


def test_many_automatic_collections_destroy_no_old_task(told: Callable[..., Any]) -> None:
    """What the collector visits by itself, in every generation, is held as well as at ``gc.collect()``."""
    text = """\
import asyncio, gc, weakref

async def work():
    await asyncio.get_running_loop().create_future()

async def main():
    tasks = [weakref.ref(asyncio.create_task(work())) for _ in range(20)]
    seen = []
    gc.callbacks.append(lambda phase, info: seen.append(info["generation"]))
    keep = []
    gc.set_threshold(50, 2, 2)
    number = 0
    # None comes while the agent's own thread looks.
    while number < 60_000 or not {0, 1} <= set(seen):
        number += 1
        keep.append([number])
        if number % 500 == 0:
            await asyncio.sleep(0)
    gc.callbacks.pop()
    print(sorted(set(seen)), sum(task() is not None and not task().done() for task in tasks))

asyncio.run(main())
"""
    after = told(text)
    assert after.lines[0].endswith(" 20"), after
    assert after.lines[0].startswith("[0, 1"), after
    assert after.only("lost_task")["count"] == 20
