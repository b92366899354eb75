"""Tasks of every origin are held: made by the class itself, by factories, by nest_asyncio, anyio and loops in threads."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = """\
import asyncio, gc, os, sys, threading, weakref

destroyed = []

class Note:
    def __del__(self):
        destroyed.append(self)

async def lose():  # coroutine
    note = Note()
    await asyncio.get_running_loop().create_future()

async def turns():
    for _ in range(5):
        await asyncio.sleep(0)

async def collect():
    await turns()
    for generation in (0, 1, 2):
        gc.collect(generation)
    print(len(destroyed))
"""

RUN = "\nasyncio.run(main())\n"

# Each drops one task.
WAYS = {
    "direct": """
async def main():
    asyncio.Task(lose())
    await collect()
""",
    "direct_subclass": """
class Mine(asyncio.Task):
    pass

async def main():
    Mine(lose(), loop=asyncio.get_running_loop(), name="mine")
    await collect()
""",
    "direct_among_many": """
async def main():
    # More than every collection looks at: the second full one does.
    kept = [asyncio.create_task(asyncio.sleep(600)) for _ in range(500)]
    box = [asyncio.Task(lose())]
    await turns()
    gc.collect()
    while len(box) < 3:
        await asyncio.sleep(0.05)
        gc.collect()
        box.append(None)
    box.clear()
    await collect()
    for task in kept:
        task.cancel()
    await turns()
""",
    "factory": """
async def main():
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coro, **more: asyncio.Task(coro, loop=loop, **more))
    asyncio.create_task(lose())  # made
    await collect()
""",
    "late_factory_of_its_own_class": """
class Mine(asyncio.Task):
    __slots__ = ("more",)

async def main():
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coro, **more: Mine(coro, loop=loop, **more))
    asyncio.ensure_future(lose())  # made
    await collect()
""",
    "thread": """
def run():
    asyncio.run(inner())

async def inner():
    asyncio.create_task(lose())  # made
    await collect()

async def main():
    await asyncio.to_thread(run)
""",
    "direct_in_a_thread": """
async def inner():
    asyncio.create_task(asyncio.sleep(0))
    asyncio.Task(lose())
    await collect()

def run():
    asyncio.run(inner())

async def main():
    await asyncio.to_thread(run)
""",
    "collected_by_another_thread": """
def collect_here():
    for generation in (0, 1, 2):
        gc.collect(generation)

async def main():
    asyncio.create_task(asyncio.sleep(0))
    await turns()
    gc.collect()
    asyncio.Task(lose())
    await turns()
    thread = threading.Thread(target=collect_here)
    thread.start()
    thread.join()
    print(len(destroyed))
""",
    "threadsafe": """
def run(loop):
    asyncio.run_coroutine_threadsafe(part(), loop).result()

async def part():
    asyncio.create_task(lose())  # made

async def main():
    await asyncio.to_thread(run, asyncio.get_running_loop())
    await collect()
""",
}
if sys.version_info >= (3, 12):
    WAYS["eager"] = """
async def main():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    asyncio.create_task(lose())  # made
    await collect()
"""
    WAYS["direct_eager"] = """
async def main():
    asyncio.Task(lose(), eager_start=True, loop=asyncio.get_running_loop())
    await collect()
"""

UVLOOP = "\nimport uvloop\nloop = uvloop.new_event_loop()\nloop.run_until_complete(main())\nloop.close()\n"
HAS_ANYIO = importlib.util.find_spec("anyio") is not None
HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None


def check(after: Any) -> None:
    """Assert that the dropped task was held to the end and told."""
    assert after.lines == ["0"], after
    found = after.only("lost_task")
    assert after.findings == [found], after
    if "# made" in after.text:
        assert found["site"]["line"] == after.line("made"), after
        assert not any("nobody saw" in line for line in found["evidence"])
    else:
        assert (found["site"]["line"], found["site"]["function"]) == (after.line("coroutine"), "lose"), after
        assert any("no line of the program was seen making it" in line for line in found["evidence"]), after
    assert after.ran.returncode == 0


@pytest.mark.parametrize("name", WAYS)
def test_held_and_told(name: str, told: Callable[..., Any], python: Callable[..., Any]) -> None:
    check(told(HEAD + WAYS[name] + RUN))
    # Without the agent it is lost.
    assert python("app.py").stdout == "1\n"


if HAS_UVLOOP:

    @pytest.mark.parametrize("name", ["direct", "direct_subclass", "factory", "threadsafe"])
    def test_held_under_uvloop(name: str, told: Callable[..., Any]) -> None:
        check(told(HEAD + WAYS[name] + UVLOOP))


def test_at_level_count_no_line_is_known(told: Callable[..., Any]) -> None:
    after = told(HEAD + WAYS["direct"] + RUN, options=("--level", "count"))
    assert after.lines == ["0"]
    assert after.only("lost_task")["site"]["file"] == "", after


def test_a_task_that_is_kept_or_finishes_is_not_told(told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
async def main():
    loop = asyncio.get_running_loop()
    done = [asyncio.Task(asyncio.sleep(0), loop=loop) for _ in range(100)]
    asyncio.Task(asyncio.sleep(0.05), loop=loop)
    kept = asyncio.Task(lose(), loop=loop)
    await collect()
    refs = sys.getrefcount(kept)
    gc.collect()
    assert sys.getrefcount(kept) == refs
    kept.cancel()
    await asyncio.sleep(0.1)
    result = weakref.ref(done[0])
    del done, kept
    print(result())
"""
        + RUN
    )
    after = told(text)
    after.clean()
    assert after.lines == ["0", "None"], after


# From 3.14 on a child that ends out of the middle of its parent's loop hangs by itself: that loop is not the running one there.
FORKS = ["process", "fork"] if sys.version_info < (3, 14) else ["process"]


@pytest.mark.parametrize("how", FORKS)
def test_a_forked_child_leaves_its_parents_tasks_alone(how: str, told: Callable[..., Any]) -> None:
    text = (
        f"import multiprocessing, warnings; warnings.simplefilter('ignore'); HOW = {how!r}\n"
        + HEAD
        + """
async def main():
    kept = [asyncio.create_task(asyncio.sleep(600)), asyncio.Task(asyncio.sleep(600))]
    await turns()
    gc.collect()
    if HOW == "process":
        process = multiprocessing.get_context("fork").Process(target=gc.collect)
        process.start()
        process.join()
    else:
        pid = os.fork()
        if pid == 0:
            gc.collect()
            sys.exit(0)
        os.waitpid(pid, 0)
    for task in kept:
        task.cancel()
    await turns()
    print("parent")

asyncio.run(main())
"""
    )
    after = told(text)
    assert after.lines == ["parent"], after
    after.clean()


def test_a_collection_in_the_middle_of_making_a_task_notes_it_once(told: Callable[..., Any]) -> None:
    """As early as it can come: in the constructor's caller, before the note is taken; the task waits already if it is eager."""
    text = (
        HEAD
        + """
def factory(loop, coro, **more):
    make = getattr(asyncio, "eager_task_factory", None)
    task = make(loop, coro, **more) if make else asyncio.Task(coro, loop=loop, **more)
    for generation in (0, 1, 2):
        gc.collect(generation)
    return task

async def main():
    asyncio.get_running_loop().set_task_factory(factory)
    asyncio.create_task(lose())  # made
    asyncio.get_running_loop().set_task_factory(None)
    await collect()
"""
        + RUN
    )
    check(told(text))
