"""``leakagent.testing.assert_no_leaks``: a block, or a function, that leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXT = """\
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor
import leakagent
from leakagent.testing import LeaksFoundError, assert_no_leaks

kept = []
gate = threading.Event()

def pool():
    kept.append(ThreadPoolExecutor(1))

def tell(name, function):
    try:
        function()
    except AssertionError as error:
        assert isinstance(error, leakagent.LeakError)
        print(name, "leaks", [line for line in str(error).splitlines() if line.startswith("   > ")], error.scope)
    else:
        print(name, "does not")
    print(leakagent.is_active(), asyncio.create_task.__module__)

async def background():
    await asyncio.sleep(600)

async def block(function):
    async with assert_no_leaks(grace=0.2):
        function()
        await asyncio.sleep(0)

@assert_no_leaks(grace=5)
def ends_in_a_moment():
    threading.Timer(0.05, int).start()
    asyncio.run(asyncio.sleep(0))

@assert_no_leaks(ignore=["thread_pool"], grace=0)
def ignores():
    pool()

@assert_no_leaks(grace=0)
async def coroutine():
    kept.append(asyncio.create_task(background()))
    await asyncio.sleep(0)

def raises():
    try:
        with assert_no_leaks():
            pool()
            raise ValueError
    except ValueError:
        pass

def nested():
    with assert_no_leaks("outer", grace=0):
        with assert_no_leaks("inner", grace=0):
            int()
        pool()

tell("pool", lambda: asyncio.run(block(pool)))
tell("task", lambda: asyncio.run(block(lambda: kept.append(asyncio.ensure_future(background())))))
tell("timer", ends_in_a_moment)
tell("ignored", ignores)
tell("coroutine", lambda: asyncio.run(coroutine()))
tell("nested", nested)
tell("raising", raises)
try:
    assert_no_leaks(ignore="thread")
except TypeError as error:
    print(error)
"""


def test_blocks_and_functions(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    ran = python(program(TEXT))
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    lines = ran.stdout.splitlines()
    assert lines[:14:2] == [
        "pool leaks ['   > kept.append(ThreadPoolExecutor(1))'] the block",
        "task leaks ['   > tell(\"task\", lambda: asyncio.run(block(lambda: kept.append(asyncio.ensure_future(background())))))'] the block",
        "timer does not",
        "ignored does not",
        "coroutine leaks ['   > kept.append(asyncio.create_task(background()))'] coroutine",
        "nested leaks ['   > kept.append(ThreadPoolExecutor(1))'] outer",
        "raising does not",
    ], ran
    # The agent is there for the block only.
    assert set(lines[1:14:2]) == {"False asyncio.tasks"}, ran
    assert lines[14:] == ["assert_no_leaks(ignore='thread'): a list of patterns is expected"], ran


def test_an_agent_that_is_active_stays(told: Callable[..., Any]) -> None:
    after = told(TEXT)
    assert set(after.lines[1:14:2]) != {"False asyncio.tasks"}, after
    assert all(line.startswith("True ") for line in after.lines[1:14:2]), after
    assert len([line for line in after.lines if " leaks " in line]) == 4, after
    assert after.report["agent"]["disabled"] == [], after


PAUSES = """
import itertools, threading
from leakagent import agent, install
from leakagent.owners import Owner, Owners

install(report="off")
owner = Owner("somebody")
owners = Owners(agent.current(), Owner("the program"))
end = threading.Event()
with owners.turn(owner):
    thread = threading.Thread(target=end.wait)
    thread.start()
left = owners.left_of(lambda one: one is owner)
print(*(f"{pause:.3f}" for pause in itertools.islice(left.pauses(600), 10)))
print(len(list(left.pauses(0))))
end.set()
thread.join()
left.look()
print(len(list(left.pauses(600))))
"""


def test_it_looks_ever_less_often_and_not_at_all_when_nothing_is_left(
    python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    ran = python(program(PAUSES))
    assert ran.stdout.splitlines() == ["0.001 0.002 0.004 0.008 0.016 0.032 0.064 0.100 0.100 0.100", "0", "0"], ran
