"""The end of a loop: whatever its tasks do, it ends within the grace, who refuses is named, and the program's own end stays."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = """\
import asyncio, sys, threading, time

async def work():
    await asyncio.sleep(600)

kept = []
def keep(coro):
    kept.append(asyncio.ensure_future(coro))
    return kept[-1]

async def turns():
    for _ in range(5):
        await asyncio.sleep(0)
"""

PLAIN = "\nasyncio.run(main())\nprint('end')\n"
UVLOOP = """
import uvloop
loop = uvloop.new_event_loop()
asyncio.set_event_loop(loop)
try:
    loop.run_until_complete(main())
finally:
    asyncio.runners._cancel_all_tasks(loop)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
print('end')
"""
RUNS = {"asyncio": PLAIN}
if importlib.util.find_spec("uvloop"):
    RUNS["uvloop"] = UVLOOP
if sys.version_info >= (3, 11):
    RUNS["Runner"] = "\nwith asyncio.Runner() as runner:\n    runner.run(main())\nprint('end')\n"
RUNS["thread"] = "\nthread = threading.Thread(target=lambda: asyncio.run(main()))\nthread.start()\nthread.join()\nprint('end')\n"


@pytest.mark.parametrize("how", RUNS)
def test_two_seconds_of_clean_up(how: str, told: Callable[..., Any]) -> None:
    """With the default grace of 3 s."""
    text = (
        HEAD
        + """
async def clean_up():
    try:
        await work()
    except asyncio.CancelledError:
        await asyncio.sleep(2)
        print("cleaned up")
        raise

async def main():
    keep(clean_up())  # made
    await turns()
"""
        + RUNS[how]
    )
    after = told(text)
    assert after.lines == ["cleaned up", "end"], after
    found = after.only("outlived_scope")
    assert (found["action"], found["kind"]) == ("cancelled", "asyncio.task"), after
    assert after.stages["loops"]["forced"] == 0


@pytest.mark.parametrize("how", RUNS)
def test_one_that_refuses_and_one_that_does_not(how: str, told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
async def refuse():
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

async def main():
    kept.append(asyncio.ensure_future(refuse()))  # refuses
    kept.append(asyncio.ensure_future(work()))  # ends
    await turns()
"""
        + RUNS[how]
    )
    after = told(text, env={"LEAKAGENT_GRACE": "0.5"})
    assert after.lines == ["end"], after
    refused, ended = after.only("refused_cleanup"), after.only("outlived_scope")
    assert (refused["site"]["line"], refused["action"]) == (after.line("refuses"), "released"), after
    assert (ended["site"]["line"], ended["action"]) == (after.line("ends"), "cancelled"), after
    assert after.ran.returncode == 0
    assert "Traceback" not in after.ran.stderr, after
    assert "Task was destroyed" not in after.ran.stderr, after


