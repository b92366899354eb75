"""Signals and event loops: those in other threads end as the main thread's does, and who hands a signal back hands it to the agent."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Started

HEAD = """\
import asyncio, atexit, os, signal, socket, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
atexit.register(print, "exit handler")
async def work():
    try:
        begun.set()
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.01)
        print("work ends")
begun = threading.Event()
def wait():
    begun.wait()
    print("ready")
    while True: time.sleep(0.05)
"""

ELSEWHERE = {
    "thread": "threading.Thread(target=lambda: asyncio.run(work())).start()  # made\nwait()",
    "thread that runs for ever": """
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever).start()  # made
asyncio.run_coroutine_threadsafe(work(), loop)
try:
    wait()
finally:
    print(asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "used until the end"), loop).result())
""",
    "idle thread": """
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever).start()  # made
begun.set()
wait()
""",
    "worker": "pool = ThreadPoolExecutor(1)\nfuture = pool.submit(lambda: asyncio.run(work()))\nwait()",
    "another loop's worker": """
async def main():
    asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(work())))
    while not begun.is_set(): await asyncio.sleep(0.01)
    print("ready")
    while True: await asyncio.sleep(0.05)
asyncio.run(main())
""",
}


@pytest.mark.parametrize("where", ELSEWHERE)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_loop_in_another_thread_is_ended(where: str, number: int, started: Callable[..., Started]) -> None:
    # The grace is longer than the test may take: who waits for it fails.
    running = started(HEAD + ELSEWHERE[where], LEAKAGENT_GRACE="300", LEAKAGENT_BUDGET="300")
    running.until("ready")
    running.send(number)
    assert running.end() == -number, running.errors
    wanted = ["used until the end"] if "for ever" in where else []
    wanted += [] if "idle" in where else ["work ends"]
    assert running.lines == ["ready", *wanted, "exit handler"], running.errors
    assert "never retrieved" not in running.errors
    assert "destroyed" not in running.errors
    found = [one for one in running.report["findings"] if one["kind"] == "thread"]
    if "thread" in where:
        assert [(one["reason"], one["action"]) for one in found] == [("blocks_exit", "cancelled")], running.report
        assert found[0]["site"]["source"].endswith("# made"), found
    else:
        assert not found, running.report


def test_a_loop_in_a_daemon_thread_is_left_alone(started: Callable[..., Started]) -> None:
    running = started(HEAD + "threading.Thread(target=lambda: asyncio.run(work()), daemon=True).start()\nwait()")
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM, running.errors
    assert running.lines == ["ready", "exit handler"]


BUSY = {
    "sleeps": "time.sleep(3600)",
    "receives": "a, b = socket.socketpair()\n    a.recv(1)",
}


@pytest.mark.parametrize("job", BUSY)
def test_ctrl_c_while_the_loops_executor_is_busy(job: str, started: Callable[..., Started]) -> None:
    text = HEAD + f'def job():\n    print("ready")\n    {BUSY[job]}\nasyncio.run(asyncio.to_thread(job))\n'
    running = started(text, LEAKAGENT_GRACE="0.5")
    running.until("ready")
    running.send(signal.SIGINT)
    assert running.end() == -signal.SIGINT, running.errors
    assert running.lines == ["ready", "exit handler"]
    assert "blocks_exit" in {one["reason"] for one in running.report["findings"]}, running.report


TWICE = {
    "loop's executor": """
async def main():
    try:
        await asyncio.to_thread(job)
    finally:
        print("leaves")
asyncio.run(main())
""",
    "pool": """
with ThreadPoolExecutor(1) as pool:
    pool.submit(job)
    try:
        while True: time.sleep(0.05)
    finally:
        print("leaves")
