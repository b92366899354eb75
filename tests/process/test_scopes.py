"""``leakagent.scope``: what was created inside and is alive after it, and nothing else."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEAD = """\
import asyncio, gc, multiprocessing, pickle, threading, time
from concurrent.futures import ThreadPoolExecutor
import leakagent
from leakagent import scope

kept = []
gate = threading.Event()

async def work():
    await asyncio.sleep(600)

async def turns():
    for _ in range(5):
        await asyncio.sleep(0)

def thread():
    one = threading.Thread(target=gate.wait, daemon=True)
    one.start()  # thread
    kept.append(one)

def pool():
    kept.append(ThreadPoolExecutor(1))  # pool
    kept[-1].submit(gate.wait)
"""


def of_scopes(after: Any) -> list[tuple[str, str, int, int, str]]:
    """Return reason, kind, line, count and action of the findings that name a scope, by line."""
    found = [one for one in after.findings if any("leakagent.scope" in line for line in one["evidence"])]
    return sorted((one["reason"], one["kind"], one["site"]["line"], one["count"], one["action"]) for one in found)


def test_each_kind_once(told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
def child(end):
    gc.collect()
    end.wait()

async def main(context, end):
    async with scope("all of it") as one:
        print(one)
        kept.append(asyncio.create_task(work()))  # task
        thread()
        pool()
        process = context.Process(target=child, args=(end,))
        process.start()  # process
        gc.collect()
    # Ended after their scope: each is told once, as what it was then.
    kept[0].cancel()
    gate.set()
    kept[-1].shutdown()
    end.set()
    process.join()

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    asyncio.run(main(context, context.Event()))
"""
    )
    after = told(text)
    assert after.lines == ["<leakagent.scope 'all of it' on_leak='warn'>"], after
    expected = [("task", "asyncio.task"), ("thread", "thread"), ("pool", "thread_pool"), ("process", "process")]
    assert of_scopes(after) == sorted(("outlived_scope", kind, after.line(marker), 1, "none") for marker, kind in expected), after
    assert len(after.findings) == len(expected), after
    assert after.only("outlived_scope", "asyncio.task")["evidence"][0] == "created in leakagent.scope('all of it')"
    assert after.ran.returncode == 0


def test_nothing_is_told_of_what_has_ended_or_serves(told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
shared = ThreadPoolExecutor(4)

async def main():
    async with scope("outer", on_leak="raise"):
        await asyncio.to_thread(int)  # the loop's own executor begins
        shared.submit(int).result()  # and a worker of one that is older
        await asyncio.create_task(asyncio.sleep(0))
        one = asyncio.create_task(work())
        await turns()
        one.cancel()
    with scope("ending", on_leak="raise"):
        one = asyncio.create_task(work())
        await turns()
        one.cancel()
    with scope("synchronous", on_leak="raise"):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(int)
        queue = multiprocessing.Queue()
        queue.put(1)  # starts a feeder thread
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
    queue.get()
    queue.close()
    queue.join_thread()

with scope("around", on_leak="raise"):
    asyncio.run(main())
shared.shutdown()
"""
    )
    after = told(text)
    after.clean()
    assert after.ran.stderr == ""


CONCURRENT = """
async def inside(name, go, done):
    async with scope(name):
        go.set()
        await done.wait()

async def other(go, done):
    await go.wait()
    kept.append(asyncio.create_task(work()))
    kept[-1].cancel  # it is nobody's scope's
    done.set()
    await turns()
    kept[-1].cancel()

async def grandchild():
    kept.append(asyncio.create_task(work()))  # deep
    await turns()

async def mine():
    async with scope("mine"):
        await asyncio.create_task(grandchild())

async def beside():
    async with scope("beside"):
        kept.append(asyncio.create_task(work()))  # beside
        await turns()

async def main():
    go, done = asyncio.Event(), asyncio.Event()
    await asyncio.gather(inside("empty", go, done), other(go, done))
    await asyncio.gather(mine(), beside())
    for task in kept:
        task.cancel()
"""

UVLOOP = "\nimport uvloop\nloop = uvloop.new_event_loop()\nloop.run_until_complete(main())\nloop.close()\n"


def check_concurrent(after: Any) -> None:
    """Assert that each scope has what its own tasks made."""
    found = {one["site"]["line"]: one["evidence"][0] for one in after.findings}
    assert found == {
        after.line("deep"): "created in leakagent.scope('mine')",
        after.line("beside"): "created in leakagent.scope('beside')",
    }, after


def test_concurrent_tasks_have_a_scope_each(told: Callable[..., Any]) -> None:
    check_concurrent(told(HEAD + CONCURRENT + "\nasyncio.run(main())\n"))


if importlib.util.find_spec("uvloop"):

    def test_concurrent_tasks_under_uvloop(told: Callable[..., Any]) -> None:
        check_concurrent(told(HEAD + CONCURRENT + UVLOOP))

    def test_the_executor_of_uvloop_is_its_own(told: Callable[..., Any]) -> None:
        text = (
            HEAD
            + """
async def main():
    async with scope("a", on_leak="raise"):
        await asyncio.get_running_loop().run_in_executor(None, int)
    await asyncio.get_running_loop().shutdown_default_executor()
"""
            + UVLOOP
        )
        told(text).clean()


def test_nested_scopes_tell_once_and_from_inside(told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
async def main():
    async with scope("outer"):
        with scope("inner"):
            kept.append(asyncio.create_task(work()))  # inner
            thread()
        kept.append(asyncio.create_task(work()))  # outer
    for task in kept[::2]:
        task.cancel()

asyncio.run(main())
"""
    )
    after = told(text)
    found = {one["site"]["line"]: (one["count"], one["evidence"][0]) for one in after.findings}
    assert found == {
        after.line("inner"): (1, "created in leakagent.scope('inner')"),
        after.line("thread"): (1, "created in leakagent.scope('inner')"),
        after.line("outer"): (1, "created in leakagent.scope('outer')"),
    }, after