@pytest.mark.parametrize("how", RUNS)
def test_one_that_makes_others_when_it_is_cancelled(how: str, told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
async def again():
    try:
        await work()
    finally:
        keep(again())  # again
        print("again") if len(kept) == 2 else None

async def main():
    keep(again())  # made
    await turns()
"""
        + RUNS[how]
    )
    after = told(text, env={"LEAKAGENT_GRACE": "0.5"})
    assert after.lines == ["again", "end"], after
    assert after.ran.returncode == 0
    lines = {one["site"]["line"] for one in after.findings}
    assert after.line("again") in lines or len(after.findings) >= 1, after
    assert {one["reason"] for one in after.findings} <= {"outlived_scope", "lost_task"}, after


GATHER = """
import contextlib, os, signal

def stop():
    os.kill(os.getpid(), signal.SIGTERM)

@contextlib.asynccontextmanager
async def lifespan():
    keep(work())
    await turns()
    yield
    {before}
    try:
        await asyncio.wait_for(asyncio.gather(*asyncio.all_tasks(), return_exceptions=True), 0.1)
    except BaseException as error:
        print(type(error).__name__, flush=True)
    # Up to 3.11 it ends by itself, on newer ones by a RecursionError inside of asyncio and, without a signal, never.
    timer = threading.Timer(0.5, stop)
    timer.start()
    timer.join()
    await asyncio.sleep(0)

async def main():
    timer = threading.Timer(1.5, stop)
    timer.daemon = True
    timer.start()
    async with lifespan():
        await turns()
"""

CANCEL_ALL = "for task in asyncio.all_tasks(): task.cancel()"


@pytest.mark.parametrize("before", ["pass", CANCEL_ALL])
@pytest.mark.parametrize("how", [name for name in RUNS if name != "thread"])
def test_gather_of_all_tasks_with_itself_ends_by_a_signal(
    how: str, before: str, python: Callable[..., Any], program: Callable[..., Any]
) -> None:
    """A task that waits for itself: bare such a program hangs on 3.12 and newer, and dies of the signal without any clean-up."""
    path = program(HEAD + GATHER.format(before=before) + RUNS[how])
    ran = python("-m", "leakagent", "--budget", "5", "--grace", "1", path)
    assert ran.returncode == -15, ran
    assert "Fatal Python error" not in ran.stderr, ran
    assert "switched off" not in ran.stderr, ran


@pytest.mark.parametrize("how", RUNS)
def test_the_current_task_is_never_waited_for(how: str, told: Callable[..., Any]) -> None:
    """`leakagent.shutdown` and a loop's end that are called from a task neither cancel that task nor wait for it."""
    text = (
        HEAD
        + """
import leakagent

async def main():
    keep(work())  # made
    await turns()
    found = leakagent.shutdown()["findings"]
    print([(one["reason"], one["site"]["function"]) for one in found])
    await asyncio.sleep(0.01)
    print("still here", asyncio.current_task().done())
    kept[0].cancel()
    await turns()
"""
        + RUNS[how]
    )
    after = told(text)
    assert after.lines == ["[('outlived_scope', 'keep')]", "still here False", "end"], after
    after.clean()


@pytest.mark.parametrize("how", RUNS)
def test_asynchronous_generators_are_closed(how: str, told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
async def numbers():
    try:
        for number in range(10):
            yield number
    finally:
        await asyncio.sleep(0)
        print("closed")

async def main():
    one = numbers()
    kept.append(one)
    print(await one.__anext__())
"""
        + RUNS[how]
    )
    after = told(text)
    assert after.lines == ["0", "closed", "end"], after
    after.clean()


@pytest.mark.parametrize("how", RUNS)
def test_a_thread_of_the_executor_that_never_returns(how: str, told: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
async def main():
    started = threading.Event()
    def stuck():
        started.set()
        threading.Event().wait()  # stuck
    keep(asyncio.to_thread(stuck))
    while not started.is_set():
        await asyncio.sleep(0.01)
"""
        + RUNS[how]
    )
    after = told(text, options=("--budget", "4"))
    assert after.lines == ["end"], after
    assert after.ran.returncode == 0
    assert any(f"app.py:{after.line('stuck')} stuck" in line for one in after.findings for line in one["evidence"]), after


@pytest.mark.parametrize("ends", ["sys.exit(7)", "raise KeyError('mine')"])
@pytest.mark.parametrize("how", [name for name in RUNS if name != "thread"])
def test_status_and_exception_stay(how: str, ends: str, told: Callable[..., Any], python: Callable[..., Any]) -> None:
    text = (
        HEAD
        + f"""
async def main():
    keep(work())
    await turns()
    {ends}
"""
        + RUNS[how]
    )
    after = told(text)
    bare = python("app.py")
    assert (after.ran.returncode, after.ran.stdout) == (bare.returncode, bare.stdout), (after, bare)
    assert after.ran.stderr.count("KeyError: 'mine'") == bare.stderr.count("KeyError: 'mine'"), (after, bare)
    assert after.ran.returncode in {1, 7}


def test_cancelled_error_that_main_ends_with(told: Callable[..., Any], python: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
async def main():
    keep(work())
    await turns()
    asyncio.current_task().cancel()
    await asyncio.sleep(0)

try:
    asyncio.run(main())
except asyncio.CancelledError as error:
    print(type(error), error.args)
"""
    )
    after = told(text)
    assert after.ran.stdout == python("app.py").stdout, after
    assert after.only("outlived_scope")["action"] == "cancelled"


def test_an_exception_in_the_clean_up_is_told_by_python_once(told: Callable[..., Any], python: Callable[..., Any]) -> None:
    text = (
        HEAD
        + """
async def breaks():
    try:
        await work()
    finally:
        raise KeyError("clean-up")

async def main():
    keep(breaks())
    await turns()
"""
        + PLAIN
    )
    after = told(text)
    bare = python("app.py")
    for words in ("KeyError: 'clean-up'", "unhandled exception during asyncio.run() shutdown"):
        assert after.ran.stderr.count(words) == bare.stderr.count(words) == 1, (after, bare)
    assert [one["reason"] for one in after.findings] == ["outlived_scope"], after


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "SystemExit(0)"])
@pytest.mark.parametrize("how", [name for name in RUNS if name not in {"thread", "uvloop"}])
def test_what_was_interrupted_has_not_outlived_anything(how: str, raised: str, told: Callable[..., Any]) -> None:
    """Also where nobody has called ``asyncio.run``: the exception has passed through what the loop was run with."""
    text = (
        HEAD
        + f"""
def crash():
    raise {raised}

async def main():
    keep(work())
    asyncio.get_running_loop().call_soon(crash)
    await work()
"""
        + "\ntry:\n"
        + "".join(f"    {line}\n" for line in RUNS[how].strip().splitlines())
        + f"except {raised.partition('(')[0]}:\n    print('caught')\n"
    )
    after = told(text)
    assert after.lines == ["caught"], after
    assert after.findings == [], after