""",
}


@pytest.mark.parametrize("which", TWICE)
def test_a_second_ctrl_c_waits_for_it_no_longer(which: str, started: Callable[..., Started]) -> None:
    # The grace is longer than the test may take.
    text = HEAD + "def job():\n    print('ready')\n    time.sleep(3600)\n" + TWICE[which]
    running = started(text, LEAKAGENT_GRACE="300", LEAKAGENT_BUDGET="300")
    running.until("ready")
    running.send(signal.SIGINT)
    running.until("leaves")
    running.sent = False
    running.send(signal.SIGINT)
    assert running.end() == -signal.SIGINT, running.errors
    assert running.lines == ["ready", "leaves", "exit handler"]


HANDED_BACK = """
def ours(number=signal.SIGTERM):
    return signal.getsignal(number) == before
before = signal.getsignal(signal.SIGTERM)
{code}
print("ready")
try:
    while True: time.sleep(0.05)
finally:
    print("finally")
"""

BACK = {
    "removed": """
async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, came.append, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    while not came: await asyncio.sleep(0.01)
    print(ours(), loop.remove_signal_handler(signal.SIGTERM), ours(), loop.remove_signal_handler(signal.SIGTERM))
came = []
asyncio.run(main())
print(ours())
""",
    "closed": """
async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)
    print(ours())
asyncio.run(main())
print(ours())
""",
}


@pytest.mark.parametrize("how", BACK)
def test_what_a_loop_hands_back_is_ours(how: str, started: Callable[..., Started]) -> None:
    running = started(HEAD + HANDED_BACK.format(code=BACK[how]))
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM, running.errors
    told = {"removed": ["False True True False", "True"], "closed": ["False", "True"]}[how]
    assert running.lines == [*told, "ready", "finally", "exit handler"]


def test_a_default_action_that_the_program_wants_stays(started: Callable[..., Started]) -> None:
    code = """
signal.signal(signal.SIGTERM, signal.SIG_DFL)
async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)
asyncio.run(main())
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    running = started(HEAD + HANDED_BACK.format(code=code))
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM
    assert running.lines == ["True", "ready"]


def test_a_handler_that_calls_the_one_before_calls_ours(started: Callable[..., Started]) -> None:
    code = """
def own(number, frame):
    print("own")
    before(number, frame)
signal.signal(signal.SIGTERM, own)
"""
    running = started(HEAD + HANDED_BACK.format(code=code))
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM
    assert running.lines == ["ready", "own", "finally", "exit handler"]


#: How somebody waits for the task that the signal comes in: he is given its exception, and may never be asked for it.
AWAITED = {
    "task of a task": "await asyncio.create_task(between())",
    "gathered": "await asyncio.gather(part(), asyncio.sleep(3600))",
    "gathered, collected by an exit handler": "await asyncio.gather(part(), asyncio.sleep(3600))",
    "gathered, kept": "kept.append(asyncio.current_task())\n        await asyncio.gather(part(), asyncio.sleep(3600))",
}
if sys.version_info >= (3, 11):
    AWAITED["task group"] = "async with asyncio.TaskGroup() as group: group.create_task(part())"

IN_A_TASK = """\
kept = []
async def part():
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    while True: pass
async def between():
    await asyncio.create_task(part())
async def main():
    try:
        AWAITED
    finally:
        print("main ends")
COLLECTED
asyncio.run(main())
"""


@pytest.mark.parametrize("how", AWAITED)
def test_nothing_is_said_of_the_task_that_a_signal_comes_in(
    how: str, python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    text = (HEAD + IN_A_TASK).replace("AWAITED", AWAITED[how])
    text = text.replace("COLLECTED", "import gc\natexit.register(gc.collect)" if "collected" in how else "")
    # Started so, nothing keeps the exception, and with it the tasks, when Python itself has taken it.
    ran = python(program(text), env={"LEAKAGENT": "1"})
    assert (ran.returncode, ran.stderr) == (-signal.SIGTERM, ""), ran
    assert "main ends" in ran.stdout, ran
    assert ran.stdout.splitlines()[-1] == "exit handler", ran
