"""`asyncio.create_task` is replaced and asyncio's registry taken over: what a program can see of both is as it was."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

#: Prints what differs between the ways, and between the versions, of creating a task.
WAYS = """\
import asyncio, contextvars, inspect, sys, weakref

async def nothing(): pass

async def names(loop):
    tasks = [asyncio.create_task(nothing()), asyncio.create_task(nothing(), name="mine"), loop.create_task(nothing())]
    tasks.append(loop.create_task(nothing(), name="other"))
    tasks.append(asyncio.create_task(nothing()))
    print([task.get_name() for task in tasks], len(asyncio.all_tasks()))
    await asyncio.gather(*tasks)
    print(len(asyncio.all_tasks()))

async def context():
    import contextvars
    variable = contextvars.ContextVar("variable", default=0)
    context = contextvars.copy_context()
    context.run(variable.set, 7)
    async def look(): return variable.get()
    if sys.version_info >= (3, 11):
        print(await asyncio.create_task(look(), context=context), await asyncio.create_task(look()))

async def wrong():
    for call in (lambda: asyncio.create_task(3), lambda: asyncio.get_running_loop().create_task(3), lambda: asyncio.create_task()):
        try: call()
        except TypeError as error: print(error)

class Loop(asyncio.SelectorEventLoop):
    def create_task(self, coro, **more):
        print("own method")
        return super().create_task(coro, **more)

def on_the_object(loop):
    original = loop.create_task
    def create_task(coro, **more):
        print("own attribute")
        return original(coro, **more)
    loop.create_task = create_task

async def fails(): raise ValueError("failed")

async def factories(loop):
    class Mine(asyncio.Task): pass
    found = [lambda loop, coro, **more: Mine(coro, loop=loop, **more), lambda loop, coro: asyncio.Task(coro, loop=loop), nothing]
    found += [getattr(asyncio, "eager_task_factory", None)]
    for number, factory in enumerate(found):
        loop.set_task_factory(factory)
        for make in (asyncio.create_task, loop.create_task):
            for more in ({}, {"name": "mine"}, {"context": contextvars.copy_context()}):
                for work in (nothing, lambda: asyncio.sleep(0), fails):
                    coroutine = work()
                    try: task = make(coroutine, **more)
                    except Exception as error:
                        coroutine.close()
                        print(number, type(error).__name__, str(error).partition("(")[0])
                        continue
                    print(number, type(task).__name__, task.get_name(), task.done())
                    print(await asyncio.wait([task]) and task.exception())
    loop.set_task_factory(None)

async def main():
    loop = asyncio.get_running_loop()
    print(inspect.signature(asyncio.create_task), inspect.signature(asyncio.BaseEventLoop.create_task))
    print(asyncio.create_task.__module__, asyncio.create_task is asyncio.tasks.create_task)
    await names(loop)
    await context()
    await wrong()
    on_the_object(loop)
    await asyncio.create_task(nothing())
    del loop.create_task
    loop.set_task_factory(lambda loop, coro, **more: print("factory", *more) or asyncio.Task(coro, loop=loop, **more))
    await asyncio.create_task(nothing())
    await factories(loop)
    loop.set_debug(True)
    for task in (asyncio.create_task(nothing()), loop.create_task(nothing())):
        print([frame.name for frame in task._source_traceback][-2:])
        await task
    loop.set_debug(False)
    direct = asyncio.Task(nothing())
    print(direct in asyncio.all_tasks())
    await direct

asyncio.run(main())
loop = Loop()
async def one(): await asyncio.create_task(nothing())
loop.run_until_complete(one())
loop.close()
try: loop.create_task(nothing())
except RuntimeError as error: print(error)
try: asyncio.create_task(nothing())
except RuntimeError as error: print(error)
"""


def test_everything_but_the_speed_is_as_it_was(told: Callable[..., Any], python: Callable[..., Any], program: Any) -> None:
    bare = python("-W", "ignore", program(WAYS))
    after = told(WAYS.replace("import asyncio,", "import warnings; warnings.simplefilter('ignore')\nimport asyncio,", 1))
    assert bare.returncode == 0, bare
    assert after.lines == bare.stdout.splitlines()
    after.clean()


def test_this_interpreters_code_is_known(python: Callable[..., Any]) -> None:
    # In a new release of Python the code may be another one: then it is to be read, and added to the table.
    code = """
