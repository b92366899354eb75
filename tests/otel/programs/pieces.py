"""What programs under test have in common; stands beside them when they run."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds after which a program under test stops waiting, for machines that are slow.
DEADLINE = 100.0


def wait_until(condition: Callable[[], object]) -> bool:
    end = time.monotonic() + DEADLINE
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


def until_sent() -> None:
    """Wait until the numbers were sent (a child that is forked while the SDK is loaded may send nothing), and are collected again."""
    from leakagent import agent

    numbers, seen = agent.current().telemetry.numbers, []
    collect = numbers.collect
    numbers.collect = lambda: (seen.append(True), collect())
    wait_until(lambda: len(seen) > 1)
    del numbers.collect


def pools(number: int) -> list[ThreadPoolExecutor]:
    """Make pools that nobody shuts down."""
    return [pool() for _ in range(number)]


def pool() -> ThreadPoolExecutor:
    made = ThreadPoolExecutor(1)
    made.submit(int).result()
    return made


class Waits:
    """Held by nothing but its own task, as a forgotten one is."""

    async def wait(self) -> None:
        import asyncio

        self.future = asyncio.get_running_loop().create_future()
        await self.future


async def forget(number: int) -> None:
    """Forget tasks, and have them collected; a call of the collector does nothing while another thread is at it."""
    import asyncio
    import gc

    from leakagent import agent

    for _ in range(number):
        forgotten()
    await asyncio.sleep(0)
    tasks = agent.current().parts["asyncio"]
    wait_until(lambda: gc.collect() >= 0 and len(tasks.lost) >= number)


def forgotten() -> None:
    import asyncio

    asyncio.create_task(Waits().wait())  # noqa: RUF006 - which is what it is for


async def stubborn() -> None:
    """Refuse to be cancelled."""
    import asyncio

    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


def own_telemetry(package: str = "http", *, ends: bool = True, **more: Any) -> tuple[Any, Any]:
    """Set providers of the program's own that send by OTLP; with ``ends`` they shut themselves down at the exit."""
    from importlib import import_module

    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    otlp = f"opentelemetry.exporter.otlp.proto.{package}"
    tracers = TracerProvider(shutdown_on_exit=ends)
    tracers.add_span_processor(BatchSpanProcessor(import_module(f"{otlp}.trace_exporter").OTLPSpanExporter()))
    trace.set_tracer_provider(tracers)
    reader = PeriodicExportingMetricReader(import_module(f"{otlp}.metric_exporter").OTLPMetricExporter(), **more)
    meters = MeterProvider([reader], shutdown_on_exit=ends)
    metrics.set_meter_provider(meters)
    return tracers, meters


def count_a_question() -> None:
    from opentelemetry import metrics

    metrics.get_meter("app").create_counter("app.questions").add(1)


def note_waits(path: str) -> None:
    """Write what the main thread is ready to wait for telemetry, each time, and how long it did: phases of the end."""
    import json

    from leakagent.telemetry.patience import Patience

    wait, begin = Patience.wait, time.monotonic()

    class Noted:
        def __init__(self, lock: Any, patience: Patience) -> None:
            self.lock = lock
            self.patience = patience

        def acquire(self, timeout: float) -> bool:
            at, imports = time.monotonic(), self.patience._import_seconds
            released = self.lock.acquire(timeout=timeout)
            phase = {
                "at": at - begin,
                "ready": timeout,
                "took": time.monotonic() - at,
                "until": time.monotonic(),
                "imports": imports,
                "released": released,
            }
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(phase) + "\n")
            return released

    def noted(self: Patience, lock: Any, *, teardown: bool = True) -> bool:
        return wait(self, Noted(lock, self), teardown=teardown)

    Patience.wait = noted
