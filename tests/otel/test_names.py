"""Every metric and span of docs/telemetry.md arrives through a real Collector, with its unit, attributes and value."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import leakagent
from leakagent.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "docs" / "telemetry.md"

APP = """
import asyncio
import gc
import sys
from concurrent.futures import ThreadPoolExecutor

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from leakagent import guard

provider = TracerProvider()
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("app")


class Waits:
    async def wait(self):
        self.future = asyncio.get_running_loop().create_future()
        await self.future


def background():
    asyncio.create_task(Waits().wait())  # task


async def work():
    for _ in range(5):
        await asyncio.create_task(asyncio.sleep(0))


async def main():
    with tracer.start_as_current_span("request") as span:
        for _ in range(3):
            background()
    await work()
    gc.collect()
    return span.get_span_context()


context = asyncio.run(main())
with tracer.start_as_current_span("jobs") as jobs:
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
guard.failed("planted", ValueError("on purpose"))
print(f"{context.trace_id:032x} {context.span_id:016x} {jobs.get_span_context().span_id:016x}")
provider.shutdown()
"""


def test_the_page_is_the_one_that_the_names_make() -> None:
    assert PAGE.read_text(encoding="utf-8") == names.page()


def test_everything_arrives(
    collector: Any,
    protocol: str,
    service: str,
    arrived: Callable[..., Any],
    python: Callable[..., Any],
    program: Callable[..., Path],
) -> None:
    variables = collector.variables(protocol, service)
    ran = python("-m", "leakagent", "--level", "stack", program(APP), env=variables)
    assert ran.returncode == 0, ran
    assert "telemetry was not" not in ran.stderr, ran
    trace_id, request, jobs = ran.stdout.split()
    found = arrived(service, lambda got: got.named(names.SHUTDOWN_SPAN) and got.metrics)

    assert found.scopes == {(names.SCOPE, leakagent.__version__, names.SCHEMA_URL)}
    (metrics,) = found.metrics.values()
    assert set(metrics) == set(names.METRICS)
    for name, (instrument, unit, attributes, meaning) in names.METRICS.items():
        metric = metrics[name]
        assert (metric.unit, metric.description) == (unit, meaning)
        assert metric.WhichOneof("data") == ("gauge" if instrument == names.GAUGE else "sum")
        assert instrument == names.GAUGE or metric.sum.is_monotonic == (instrument == names.COUNTER)
        for point in getattr(metric, metric.WhichOneof("data")).data_points:
            assert {pair.key for pair in point.attributes} == set(attributes), name

    assert found.points(names.RESOURCE_CREATED)["asyncio.task",] == 11  # main, 3 lost, 5 that ended, 2 of asyncio.run
    assert found.points(names.RESOURCE_FINISHED)["asyncio.task",] == 11
    assert found.points(names.RESOURCE_CREATED)["thread_pool",] == 2  # TracerProvider() makes one
    assert found.points(names.RESOURCE_FINISHED)["thread_pool",] == 1
    assert found.points(names.RESOURCE_COUNT)["<module>", "thread_pool", "live"] == 1
    assert found.points(names.FINDINGS) == {
        ("background", "lost_task", "asyncio.task"): 3,
        ("<module>", "not_shut_down", "thread_pool"): 1,
    }
    assert found.points(names.STAGE_RESOURCES)["loops", "ended"] == 3
    assert found.points(names.AGENT_DISABLED) == {("planted",): 1}
    assert 0 < found.points(names.RESOURCE_AGE)["thread_pool",] < 1e6

    tasks = found.named("leak asyncio.task")
    assert len(tasks) == 3
    for span in tasks:
        assert span.trace_id.hex() == trace_id
        assert span.parent_span_id.hex() == request
        assert [(link.trace_id.hex(), link.span_id.hex()) for link in span.links] == [(trace_id, request)]
        assert 0 < span.start_time_unix_nano < span.end_time_unix_nano
    (leaked,) = found.named("leak thread_pool")
    assert leaked.parent_span_id.hex() == jobs
    (whole,) = found.named(names.SHUTDOWN_SPAN)
    assert {link.span_id for link in whole.links} == {span.span_id for span in [*tasks, leaked]}
    stages = [span for span in found.spans if span.name.startswith(names.STAGE_SPAN)]
    assert {span.parent_span_id for span in stages} == {whole.span_id}
    patterns = {re.sub(r"\{\w+\}", r"[\\w.]+", name): attributes for name, (attributes, _) in names.SPANS.items()}
    seen: dict[str, set[str]] = {pattern: set() for pattern in patterns}
    for span in found.spans:
        (pattern,) = [pattern for pattern in patterns if re.fullmatch(pattern, span.name)]
        seen[pattern] |= {pair.key for pair in span.attributes}
    assert seen == {pattern: set(attributes) for pattern, attributes in patterns.items()}
