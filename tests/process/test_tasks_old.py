"""Thousands of tasks that live long: a full collection does not look at each of them, and still takes none, holds none that is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

DROPPED = """\
import asyncio, gc, weakref
from leakagent import agent

part = agent.current().parts["asyncio"]
MANY = 8_000
futures, results = weakref.WeakSet(), weakref.WeakSet()
finished = []

class Result: pass

class Work:
    # Nobody but the task refers to what it waits for: without leakagent a collection destroys it.
    async def run(self):
        self.future = asyncio.get_running_loop().create_future()
        futures.add(self.future)
        await self.future
        finished.append(1)
        result = Result()
        results.add(result)
        return result

async def main():
    for _ in range(MANY):
        asyncio.create_task(Work().run())
    await asyncio.sleep(0)
    for _ in range(4):
        gc.collect()
    blocks = part.table.old
    print(len(futures), any(block.coroutines for block in blocks), blocks[0].coroutines, part.window.held)
    gc.disable()
    for future in list(futures):
        future.set_result(None)
    del future
    for _ in range(3):
        await asyncio.sleep(0)
    # The agent's thread may be looking at one of them in this moment.
    print(len(finished), len(results) <= 1, len(futures) <= 1)
    gc.enable()
    for _ in range(len(blocks) + 1):
        gc.collect()
    print(part.table.size() < 10, sum(len(block.coroutines or ()) for block in part.table.old) < 10)

asyncio.run(main())
"""


def test_old_tasks_are_neither_lost_nor_held(told: Callable[..., Any]) -> None:
    after = told(DROPPED)
    assert after.lines == ["8000 True None []", "8000 True True", "True True"], after
    assert after.report["totals"]["asyncio.task"]["live"] == 0, after


LOOP = """\
import asyncio, gc

async def wait(future): await future

async def main():
    future = asyncio.get_running_loop().create_future()
    kept.extend(asyncio.create_task(wait(future)) for _ in range(8_000))
    await asyncio.sleep(0)
    gc.collect(), gc.collect()
    asyncio.create_task(wait(asyncio.get_running_loop().create_future()))  # lost
    await asyncio.sleep(0)

kept = []
asyncio.run(main())
"""


def test_what_is_left_of_them_is_told_at_the_end_of_the_loop(told: Callable[..., Any]) -> None:
    after = told(LOOP)
    assert after.only("lost_task")["site"]["line"] == after.line("lost"), after
    left = [one for one in after.findings if one["reason"] != "lost_task"]
    assert [(one["reason"], one["count"]) for one in left] == [("outlived_scope", 8_000)], after
