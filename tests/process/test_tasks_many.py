"""A million tasks leave nothing behind, and making one costs the same with a hundred thousand alive: counted, not timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_million_tasks_leave_nothing(told: Callable[..., Any]) -> None:
    text = """\
import asyncio, gc, sys
from leakagent import agent

async def nothing():
    pass

def notes():
    part = agent.current().parts["asyncio"]
    lists = sum(len(value) for value in vars(part).values() if isinstance(value, (list, dict, set)))
    errors = part.errors
    return lists + len(errors.failures) + len(errors._failed) + len(agent.current().registry)

async def rounds(number):
    largest = 0
    for _ in range(number):
        await asyncio.gather(*(nothing() for _ in range(1_000)))
        largest = max(largest, notes())
    gc.collect()
    return largest, sys.getallocatedblocks()

async def main():
    small, before = await rounds(100)
    large, after = await rounds(900)
    # Blocks, not bytes: a note of one word per task would show as a hundred thousands of them.
    print(large <= 2 * small + 100, abs(after - before) < 20_000, large, small, after - before)

asyncio.run(main())
"""
    after = told(text)
    assert after.lines[0].startswith("True True"), after
    after.clean()
    assert after.report["totals"]["asyncio.task"]["created"] >= 1_000_000, after


def test_making_a_task_takes_as_many_steps_with_many_alive(told: Callable[..., Any]) -> None:
    """Steps are lines of Python code of the agent and calls of C functions; the collector is off, what it costs is another test's."""
    text = """\
import asyncio, gc, sys

async def wait(event):
    await event.wait()

def steps():
    seen = []
    def trace(frame, event, argument):
        if "leakagent" not in frame.f_code.co_filename:
            return None
        seen.append(frame.f_lineno)
        return trace
    def profile(frame, event, argument):
        if event == "c_call" and "leakagent" in frame.f_code.co_filename:
            seen.append(argument)
    sys.settrace(trace)
    sys.setprofile(profile)
    task = asyncio.ensure_future(wait(event))
    sys.settrace(None)
    sys.setprofile(None)
    return len(seen), task

async def main():
    global event
    gc.disable()
    event = asyncio.Event()
    counts = []
    kept = []
    for alive in (100, 100_000):
        while len(kept) < alive:
            kept.append(asyncio.ensure_future(wait(event)))
        await asyncio.sleep(0)
        many = []
        for _ in range(20):
            count, task = steps()
            many.append(count)
            kept.append(task)
        counts.append(sorted(many)[10])
    print(counts[0] == counts[1] > 0, counts)
    event.set()
    await asyncio.wait(kept)

asyncio.run(main())
"""
    after = told(text)
    assert after.lines[0].startswith("True"), after
    after.clean()