def test_many_times_the_same_is_one_finding(told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
async def main():
    for number in range(50):
        async with scope("again"):
            kept.append(asyncio.create_task(work()))  # made
        kept.pop().cancel()

asyncio.run(main())
"""
    )
    after = told(text)
    assert of_scopes(after) == [("outlived_scope", "asyncio.task", after.line("made"), 50, "none")], after


def test_raise(told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
async def main():
    try:
        async with scope("strict", on_leak="raise"):
            kept.append(asyncio.create_task(work()))  # task
            thread()
    except leakagent.LeakError as error:
        print(str(error).replace("\\n", "|"))
        print(error.scope, len(error.leaks), error.__context__, error.__cause__)
        again = pickle.loads(pickle.dumps(error))
        print(type(again) is leakagent.LeakError, str(again) == str(error), isinstance(error, RuntimeError))
    for error in (KeyError("mine"), asyncio.CancelledError()):
        try:
            with scope("strict", on_leak="raise"):
                kept.append(asyncio.create_task(work()))
                raise error
        except BaseException as caught:
            print(caught is error)
    for one in asyncio.all_tasks() - {asyncio.current_task()}:
        one.cancel()

asyncio.run(main())
"""
    )
    after = told(text)
    places = [
        f"asyncio.task created at app.py:{after.line('task')} main",
        f"thread created at app.py:{after.line('thread')} thread",
    ]
    first, *rest = after.lines
    head, *lines = first.split("|")
    assert head == "still alive after leakagent.scope('strict'):", after
    assert sorted(line.strip() for line in lines) == places, after
    assert rest == ["strict 2 None None", "True True True", "True", "True"], after
    # What was left is in the report as well.
    assert sum(one["count"] for one in after.findings) == 4, after
    assert after.ran.returncode == 0


