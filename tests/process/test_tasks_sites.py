"""The creation line is right for every way of making a task, and making one is untouched."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = """\
import asyncio
from asyncio import create_task, ensure_future
import threading

async def work():
    await asyncio.get_running_loop().create_future()

async def nothing():
    pass
"""

# Each makes tasks that are still pending when the loop ends, in the function ``make``, on the marked line.
WAYS = {
    "create_task": "async def make():\n    return [asyncio.create_task(work())]  # made",
    "imported_early": "async def make():\n    return [create_task(work())]  # made",
    "loop_method": "async def make():\n    return [asyncio.get_running_loop().create_task(work())]  # made",
    "ensure_future": "async def make():\n    return [ensure_future(work())]  # made",
    "gather": "async def make():\n    return [asyncio.gather(work(), work())]  # made",
    "shield": "async def make():\n    return [asyncio.shield(work())]  # made",
}
if sys.version_info >= (3, 11):
    WAYS["task_group"] = """
async def make():
    async def use():
        async with asyncio.TaskGroup() as group:
            group.create_task(work())  # made
    asyncio.ensure_future(use())
    await asyncio.sleep(0)
    return []
"""
if sys.version_info >= (3, 12):
    WAYS["eager"] = """
async def make():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    asyncio.create_task(nothing())
    return [asyncio.create_task(work())]  # made
"""


@pytest.mark.parametrize("level", ["site", "stack"])
@pytest.mark.parametrize("name", WAYS)
def test_creation_line(name: str, level: str, told: Callable[..., Any]) -> None:
    text = HEAD + WAYS[name] + "\n\nasync def main():\n    global kept\n    kept = await make()\n\nasyncio.run(main())\n"
    after = told(text, options=("--level", level))
    found = [one for one in after.findings if one["site"]["line"] == after.line("made")]
    assert len(found) == 1, after
    assert found[0]["site"]["function"].rpartition(".")[2] in {"make", "use"}
    assert found[0]["site"]["file"] == "app.py"
    assert found[0]["count"] == (2 if name == "gather" else 1)
    assert (len(found[0]["stack"]) > 1) is (level == "stack"), after
    assert after.ran.returncode == 0


def test_from_another_thread(told: Callable[..., Any]) -> None:
    """``run_coroutine_threadsafe`` makes its task in the loop's thread: no line of the caller is on the stack there."""
    text = (
        HEAD
        + """
def from_thread(loop):
    return asyncio.run_coroutine_threadsafe(work(), loop)

async def main():
    global kept
    loop = asyncio.get_running_loop()
    kept = await loop.run_in_executor(None, from_thread, loop)
    await asyncio.sleep(0.01)

asyncio.run(main())
"""
    )
    after = told(text)
    found = after.only("stranded")
    assert found["kind"] == "asyncio.task"
    assert found["site"]["function"] == "work", after
    assert "app.py:6 work" in found["evidence"][0], after


def test_a_handler_of_a_server(told: Callable[..., Any]) -> None:
    """The event loop makes its task, when a connection has come: the handler's line is shown, not that of ``asyncio.run``."""
    text = """\
import asyncio

async def handle(reader, writer):  # handler
    await reader.read()

async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    while len(asyncio.all_tasks()) < 2:
        await asyncio.sleep(0)
    return writer

asyncio.run(main())
"""
    after = told(text)
    found = after.only("outlived_scope", "asyncio.task")
    assert (found["site"]["function"], found["site"]["line"]) == ("handle", after.line("handler")), after


def test_loop_in_a_thread(told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
async def main():
    global kept
    kept = asyncio.create_task(work())  # made
    await asyncio.sleep(0)

thread = threading.Thread(target=lambda: asyncio.run(main()))
thread.start()
thread.join()
"""
    )
    after = told(text)
    found = after.only("stranded")
    assert (found["site"]["line"], found["action"]) == (after.line("made"), "cancelled")


def test_arguments_and_task_factory_are_untouched(told: Callable[..., Any]) -> None:
    text = """\
import asyncio, contextvars, inspect, sys

variable = contextvars.ContextVar("variable", default="outer")
made = []

class MyTask(asyncio.Task):
    pass

def factory(loop, coro, **kwargs):
    made.append(sorted(kwargs))
    return MyTask(coro, loop=loop, **kwargs)

async def look():
    return variable.get(), asyncio.current_task().get_name()

async def main():
    loop = asyncio.get_running_loop()
    print(await loop.create_task(look(), name="named"))
    if sys.version_info >= (3, 11):
        context = contextvars.copy_context()
        context.run(variable.set, "inner")
        print(await asyncio.create_task(look(), context=context, name="in context"))
    else:
        print(("inner", "in context"))
    if sys.version_info >= (3, 14):
        task = asyncio.create_task(look(), eager_start=True)
        print(task.done())
    else:
        print(True)
    loop.set_task_factory(factory)
    task = asyncio.create_task(look())
    print(type(task).__name__, made[0] in ([], ["name"], ["context"], ["context", "name"], ["context", "eager_start", "name"]))
    await task
    print(loop.get_task_factory() is factory)
    try:
        loop.create_task(look(), nonsense=1)
    except TypeError as error:
        print("TypeError")
    print(inspect.signature(asyncio.BaseEventLoop.create_task))
    coro = look()
    try:
        loop.create_task(12)
    except (TypeError, AssertionError) as error:
        print(type(error).__name__)
    coro.close()

asyncio.run(main())
"""
    after = told(text)
    after.clean()
    assert after.lines[:5] == ["('outer', 'named')", "('inner', 'in context')", "True", "MyTask True", "True"], after


def test_same_output_as_bare(program: Callable[..., Any], python: Callable[..., Any]) -> None:
    text = """\
import asyncio, inspect
print(inspect.signature(asyncio.BaseEventLoop.create_task), asyncio.BaseEventLoop.create_task.__qualname__)
async def main():
    try:
        asyncio.get_running_loop().create_task(12)
    except Exception as error:
        print(type(error), error)
    coro = asyncio.sleep(0)
    try:
        asyncio.get_running_loop().create_task(coro, nonsense=1)
    except Exception as error:
        print(type(error), error)
    coro.close()
asyncio.run(main())
"""
    path = program(text)
    bare, agent = python(path), python("-m", "leakagent", path)
    assert (agent.returncode, agent.stdout, agent.stderr) == (bare.returncode, bare.stdout, bare.stderr)


@pytest.mark.parametrize(("level", "function", "line"), [("count", "<unknown>", 0), ("off", None, None)])
def test_levels_without_sites(level: str, function: str, line: int, told: Callable[..., Any]) -> None:
    text = HEAD + "async def main():\n    global kept\n    kept = create_task(work())\nasyncio.run(main())\n"
    after = told(text, options=("--level", level))
    if function is None:
        after.clean()
    else:
        assert after.only("stranded")["site"]["function"] == function
        assert after.only("stranded")["site"]["line"] == line
