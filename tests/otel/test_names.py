"""Every metric and span of docs/telemetry.md arrives through a real Collector, with its unit, attributes and value."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import leakagent
from leakagent.telemetry import names

PAGE = Path(__file__).parents[2] / "docs" / "telemetry.md"

APP = """
import asyncio
import gc
import sys
from concurrent.futures import ThreadPoolExecutor

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from leakagent import guard
from pieces import Waits, stubborn

provider = TracerProvider()
meters = MeterProvider()
trace.set_tracer_provider(provider)
metrics.set_meter_provider(meters)
tracer = trace.get_tracer("app")


def background():
    asyncio.create_task(Waits().wait())  # task


def start():
    kept.append(asyncio.create_task(stubborn()))


async def work():
    for _ in range(5):
        await asyncio.create_task(asyncio.sleep(0))


async def main():
    with tracer.start_as_current_span("request") as span:
        for _ in range(3):
            background()
        start()
    await work()
    gc.collect()
    return span.get_span_context()


kept = []
context = asyncio.run(main())
with tracer.start_as_current_span("jobs") as jobs:
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
guard.failed("planted", ValueError("on purpose"))
print(f"{context.trace_id:032x} {context.span_id:016x} {jobs.get_span_context().span_id:016x}")
provider.shutdown()
meters.shutdown()
"""


def test_the_page_is_the_one_that_the_names_make() -> None:
    assert PAGE.read_text(encoding="utf-8") == names.page()


def constants(package: Any) -> set[str]:
    """Return the texts that the modules of a package define."""
    modules = [importlib.import_module(f"{package.__name__}.{one.name}") for one in pkgutil.iter_modules(package.__path__)]
    return {value for module in modules for value in vars(module).values() if isinstance(value, str)}


def test_names_that_are_not_ours_are_those_of_the_semantic_conventions() -> None:
    from opentelemetry.semconv import attributes
    from opentelemetry.semconv._incubating import attributes as unstable
    from opentelemetry.semconv._incubating import metrics
    from opentelemetry.semconv.schemas import Schemas

    known = constants(attributes) | constants(unstable)
    assert {name for name in names.ATTRIBUTES if not name.startswith("leakagent.")} <= known
    assert {name for name in names.METRICS if not name.startswith("leakagent.")} <= constants(metrics)
    assert names.SCHEMA_URL in {schema.value for schema in Schemas}
    for name, (_, unit, attributes_of_it, _) in names.METRICS.items():
        # Lower case with dots, no unit and no "total" in it; units of UCUM, with what is counted in singular.
        assert re.fullmatch(r"[a-z]+(\.[a-z_]+)+", name), name
        assert not re.search(r"total|seconds|bytes", name), name
        assert unit in {"s", "By"} or re.fullmatch(r"\{[a-z]+(?<!s)\}", unit), name
        # Unbounded ones stay off metrics.
        assert not {names.FILE, names.LINE, names.STACK, names.PID, names.FINGERPRINT} & set(attributes_of_it), name


def test_everything_arrives(protocol: str, service: Any) -> None:
    options = ("--level", "stack", "--otel-memory", "1", "--grace", "0.5")
    ran = service.run(APP, options=options, env={"OTEL_LOGS_EXPORTER": "otlp"})
    trace_id, request, jobs = ran.stdout.split()
    found = service.received(
        lambda got: (
            got.named(names.SHUTDOWN_SPAN)
            and got.metrics
            and any(event.event_name == names.SHUTDOWN_EVENT for event in got.events)
        )
    )
    assert found.scopes == {(names.SCOPE, leakagent.__version__, names.SCHEMA_URL)}
    check_metrics(found)
    check_spans(found, trace_id, request, jobs)
    check_events(found, trace_id, request)


def check_metrics(found: Any) -> None:
    (metrics,) = found.metrics.values()
    assert set(metrics) == set(names.METRICS)
    for name, (instrument, unit, attributes, meaning) in names.METRICS.items():
        metric = metrics[name]
        assert (metric.unit, metric.description) == (unit, meaning)
        kind = metric.WhichOneof("data")
        assert kind == {names.GAUGE: "gauge", names.HISTOGRAM: "histogram"}.get(instrument, "sum")
        assert kind != "sum" or metric.sum.is_monotonic == (instrument == names.COUNTER)
        seen: set[str] = set()
        for point in getattr(metric, kind).data_points:
            keys = {pair.key for pair in point.attributes}
            assert set(attributes) - {names.ERROR} <= keys <= set(attributes), name
            seen |= keys
        assert seen == set(attributes), name

    # main, 3 lost, 1 stubborn, 5 that ended, 2 of asyncio.run
    assert found.points(names.RESOURCE_CREATED)["asyncio.task",] == 12
    assert found.points(names.RESOURCE_FINISHED)["asyncio.task",] == 11
    assert found.points(names.RESOURCE_CREATED)["thread_pool",] == 3  # each provider of the program makes one
    assert found.points(names.RESOURCE_FINISHED)["thread_pool",] == 2
    assert found.points(names.RESOURCE_COUNT)["app.<module>", "thread_pool", "live"] == 1
    assert found.points(names.RESOURCE_COUNT)["app.start", "asyncio.task", "live"] == 1
    assert found.points(names.FINDINGS) == {
        ("app.background", "lost_task", "asyncio.task"): 3,
        ("app.start", "refused_cleanup", "asyncio.task"): 1,
        ("app.<module>", "not_shut_down", "thread_pool"): 1,
    }
    assert found.points(names.STAGE_RESOURCES)["loops", "ended"] == 3
    assert found.points(names.STAGE_RESOURCES)["timeout", "loops", "forced"] == 1
    assert found.points(names.STAGE_DURATION)["timeout", "loops"] >= 0.5
    (loops,) = [
        point for point in metrics[names.STAGE_DURATION].histogram.data_points if point.count and len(point.attributes) > 1
    ]
    assert (list(loops.explicit_bounds), loops.count) == (list(names.BOUNDS), 1)
    assert found.points(names.AGENT_DISABLED) == {("planted",): 1}
    assert 0 < found.points(names.RESOURCE_AGE)["thread_pool",] < 1e6
    assert 1e6 < found.points(names.PROCESS_MEMORY)[()] < 1e12
    assert 0 < found.points(names.AGENT_TIME)[()] < 1e6
    assert 0 < found.points(names.AGENT_MEMORY)[()] < 1e9


def check_spans(found: Any, trace_id: str, request: str, jobs: str) -> None:
    tasks = found.named("leak asyncio.task")
    assert len(tasks) == 4
    for span in tasks:
        assert span.trace_id.hex() == trace_id
        assert span.parent_span_id.hex() == request
        assert [(link.trace_id.hex(), link.span_id.hex()) for link in span.links] == [(trace_id, request)]
        assert 0 < span.start_time_unix_nano < span.end_time_unix_nano
    (leaked,) = found.named("leak thread_pool")
    assert leaked.parent_span_id.hex() == jobs
    pool = said_of(leaked)
    assert (pool[names.FUNCTION], pool[names.FILE], pool[names.ERROR]) == ("app.<module>", "app.py", "not_shut_down")
    assert "shutdown" in pool[names.FIX]
    (refused,) = [span for span in tasks if said_of(span)[names.REASON] == "refused_cleanup"]
    assert any("stubborn" in text for text in said_of(refused)[names.EVIDENCE])
    (whole,) = found.named(names.SHUTDOWN_SPAN)
    assert {link.span_id for link in whole.links} == {span.span_id for span in [*tasks, leaked]}
    stages = [span for span in found.spans if span.name.startswith(names.STAGE_SPAN)]
    assert {span.parent_span_id for span in stages} == {whole.span_id}
    (loops,) = found.named(f"{names.STAGE_SPAN} loops")
    assert said_of(loops)[names.ERROR] == names.TIMEOUT
    (forced,) = found.named(f"{names.FORCED_SPAN} asyncio.task")
    assert (forced.parent_span_id, forced.trace_id) == (loops.span_id, whole.trace_id)
    assert [link.span_id for link in forced.links] == [refused.span_id]
    assert (said_of(forced)[names.ACTION], said_of(forced)[names.FUNCTION]) == ("released", "app.start")
    patterns = {re.sub(r"\{\w+\}", r"[\\w.]+", name): attributes for name, (attributes, _) in names.SPANS.items()}
    seen: dict[str, set[str]] = {pattern: set() for pattern in patterns}
    for span in found.spans:
        (pattern,) = [pattern for pattern in patterns if re.fullmatch(pattern, span.name)]
        seen[pattern] |= {pair.key for pair in span.attributes}
    assert seen == {pattern: set(attributes) for pattern, attributes in patterns.items()}


def check_events(found: Any, trace_id: str, request: str) -> None:
    told = [event for event in found.events if event.event_name == names.FINDING_EVENT]
    assert len(told) == 5
    tasks = [event for event in told if said_of(event)[names.KIND] == "asyncio.task"]
    assert {(event.trace_id.hex(), event.span_id.hex()) for event in tasks} == {(trace_id, request)}
    (pool,) = [event for event in told if said_of(event)[names.KIND] == "thread_pool"]
    assert re.fullmatch(r"thread_pool not shut down: app\.py:\d+ <module>", pool.body.string_value)
    (end,) = [event for event in found.events if event.event_name == names.SHUTDOWN_EVENT]
    assert end.body.string_value.startswith("app.py ended: 5 leaks found, 1 resources forced")
    (disabled,) = [event for event in found.events if event.event_name == names.DISABLED_EVENT]
    assert disabled.body.string_value == "ValueError: on purpose"
    assert set(names.EVENTS) == {event.event_name for event in found.events}
    for name, (severity, attributes, _) in names.EVENTS.items():
        of_name = [event for event in found.events if event.event_name == name]
        assert {event.severity_text for event in of_name} == {"WARN"}, severity
        assert {key for event in of_name for key in said_of(event)} == set(attributes)


def said_of(owner: Any) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    found: dict[str, Any] = {}
    for pair in owner.attributes:
        (value,) = MessageToDict(pair.value).values()
        found[pair.key] = [one["stringValue"] for one in value["values"]] if isinstance(value, dict) else value
    return found


def test_what_was_dropped_open_is_counted_as_such(service: Any) -> None:
    service.run("""