import asyncio
from leakagent.instrumentation import task_functions
from leakagent.shutdown import interpreter
functions = [getattr(asyncio.tasks, name) for name in interpreter.creating_functions()]
functions += [asyncio.TaskGroup.create_task] if hasattr(asyncio, "TaskGroup") else []
print(*(interpreter.create_task_form(function) in task_functions.FUNCTIONS for function in functions))
print(interpreter.create_task_form(asyncio.BaseEventLoop.create_task) in task_functions.METHODS)
"""
    assert set(python("-c", code).stdout.split()) == {"True"}


REGISTRY = """\
import asyncio, gc, os, weakref
import leakagent
from leakagent import agent

registry = getattr(asyncio.tasks, "_all_tasks", getattr(asyncio.tasks, "_scheduled_tasks", None))
original = asyncio.create_task.__wrapped__
print(type(registry).__name__, isinstance(registry, weakref.WeakSet))

async def wait(event): await event.wait()

async def main():
    event = asyncio.Event()
    tasks = [asyncio.create_task(wait(event)) for _ in range(3)] + [asyncio.Task(wait(event))]
    here = asyncio.current_task()
    await asyncio.sleep(0)
    print(len(registry), set(registry) == {*tasks, here}, tasks[0] in registry, event in registry, 3 in registry)
    pid = os.fork()
    if not pid:
        os._exit(len(set(registry)) + 100 * (type(registry) is weakref.WeakSet))
    print(os.waitpid(pid, 0)[1] >> 8)
    {change}
    print(type(registry).__name__, len(registry), set(registry) == {*tasks, here}, "add" in vars(registry))
    more = asyncio.create_task(wait(event))
    print(len(registry), more in registry, asyncio.all_tasks() == {*tasks, here, more})
    gc.collect()
    event.set()
    await asyncio.gather(*tasks, more)

asyncio.run(main())
print(len(registry))
leakagent.uninstall()
print(asyncio.create_task is asyncio.tasks.create_task is original, type(registry).__name__, "add" in vars(registry))
"""


@pytest.mark.parametrize("change", ["pass", "registry.discard(event)", "registry == 3"])
def test_the_registry_that_is_taken_over(change: str, python: Callable[..., Any], program: Any) -> None:
    if sys.version_info >= (3, 14):  # tasks are in a list in C: what has the name is for others
        ran = python("-m", "leakagent", "-c", "import asyncio; print(type(asyncio.tasks._scheduled_tasks).__name__)")
        assert ran.stdout == "WeakSet\n"
        return
    ran = python("-m", "leakagent", program(REGISTRY.replace("{change}", change)))
    taken = change == "pass"
    assert ran.stdout.splitlines() == [
        "_Taken True",
        "5 True True False False",
        "105",
        f"{'_Taken' if taken else 'WeakSet'} 5 True {taken}",
        "6 True True",
        "0",
        "True WeakSet False",
    ], ran
    assert ran.stderr == ""


SEEN = """\
import asyncio, sys
from leakagent import agent

async def nothing(): pass

async def main():
    loop = asyncio.get_running_loop()
    for _ in range(1000):
        await asyncio.gather(nothing(), loop.create_task(nothing()), asyncio.create_task(nothing()), asyncio.ensure_future(nothing()))
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
        for _ in range(1000):
            await asyncio.gather(nothing(), loop.create_task(nothing()), asyncio.create_task(nothing()), asyncio.sleep(0))

asyncio.run(main())
"""


def test_every_task_is_counted(told: Callable[..., Any]) -> None:
    after = told(SEEN)
    made = 8001 if sys.version_info >= (3, 12) else 4001
    totals = after.report["totals"]["asyncio.task"]
    assert (totals["created"] >= made, totals["created"] <= made + 4, totals["live"]) == (True, True, 0), totals


C_MODULE_FIRST = """\
import _asyncio
import asyncio, gc

async def waits():
    await asyncio.get_running_loop().create_future()

async def main():
    asyncio.create_task(waits())
    await asyncio.sleep(0)
    gc.collect()
    # CPython's own fault: from 3.12 to 3.13 the registry stays empty.
    print(len(asyncio.all_tasks()))

asyncio.run(main())
"""


def test_the_c_module_may_be_imported_before_asyncio(
    python: Callable[..., Any], program: Callable[..., Any], told: Callable[..., Any]
) -> None:
    bare, under = python(program(C_MODULE_FIRST, "bare.py")), told(C_MODULE_FIRST)
    assert (under.ran.returncode, len(under.lines)) == (bare.returncode, 1) == (0, 1), (bare, under)
    assert under.only("lost_task")["count"] == 1
