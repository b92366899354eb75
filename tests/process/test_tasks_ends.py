"""What is pending when a loop ends: told with its await chain, ended in bounded time, and nothing else is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


def test_outlived_scope_with_its_await_chain(told: Callable[..., Any]) -> None:
    text = """\
import asyncio

async def innermost():
    await asyncio.sleep(600)

async def inner():
    await innermost()

async def work():
    try:
        await inner()
    except asyncio.CancelledError:
        print("cancelled")
        raise

async def main():
    global kept
    kept = asyncio.create_task(work(), name="the worker")  # made
    await asyncio.sleep(0)

asyncio.run(main())
"""
    after = told(text)
    found = after.only("outlived_scope")
    assert after.lines == ["cancelled"]
    assert (found["site"]["line"], found["names"], found["action"]) == (after.line("made"), ["the worker"], "cancelled")
    assert found["evidence"] == ["waiting in app.py:7 inner > app.py:4 innermost > _asyncio.Future"] or (
        "app.py:4 innermost" in found["evidence"][0]
    ), after
    assert after.stages["loops"]["asked"] == 1
    assert after.stages["loops"]["forced"] == 0
    assert after.ran.returncode == 0


SWALLOW = """\
import asyncio, sys

async def stubborn():
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

async def main():
    global kept
    kept = asyncio.create_task(stubborn())  # made
    await asyncio.sleep(0)

asyncio.run(main())
print("after")
sys.exit({status})
"""


@pytest.mark.parametrize("status", [0, 7])
def test_refused_cancellation_ends_after_the_grace(status: int, told: Callable[..., Any]) -> None:
    after = told(SWALLOW.format(status=status), env={"LEAKAGENT_GRACE": "0.5"})
    found = after.only("refused_cleanup")
    assert after.lines == ["after"], after
    assert (found["site"]["line"], found["action"], found["kind"]) == (after.line("made"), "released", "asyncio.task")
    assert after.ran.returncode == status
    assert after.stages["loops"]["forced"] == 1
    assert after.stages["loops"]["seconds"] >= 0.5
    assert "Task was destroyed" not in after.ran.stderr
    assert "Traceback" not in after.ran.stderr


def test_exception_of_main_comes_out_although_a_task_refuses(told: Callable[..., Any]) -> None:
    text = SWALLOW.format(status=0).replace(
        "await asyncio.sleep(0)\n\n", "await asyncio.sleep(0)\n    raise KeyError('mine')\n\n"
    )
    after = told(text, env={"LEAKAGENT_GRACE": "0.5"})
    assert after.ran.returncode == 1
    assert after.ran.stderr.splitlines().count("KeyError: 'mine'") == 1, after
    assert after.only("refused_cleanup")["action"] == "released"


def test_loop_that_nobody_closed(told: Callable[..., Any]) -> None:
    text = """\
import asyncio

async def main():
    global kept
    kept = asyncio.ensure_future(asyncio.sleep(600))  # made
    await asyncio.sleep(0)

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
"""
    after = told(text)
    assert after.only("outlived_scope")["site"]["line"] == after.line("made")
    assert after.ran.returncode == 0


def test_loop_closed_without_cancelling(told: Callable[..., Any]) -> None:
    text = """\
import asyncio

async def main():
    global kept
    kept = asyncio.ensure_future(asyncio.sleep(600))  # made
    await asyncio.sleep(0)

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
    after = told(text)
    assert after.only("outlived_scope")["site"]["line"] == after.line("made")


def test_loop_running_in_a_daemon_thread(told: Callable[..., Any]) -> None:
    text = """\
import asyncio, threading

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()

async def start():
    global kept
    kept = asyncio.create_task(asyncio.sleep(600))  # made
    return 1

print(asyncio.run_coroutine_threadsafe(start(), loop).result())
"""
    after = told(text)
    assert after.lines == ["1"]
    assert after.only("outlived_scope")["site"]["line"] == after.line("made"), after
    assert after.ran.returncode == 0


def test_properly_ended_tasks_are_not_told(told: Callable[..., Any]) -> None:
    text = """\
import asyncio

async def work():
    await asyncio.sleep(600)

async def main():
    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.gather(*(asyncio.sleep(0.01) for _ in range(100)))
    async for number in numbers():
        if number == 3:
            break

async def numbers():
    for number in range(10):
        yield number
        await asyncio.sleep(0)

for _ in range(3):
    asyncio.run(main())
"""
    after = told(text)
    after.clean()
    assert after.ran.stderr == ""


def test_ten_thousand_on_one_event_end_in_bounded_time(told: Callable[..., Any]) -> None:
    """Each proof meets all the others here: without a deadline it took minutes."""
    text = """\
import asyncio, time

async def main():
    global event
    event = asyncio.Event()
    for _ in range(5_000):
        asyncio.create_task(event.wait())  # made
    await asyncio.sleep(0)

asyncio.run(main())
"""
    after = told(text)
    found = after.only("outlived_scope")
    assert (found["count"], found["site"]["line"]) == (5_000, after.line("made"))
