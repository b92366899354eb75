"""What is open, leak or not, place by place: asked by ``leakagent top`` for one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = """
import asyncio, sys, threading
def hold():
    go.wait()  # now
def start():
    threading.Thread(target=hold, name="holder", daemon=True).start()  # thread
async def wait():
    await asyncio.sleep(600)  # await
async def main():
    global kept
    kept = [asyncio.create_task(wait(), name=f"t{n}") for n in range(7)]  # tasks
    start()
    await asyncio.sleep(0)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
go = threading.Event()
asyncio.run(main())
"""


def line_of(mark: str) -> int:
    return next(number for number, source in enumerate(PROGRAM.splitlines(), 1) if source.endswith(f"# {mark}"))


def test_where_they_were_made_and_are_now(running: Callable[..., Any]) -> None:
    app = running(PROGRAM, options=("--level", "stack"))
    assert app.line() == "ready"
    app.socket()
    found = app.asked("inventory")
    assert found[0]["kind"] == "asyncio.task"  # the most crowded place first
    tasks = found[0]
    assert (tasks["count"], tasks["owner"], tasks["site"]["line"]) == (7, "yours", line_of("tasks"))
    assert tasks["source"].endswith("# tasks")
    assert len(tasks["names"]) == 5
    assert tasks["now"][-1] == f"app0.py:{line_of('await')} wait"
    thread = next(one for one in found if "holder" in one["names"])
    assert (thread["count"], thread["site"]["line"]) == (1, line_of("thread"))
    assert f"app0.py:{line_of('now')} hold" in thread["now"]
    assert any(frame.endswith(" main") for frame in thread["stack"])
    assert thread["oldest_age_s"] >= 0
    app.go_on()
    assert app.end()[0] == 0
