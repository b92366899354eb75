"""Operations of OpenTelemetry, and how many of them a task costs.

    python benchmarks/otel.py [--rounds N] [--gate] [--json FILE]

CPU time of one operation beside that of one task, which is why leakagent counts in plain integers and lets the SDK read them once per export. "Calls in
10,000 tasks" counts the calls of synchronous instruments while that many tasks run, under leakagent with an exporter and under
opentelemetry-instrumentation-asyncio.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from paired import AGENT, BARE, Row
from programs import SELF, VARIANTS, Variant, main

if TYPE_CHECKING:
    import argparse

    from programs import Ran, Runs

TASKS = 10_000
_SDK = "opentelemetry-instrumentation, SDK"

OPERATIONS = """\
import asyncio, json, time
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.metrics import NoOpMeterProvider

class Holder: value = 0
holder = Holder()
provider = MeterProvider([InMemoryMetricReader()])
meter, none = provider.get_meter("bench"), NoOpMeterProvider().get_meter("bench")
counter, histogram, nothing = meter.create_counter("c"), meter.create_histogram("h"), none.create_counter("n")
tracer = TracerProvider().get_tracer("bench")
attributes = {"function": "work", "file": "app.py"}

def increment(): holder.value += 1
def api(): nothing.add(1)
def sdk(): counter.add(1)
def sdk_attributes(): counter.add(1, attributes)
def record(): histogram.record(1, attributes)
def span():
    with tracer.start_as_current_span("s"): pass

OPERATIONS = {
    "plain increment": increment, "Counter.add, no SDK": api, "Counter.add, SDK": sdk, "Counter.add, SDK, 2 attributes": sdk_attributes,
    "Histogram.record, SDK, 2 attributes": record, "span, SDK": span,
}

async def nothing_(): pass
async def tasks():
    for task in [asyncio.create_task(nothing_()) for _ in range(1000)]: await task
async def whole_task():
    await tasks()
    found = []
    for _ in range(20):
        begin = time.process_time_ns()
        await tasks()
        found.append((time.process_time_ns() - begin) / 1000)
    return min(found)

async def main(): pass
figures = {"a whole task": asyncio.run(whole_task())}
for name, operation in OPERATIONS.items():
    found = []
    for _ in range(20):
        begin = time.process_time_ns()
        for _ in range(500): operation()
        found.append((time.process_time_ns() - begin) / 500)
    figures[name] = min(found)
print(json.dumps(figures))
"""

CALLS = """\
import asyncio, json
from opentelemetry.sdk.metrics import Counter, Histogram, UpDownCounter
import opentelemetry.sdk.metrics._internal.instrument as instruments

calls = [0]
def counted(original):
    def call(*args, **kwargs):
        calls[0] += 1
        return original(*args, **kwargs)
    return call
for kind, method in (("_Counter", "add"), ("_UpDownCounter", "add"), ("_Histogram", "record"), ("_Gauge", "set")):
    if hasattr(instruments, kind):
        setattr(getattr(instruments, kind), method, counted(getattr(getattr(instruments, kind), method)))

async def nothing(): pass
async def main():
    before = calls[0]
    for task in [asyncio.create_task(nothing()) for _ in range({tasks})]: await task
    figures["calls"] = calls[0] - before

figures = {{}}
asyncio.run(_around())
print(json.dumps(figures))
"""

#: leakagent with an exporter that asks for the figures all the time, and writes them nowhere that counts.
EXPORTING = Variant(environment={**SELF, "OTEL_METRICS_EXPORTER": "console", "OTEL_METRIC_EXPORT_INTERVAL": "50"})


def _must(ran: Ran, what: str) -> Ran:
    if ran.problem:
        message = f"{what}: {ran.problem}"
        raise SystemExit(message)
    return ran


def measure(runs: Runs, options: argparse.Namespace) -> list[Row]:
    """Return the rows."""
    rows = []
    calls = CALLS.format(tasks=TASKS)
    for name, variant in {AGENT: EXPORTING, _SDK: VARIANTS[_SDK]}.items():
        if variant.is_installed() and not (options.gate and name == _SDK):
            ran = _must(runs.run(variant, [runs.program(variant, calls)]), f"calls under {name}")
            seen = ran.created("asyncio.task") / (TASKS + 3) if name == AGENT else None
            rows.append(Row(f"calls in {TASKS:,} tasks", name, ran.figures["calls"], "calls", coverage=seen))
    if options.gate:
        return rows
    found = [
        _must(runs.run(VARIANTS[BARE], [runs.program(VARIANTS[BARE], OPERATIONS)]), "operations").figures
        for _ in range(options.rounds)
    ]
    medians = {name: statistics.median(one[name] for one in found) for name in found[0]}
    return rows + [Row("CPU time of one", name, value, "ns") for name, value in medians.items()]


if __name__ == "__main__":
    main(__doc__ or "", "otel", measure, rounds=5)
