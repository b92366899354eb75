"""Exceptions that nobody looked at: told with the line that made the task, while Python says what it says without the agent."""

from __future__ import annotations

import importlib.util
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = """\
import asyncio, gc, logging, sys, weakref

async def inner():
    raise ValueError("once")  # raised

async def fail():
    await inner()

async def turns():
    for _ in range(5):
        await asyncio.sleep(0)

kept = []
"""

# Each makes one failed task on the marked line that nobody looks at.
NEVER_LOOKED_AT = {
    "dropped": """
async def main():
    asyncio.create_task(fail())  # made
    await turns()
""",
    "dropped_later": """
async def main():
    task = asyncio.create_task(fail())  # made
    await turns()
    for generation in (0, 1, 2):
        gc.collect(generation)
    del task
    await turns()
""",
    "in_a_cycle": """
async def main():
    box = [asyncio.create_task(fail())]  # made
    await turns()
    box.append(box)
    del box
    gc.collect()
""",
    "in_an_old_cycle": """
async def wait_and_fail(event):
    await event.wait()
    await inner()

async def main():
    event = asyncio.Event()
    box = [asyncio.create_task(wait_and_fail(event))]  # made
    for generation in (0, 1, 2):
        gc.collect(generation)
        await turns()
    event.set()
    await turns()
    box.append(box)
    del box
    gc.collect()
    await turns()
""",
    "swept_in_between": """
async def main():
    kept.append(asyncio.create_task(fail()))  # made
    await turns()
    for _ in range(10_000):
        asyncio.create_task(asyncio.sleep(0))
    await turns()
    kept.clear()
""",
    "alive_at_the_end": """
async def main():
    kept.append(asyncio.create_task(fail()))  # made
    await turns()
""",
    "alive_and_collected": """
async def main():
    kept.append(asyncio.create_task(fail()))  # made
    await turns()
    gc.collect()
    gc.collect()
""",
    "subclass": """
class Mine(asyncio.Task):
    pass

async def main():
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coro, **more: Mine(coro, loop=loop, **more))
    loop.create_task(fail())  # made
    await turns()
""",
    "own_handler": """
async def main():
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: print(context["message"], context["exception"]))
    asyncio.create_task(fail())  # made
    await turns()
""",
}
if sys.version_info >= (3, 12):
    NEVER_LOOKED_AT["eager"] = """
async def main():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    asyncio.create_task(fail())  # made
    await turns()
"""

# Here somebody looks, or it is no task that failed.
LOOKED_AT = {
    "awaited": """
async def main():
    task = asyncio.create_task(fail())
    try:
        await task
    except ValueError:
        kept.append(task)
""",
    "asked": """
async def main():
    task = asyncio.create_task(fail())
    await turns()
    kept.append(task)
    print(task.exception())
    gc.collect()
""",
    "gathered": """
async def main():
    print(await asyncio.gather(fail(), fail(), return_exceptions=True))
""",
    "first_of_gathered": """
async def main():
    try:
        await asyncio.gather(fail(), fail())
    except ValueError:
        await turns()
""",
    "waited_for": """
async def main():
    done, _ = await asyncio.wait([asyncio.create_task(fail())])
    print([task.exception() for task in done])
""",
    "callback": """
async def main():
    asyncio.create_task(fail()).add_done_callback(lambda task: print(task.exception()))
    await turns()
""",
    "cancelled": """
async def main():
    task = asyncio.create_task(asyncio.sleep(10))
    await turns()
    task.cancel()
    kept.append(task)
    await turns()
""",
    "no_task": """
async def main():
    future = asyncio.get_running_loop().create_future()
    future.set_exception(KeyError())
    del future
    await turns()
    asyncio.get_running_loop().call_exception_handler({"message": "something else", "future": asyncio.current_task()})
""",
    "from_another_thread": """
def ask(loop):
    try:
        asyncio.run_coroutine_threadsafe(fail(), loop).result()
    except ValueError as error:
        print(error)

async def main():
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, ask, loop)
""",
}
if sys.version_info >= (3, 11):
    LOOKED_AT["task_group"] = """
async def main():
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(fail())
    except BaseException as error:
        print(error)
"""

RUN = "\nasyncio.run(main())\n"
UVLOOP = "\nimport uvloop\nloop = uvloop.new_event_loop()\nloop.run_until_complete(main())\nloop.close()\n"


def said(text: str) -> str:
    """Return what Python has said, without addresses and what depends on the way a task is shown."""
    own = re.sub(r"(?s)leakagent: .*? LEAKAGENT_REPORT=off\n", "", text)
    return re.sub(r"0x[0-9a-f]+", "0x", own)


def check(told: Callable[..., Any], python: Callable[..., Any], text: str) -> Any:
    """Return the run under the agent, after comparing it with the one without."""
    after = told(text)
    bare = python("app.py")
    assert (after.ran.returncode, after.ran.stdout) == (bare.returncode, bare.stdout), (after, bare)
    if "kept.append(asyncio.create_task(fail()))  # made" in text and "kept.clear()" not in text:
        # It goes with the interpreter: what 3.13 still can say then depends on which modules have been loaded.
        assert after.ran.stderr.count("never retrieved") <= 1, after
    else:
        assert said(after.ran.stderr) == said(bare.stderr), (after, bare)
    return after