import gc
from concurrent.futures import ThreadPoolExecutor

def drop():
    ThreadPoolExecutor(1).submit(int).result()

drop()
gc.collect()
""")
    assert service.received().points(names.RESOURCE_COUNT)["app.drop", "thread_pool", "dropped"] == 1


def test_a_leak_of_a_request_that_was_not_sampled_is_on_its_trace(service: Any) -> None:
    ran = service.run("""
from concurrent.futures import ThreadPoolExecutor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

with TracerProvider(sampler=ALWAYS_OFF).get_tracer("app").start_as_current_span("request") as span:
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
assert not span.is_recording()
print(f"{span.get_span_context().trace_id:032x} {span.get_span_context().span_id:016x}")
""")
    (leaked,) = service.received().named("leak thread_pool")
    assert [leaked.trace_id.hex(), leaked.parent_span_id.hex()] == ran.stdout.split()


def test_spans_and_links_are_bounded_and_the_metric_counts_all(service: Any) -> None:
    places = names.LINKS + 8
    service.run(f"""
from concurrent.futures import ThreadPoolExecutor
import asyncio
from pieces import forget

asyncio.run(forget({names.SPANS_PER_PLACE + 5}))
space = {{"ThreadPoolExecutor": ThreadPoolExecutor}}
exec("\\n".join(f"def place{{number}}(): return ThreadPoolExecutor(1)" for number in range({places})), space)
kept = [space[f"place{{number}}"]() for number in range({places})]
for pool in kept:
    pool.submit(int).result()
""")
    found = service.received()
    assert len(found.named("leak asyncio.task")) == names.SPANS_PER_PLACE
    assert len(found.named("leak thread_pool")) == places
    assert len(found.named(names.SHUTDOWN_SPAN)[0].links) == names.LINKS
    points = found.points(names.FINDINGS)
    assert points["pieces.forgotten", "lost_task", "asyncio.task"] == names.SPANS_PER_PLACE + 5
    assert sum(points.values()) == names.SPANS_PER_PLACE + 5 + places