def test_cancel_waits_for_the_tasks_and_ends_the_rest(told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
async def clean_up():
    try:
        await work()
    finally:
        await asyncio.sleep(0.05)
        print("cleaned up")

async def refuse():
    while not gate.is_set():
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            print("no")

def child(end):
    end.wait()

async def main(context, end):
    async with scope("tidy", on_leak="cancel"):
        first = asyncio.create_task(clean_up())  # task
        second = asyncio.create_task(refuse())  # refuses
        waiting = ThreadPoolExecutor(1)  # queue
        waiting.submit(gate.wait)
        queued = waiting.submit(print, "never")
        process = context.Process(target=child, args=(end,))
        process.start()  # process
        await turns()
    print(first.cancelled(), second.done(), queued.cancelled())
    process.join()
    print(process.exitcode)
    gate.set()
    await second

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    asyncio.run(main(context, context.Event()))
"""
    )
    after = told(text, env={"LEAKAGENT_GRACE": "1"})
    assert sorted(after.lines[:2]) == ["cleaned up", "no"], after
    assert after.lines[2:] == ["True False True", "-15"], after
    assert of_scopes(after) == sorted(
        [
            ("outlived_scope", "asyncio.task", after.line("task"), 1, "cancelled"),
            ("refused_cleanup", "asyncio.task", after.line("refuses"), 1, "none"),
            ("outlived_scope", "thread_pool", after.line("queue"), 1, "closed"),
            ("outlived_scope", "process", after.line("process"), 1, "terminated"),
        ]
    ), after
    assert len(after.findings) == 4, after


def test_cancel_without_waiting(told: Callable[..., Any]) -> None:
    """In the synchronous form, around a coroutine's part and around the loop of another thread."""
    text = (
        HEAD
        + """
async def make():
    kept.append(asyncio.create_task(work()))  # elsewhere

async def main():
    with scope("here", on_leak="cancel"):
        task = asyncio.create_task(work())  # here
        await turns()
    print(task.cancelled())
    await turns()
    print(task.cancelled())

asyncio.run(main())
loop = asyncio.new_event_loop()
thread = threading.Thread(target=loop.run_forever)
thread.start()
with scope("from outside", on_leak="cancel"):
    # Callbacks run in the context that they were made in, and so does what they call.
    asyncio.run_coroutine_threadsafe(make(), loop).result()
try:
    asyncio.run_coroutine_threadsafe(asyncio.wait(kept), loop).result()
    print(kept[0].cancelled())
finally:
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
"""
    )
    after = told(text)
    assert after.lines == ["False", "True", "True"], after
    assert of_scopes(after) == sorted(
        ("outlived_scope", "asyncio.task", after.line(marker), 1, "cancelled") for marker in ("here", "elsewhere")
    ), after


def test_a_scope_that_is_cut_off_tells_nothing(told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
try:
    with scope("cut off", on_leak="raise"):
        thread()
        raise KeyboardInterrupt
except KeyboardInterrupt:
    print("cut off")
gate.set()
"""
    )
    after = told(text)
    after.clean()
    assert after.lines == ["cut off"]


@pytest.mark.parametrize("front", [[], ["-m", "leakagent"]])
def test_wrong_use(front: list[str], python: Callable[..., Any], program: Callable[..., Path]) -> None:
    text = (
        HEAD
        + """
try:
    scope("x", on_leak="explode")
except ValueError as error:
    print(error)
one = scope("x")
with one:
    pass
try:
    with one:
        pass
except RuntimeError as error:
    print(error)
"""
    )
    ran = python(*front, program(text))
    assert ran.stdout.splitlines() == [
        "scope() does not know on_leak='explode' (allowed: warn, raise, cancel)",
        "<leakagent.scope 'x' on_leak='warn'> was entered before: make one for each block",
    ]
    assert (ran.returncode, ran.stderr) == (0, "")


def test_without_the_agent_it_does_nothing(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    text = (
        HEAD
        + """
import sys

async def main():
    for mode in ("warn", "raise", "cancel"):
        async with scope("a", on_leak=mode):
            kept.append(asyncio.create_task(work()))
            with scope("b", mode):
                thread()
    print([task.done() for task in kept[::2]])

asyncio.run(main())
print(any(name.startswith("leakagent.instrumentation.") and "task" in name for name in sys.modules))
gate.set()
"""
    )
    ran = python(program(text))
    assert ran.stdout.splitlines() == ["[False, False, False]", "False"], ran
    assert (ran.returncode, ran.stderr) == (0, "")


def test_agent_that_comes_and_goes_inside(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    text = (
        HEAD
        + """
with scope("before", on_leak="raise"):
    leakagent.install(report="off")
    with scope("during", on_leak="raise"):
        thread()
        leakagent.uninstall()
    leakagent.install(report="off")
    thread()
found = leakagent.snapshot()["findings"]
try:
    with scope("now", on_leak="raise"):
        thread()
except leakagent.LeakError as error:
    print(len(found), error.scope, len(leakagent.snapshot()["findings"]))
gate.set()
"""
    )
    ran = python(program(text))
    assert ran.stdout == "0 now 1\n", ran
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_forked_child_that_leaves_its_parents_scope(told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
import os

with scope("parent", on_leak="raise"):
    one = threading.Thread(target=gate.wait)
    one.start()
    pid = os.fork()
    if pid == 0:
        leave = os._exit
    else:
        os.waitpid(pid, 0)
        gate.set()
        one.join()
if pid == 0:
    print("child", flush=True)
    leave(0)
print("parent")
"""
    )
    after = told("import warnings; warnings.simplefilter('ignore')\n" + text)
    after.clean()
    assert after.lines == ["child", "parent"], after


def test_making_tasks_costs_nothing_more_inside(told: Callable[..., Any]) -> None:
    """Counted: the same calls of Python functions per task with and without an open scope; and after the last one nothing is left."""
    text = (
        HEAD
        + """
import sys
from leakagent import agent, scopes

async def nothing():
    pass

def count():
    calls = []
    sys.setprofile(lambda frame, event, argument: calls.append(frame.f_code.co_name) if event == "call" else None)
    task = asyncio.create_task(nothing())
    sys.setprofile(None)
    return task, calls

async def main():
    count()
    before, expected = count()
    with scope("open"):
        inside, seen = count()
        print(agent.current().registry.scoped is not None)
    print(seen == expected, len(seen))
    await asyncio.gather(before, inside)
    print(agent.current().registry.scoped, scopes._open)

asyncio.run(main())
"""
    )
    after = told(text)
    assert [line.split()[0] for line in after.lines] == ["True", "True", "None"], after
    assert after.lines[2] == "None []"