@pytest.mark.parametrize("name", NEVER_LOOKED_AT)
def test_told_once_with_its_creation_line(name: str, told: Callable[..., Any], python: Callable[..., Any]) -> None:
    after = check(told, python, HEAD + NEVER_LOOKED_AT[name] + RUN)
    found = after.only("unretrieved_exception")
    assert after.findings == [found], after
    assert (found["kind"], found["site"]["line"], found["count"]) == ("asyncio.task", after.line("made"), 1), after
    assert found["site"]["function"] == "main"
    assert found["action"] == "none"
    (evidence,) = found["evidence"]
    assert evidence.startswith("ValueError raised in "), found
    assert evidence.endswith(f"app.py:{after.line('raised')} inner"), found
    assert "once" not in evidence  # what an exception says may be confidential


@pytest.mark.parametrize("threshold", [1, 2, 3, 5])
def test_told_with_its_creation_line_whenever_a_collection_comes(threshold: int, told: Callable[..., Any]) -> None:
    # Up to 3.11 in the middle of an allocation, newer ones between two instructions: of the creation, the finalizer, the search.
    text = HEAD + f"gc.set_threshold({threshold})\n" + NEVER_LOOKED_AT["dropped"] + RUN
    after = told(text)
    assert after.only("unretrieved_exception")["site"]["line"] == after.line("made"), after


@pytest.mark.parametrize("name", LOOKED_AT)
def test_not_told_where_somebody_looks(name: str, told: Callable[..., Any], python: Callable[..., Any]) -> None:
    check(told, python, HEAD + LOOKED_AT[name] + RUN).clean()


if importlib.util.find_spec("uvloop"):
    # The eager factory needs a loop of asyncio's own.
    @pytest.mark.parametrize("name", [name for name in NEVER_LOOKED_AT if name != "eager"])
    def test_told_under_uvloop(name: str, told: Callable[..., Any], python: Callable[..., Any]) -> None:
        after = check(told, python, HEAD + NEVER_LOOKED_AT[name] + UVLOOP)
        assert after.only("unretrieved_exception")["site"]["line"] == after.line("made"), after

    @pytest.mark.parametrize("name", LOOKED_AT)
    def test_not_told_under_uvloop(name: str, told: Callable[..., Any], python: Callable[..., Any]) -> None:
        check(told, python, HEAD + LOOKED_AT[name] + UVLOOP).clean()


@pytest.mark.parametrize("raised", ["SystemExit(3)", "KeyboardInterrupt"])
def test_what_ends_the_program_is_not_told(raised: str, told: Callable[..., Any], python: Callable[..., Any]) -> None:
    text = (
        HEAD
        + f"""
async def end():
    raise {raised}

async def main():
    kept.append(asyncio.create_task(end()))
    await asyncio.sleep(600)

try:
    asyncio.run(main())
except BaseException as error:
    print(type(error))
"""
    )
    after = check(told, python, text)
    assert [one for one in after.findings if one["reason"] == "unretrieved_exception"] == [], after


def test_many_are_one_finding_and_nothing_is_kept(told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
from leakagent import agent
logging.disable(logging.CRITICAL)

class Big(Exception):
    pass

alive = weakref.WeakSet()

async def fail_big():
    error = Big()
    alive.add(error)
    try:
        raise error
    finally:
        error = None

async def main():
    for _ in range(2_000):
        asyncio.create_task(fail_big())  # made
    await turns()
    errors = agent.current().parts["asyncio"].errors
    print(len(alive), len(errors.failures), len(errors._failed))

asyncio.run(main())
"""
    )
    after = told(text)
    assert after.lines == ["0 1 0"], after
    found = after.only("unretrieved_exception")
    assert (found["count"], found["site"]["line"]) == (2_000, after.line("made")), after


def test_notes_about_failed_tasks_do_not_pile_up(told: Callable[..., Any]) -> None:
    """They are looked at late, and by then a collection has noted them."""
    text = (
        HEAD
        + """
from leakagent import agent

async def main():
    errors = agent.current().parts["asyncio"].errors
    largest = 0
    for _ in range(100):
        tasks = [asyncio.create_task(fail()) for _ in range(100)]
        await turns()
        gc.collect()
        largest = max(largest, len(errors._failed))
        assert all(task.exception() for task in tasks)
    print(100 <= largest <= 1_100, largest)

asyncio.run(main())
"""
    )
    after = told(text)
    assert after.lines[0].startswith("True"), after
    after.clean()


def test_a_direct_task_that_fails_is_told_by_its_coroutine(told: Callable[..., Any], python: Callable[..., Any]) -> None:
    text = (
        HEAD.replace("async def fail():", "async def fail():  # coroutine")
        + """
async def main():
    asyncio.Task(fail())
    await turns()
"""
        + RUN
    )
    after = check(told, python, text)
    found = after.only("unretrieved_exception")
    assert (found["site"]["line"], found["site"]["function"]) == (after.line("coroutine"), "fail"), after
    assert any("no line of the program was seen making it" in line for line in found["evidence"]), found
