"""Whatever is told about a task, it is told with the trace that created it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = """\
import asyncio, gc
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
tracer = TracerProvider().get_tracer("app")
kept = []

async def fail():
    raise ValueError

async def lose():
    await asyncio.get_running_loop().create_future()

async def strand(future):
    await future

async def never():
    await asyncio.sleep(1000)

async def cling():
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.get_running_loop().create_future()

def started(name, coro):
    with tracer.start_as_current_span(name) as span:
        print(name, f"{span.get_span_context().trace_id:032x}", flush=True)
        return asyncio.get_running_loop().create_task(coro)

async def main():
    started("unretrieved_exception", fail())
    started("lost_task", lose())
    kept.append(started("stranded", strand(asyncio.get_running_loop().create_future())))
    kept.append(started("outlived_scope", never()))
    kept.append(started("stalled", cling()))
    await asyncio.sleep(0)
    kept[-1].cancel()
    for _ in range(40):
        gc.collect()
        await asyncio.sleep(0.1)

asyncio.run(main())
"""


def test_every_reason_has_its_trace(told: Callable[..., Any]) -> None:
    after = told(PROGRAM, options=("--stalled-after", "0.5"))
    expected = dict(line.split() for line in after.lines)
    assert {one["reason"]: one["trace_id"] for one in after.findings if one["kind"] == "asyncio.task"} == expected, after
