"""While asyncio's registration is short-circuited (`leakagent.instrumentation.task_functions`), others create tasks as well, or it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PRELUDE = """\
import asyncio, sys, threading, weakref
from leakagent import agent

part = agent.current().parts["asyncio"]
async def wait(event): await event.wait()
async def nothing(): pass
# Newer versions have a list in C, and nobody is told of a task that the constructor alone makes.
REGISTRY = sys.version_info < (3, 14)
"""

WITHIN = (
    PRELUDE
    + """
class Loop(asyncio.SelectorEventLoop):
    inner = None
    def get_debug(self):
        # Called by the constructor of every task.
        if Loop.inner is not None:
            make, Loop.inner = Loop.inner, None
            make()
        return False

async def main():
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    inner = []
    def by_function(): inner.append(asyncio.create_task(wait(event)))
    def by_constructor(): inner.append((asyncio.Task if REGISTRY else asyncio.create_task)(wait(event)))
    def by_gather(): inner.append(asyncio.gather(wait(event), wait(event)))
    def fails(): raise ValueError("in the constructor")
    async def group():
        async with asyncio.TaskGroup() as made: made.create_task(wait(event))
    for make in (by_function, by_constructor, by_gather, fails):
        for outer in (asyncio.create_task, loop.create_task, lambda coro: asyncio.gather(nothing(), coro)):
            Loop.inner = make
            coro = wait(event)
            try: outer(coro)
            except ValueError as error: print(make.__name__, error, coro.close())
            for _ in range(3): await asyncio.sleep(0)
    if hasattr(asyncio, "TaskGroup"):
        Loop.inner = by_constructor
        kept = asyncio.ensure_future(group())
        for _ in range(3): await asyncio.sleep(0)
    tasks = asyncio.all_tasks()
    entries = {entry() for entry in part.entries()}
    print(tasks == entries, len(tasks), part.table.being_born(), all(entry.placed for entry in part.entries()))
    names = {entry.site[0].co_name for entry in part.entries()}
    print(sorted(names - {"Loop.run"}))
    event.set()
    await asyncio.sleep(0.01)
    # What is registered from here on is held by nobody.
    done = weakref.ref(asyncio.Task(nothing()))
    for _ in range(3): await asyncio.sleep(0)
    print(done())

loop = Loop()
loop.run_until_complete(main())
loop.close()
"""
)


def test_tasks_that_are_created_while_one_is_being_created(told: Callable[..., Any]) -> None:
    after = told(WITHIN)
    assert after.lines[:3] == ["fails in the constructor None"] * 3, after
    equal, number, *rest = after.lines[3].split()
    assert (equal, rest) == ("True", ["[]", "True"]), after
    assert int(number) >= 13, after
    assert after.lines[4].startswith("['"), after
    assert after.lines[5] == "None", after
    after.clean()


THREADS = (
    PRELUDE
    + """
sys.setswitchinterval(1e-6)
EACH = 300

async def work():
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    made = set()
    for number in range(EACH):
        made |= {asyncio.create_task(wait(event)), loop.create_task(wait(event))}
        made.add((asyncio.Task if REGISTRY else asyncio.ensure_future)(wait(event)))
        if not number % 50:
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {*made, asyncio.current_task()}
    event.set()
    await asyncio.gather(*made)

threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
part.settle()
print(part.table.being_born(), part.table.size())
"""
)


def test_threads_that_create_tasks_at_the_same_time(told: Callable[..., Any]) -> None:
    after = told(THREADS)
    assert after.lines == ["[] 0"], after
    after.clean()
    assert 3600 <= after.report["totals"]["asyncio.task"]["created"] <= 3600 + 8 * 4, after


FAILED = (
    PRELUDE
    + """
async def main():
    loop = asyncio.get_running_loop()
    for create in (asyncio.create_task, loop.create_task):
        try: create(3)
        except TypeError: pass
    done = weakref.ref(asyncio.Task(nothing()))
    for _ in range(3): await asyncio.sleep(0)
    print(done(), part.table.being_born())

asyncio.run(main())
"""
)


def test_a_creation_that_fails_leaves_everything_as_it_was(told: Callable[..., Any]) -> None:
    after = told(FAILED)
    assert after.lines == ["None []"], after
    after.clean()


NAMELESS = """\
import asyncio, gc

class Name:
    def __str__(self): raise ValueError("no name")

async def wait():
    await asyncio.get_running_loop().create_future()

async def main():
    loop = asyncio.get_running_loop()
    for create in (asyncio.create_task, loop.create_task):
        coro = wait()
        before = asyncio.all_tasks()
        try: create(coro, name=Name())
        except ValueError as error: print(error)
        made = asyncio.all_tasks() - before
        print(len(made))
        await asyncio.sleep(0)
        if made: await asyncio.wait(made, timeout=0)
        for task in made: task.cancel()
        if not made: coro.close()

asyncio.run(main())
"""


def test_a_creation_that_fails_when_the_task_is_there(
    python: Callable[..., Any], program: Callable[..., Any], told: Callable[..., Any]
) -> None:
    """Up to 3.11 the name is set when asyncio has registered the task: it is there, and nobody has it."""
    bare, after = python(program(NAMELESS, "bare.py")), told(NAMELESS)
    assert after.lines == bare.stdout.splitlines(), (after, bare)
    after.clean()
