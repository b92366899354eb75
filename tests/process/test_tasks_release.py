"""A finished task is let go when it would have been without the agent; notes do not pile up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

RELEASE = """\
import asyncio, gc, weakref, sys

class Big:
    def __init__(self):
        self.data = bytearray(1_000_000)

alive = weakref.WeakSet()

def big():
    made = Big()
    alive.add(made)
    return made

async def returns():
    result = big()
    await asyncio.sleep(0)
    return result

async def raises():
    local = big()
    await asyncio.sleep(0)
    raise ValueError("never looked at")

async def keeps_local():
    local = big()
    await asyncio.sleep(0)

async def main():
    {collect}
    for function in (returns, raises, keeps_local):
        for _ in range(10):
            asyncio.create_task(function())
        for _ in range(4):
            await asyncio.sleep(0)
            {between}
        {after}
        print(function.__name__, len(alive), flush=True)
        print("next", file=sys.stderr, flush=True)

def handler(loop, context):
    print(context["message"], repr(context.get("exception")), flush=True)

async def with_handler():
    asyncio.get_running_loop().set_exception_handler(handler)
    await main()

asyncio.run(with_handler())
"""


@pytest.mark.parametrize(
    ("collect", "between", "after"),
    [("gc.disable()", "pass", "pass"), ("gc.collect()", "gc.collect(0)", "gc.collect()"), ("gc.collect()", "pass", "pass")],
)
@pytest.mark.parametrize("level", ["count", "site", "stack"])
def test_released_and_complained_about_as_without_the_agent(
    level: str, collect: str, between: str, after: str, program: Callable[..., Any], python: Callable[..., Any]
) -> None:
    path = program(RELEASE.format(collect=collect, between=between, after=after))
    bare = python(path)
    agent = python("-m", "leakagent", "--report", "json:report.json", "--level", level, path)
    assert bare.returncode == 0, bare
    assert bare.stdout.count("Task exception was never retrieved") == 10, bare
    assert (agent.returncode, agent.stdout, agent.stderr) == (0, bare.stdout, bare.stderr), agent


@pytest.mark.parametrize("disabled", ["gc.disable()", "gc.freeze()", "pass"])
def test_notes_are_swept_without_the_collector(disabled: str, told: Callable[..., Any]) -> None:
    text = f"""\
import asyncio, gc
from leakagent import agent

async def work(number):
    await asyncio.sleep(0.001 if number % 100 == 0 else 0)

async def main():
    {disabled}
    largest = 0
    tasks = agent.current().parts["asyncio"]
    for number in range(30_000):
        asyncio.create_task(work(number))
        if number % 50 == 0:
            await asyncio.sleep(0)
            held = len(tasks.table.noted()) + len(tasks.window.held)
            largest = max(largest, held)
    await asyncio.sleep(0.05)
    print(largest < 6_000, largest)
    print(len(tasks.window.held), len(tasks.lost), len(tasks.left))

asyncio.run(main())
"""
    after = told(text)
    assert after.lines[0].startswith("True"), after
    assert after.lines[1] == "0 0 0"
    after.clean()


def test_nothing_is_held_outside_of_collections(told: Callable[..., Any]) -> None:
    text = """\
import asyncio, gc, sys
from leakagent import agent

async def main():
    task = asyncio.create_task(asyncio.sleep(10))
    await asyncio.sleep(0)
    before = sys.getrefcount(task)
    for generation in (0, 1, 2):
        gc.collect(generation)
        print(sys.getrefcount(task) - before, agent.current().parts["asyncio"].window.held)
    task.cancel()

asyncio.run(main())
"""
    after = told(text)
    assert after.lines == ["0 []"] * 3
    after.clean()
