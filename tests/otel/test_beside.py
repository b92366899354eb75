"""Beside a program's own telemetry: its providers, `opentelemetry-instrument`, Logfire; their threads are never findings."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from leakagent.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: One leak of the program's, in a span of its own provider, and a number of its own.
LEAK = """
from concurrent.futures import ThreadPoolExecutor
from opentelemetry import metrics, trace

metrics.get_meter("app").create_counter("app.questions").add(1)
with trace.get_tracer("app").start_as_current_span("question") as span:
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
    print(f"{span.get_span_context().trace_id:032x}")
"""

OWN = """
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.{0}.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.{0}.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

tracers = TracerProvider()
tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(tracers)
meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=50)])
metrics.set_meter_provider(meters)
"""

LOGFIRE = """
import logfire
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor

processors = [BatchSpanProcessor(OTLPSpanExporter())]
logfire.configure(send_to_logfire=False, console=False, additional_span_processors=processors)
"""


def only_the_pool(folder: Path) -> None:
    """Check that the report tells the program's pool and nothing of anybody's telemetry."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert [(one["kind"], one["site"]["file"]) for one in report["findings"]] == [("thread_pool", "app.py")], report
    assert report["agent"]["disabled"] in ([], {}), report


def check(found: Any, trace_id: str) -> None:
    assert found.points(names.FINDINGS) == {("app.<module>", "not_shut_down", "thread_pool"): 1}
    (span,) = found.named("leak thread_pool")
    assert span.trace_id.hex() == trace_id
    assert "question" in found.others


def test_a_program_with_exporters_of_its_own_that_end_before_ours(
    collector: Any,
    protocol: str,
    service: str,
    arrived: Callable[..., Any],
    python: Callable[..., Any],
    program: Callable[..., Path],
    tmp_path: Path,
) -> None:
    app = program(OWN.format("grpc" if protocol == "grpc" else "http") + LEAK + "tracers.shutdown()\nmeters.shutdown()\n")
    ran = python("-m", "leakagent", "--report", "json:report.json", app, env=collector.variables(protocol, service))
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    found = arrived(service, lambda got: got.named(names.SHUTDOWN_SPAN) and got.metrics and "question" in got.others)
    check(found, ran.stdout.strip())
    assert "app.questions" in found.others
    only_the_pool(tmp_path)


def test_beside_opentelemetry_instrument(
    collector: Any,
    protocol: str,
    service: str,
    arrived: Callable[..., Any],
    run: Callable[..., Any],
    program: Callable[..., Path],
    tmp_path: Path,
) -> None:
    tool = os.path.join(os.path.dirname(sys.executable), "opentelemetry-instrument")
    env = {
        **collector.variables(protocol, service),
        "LEAKAGENT": "1",
        "LEAKAGENT_REPORT": "json:report.json",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "requests,urllib3,grpc_client",
    }
    ran = run([tool, sys.executable, program(LEAK)], env=env, cwd=tmp_path)
    assert ran.returncode == 0, ran
    found = arrived(service, lambda got: got.named(names.SHUTDOWN_SPAN) and got.metrics and "question" in got.others)
    check(found, ran.stdout.split()[-1])
    only_the_pool(tmp_path)


def test_beside_logfire(
    collector: Any,
    service: str,
    arrived: Callable[..., Any],
    python: Callable[..., Any],
    program: Callable[..., Path],
    tmp_path: Path,
) -> None:
    app = program(LOGFIRE + LEAK)
    env = collector.variables("http/protobuf", service)
    ran = python("-m", "leakagent", "--report", "json:report.json", app, env=env)
    assert ran.returncode == 0, ran
    found = arrived(service, lambda got: got.named(names.SHUTDOWN_SPAN) and got.metrics and "question" in got.others)
    check(found, ran.stdout.strip())
    only_the_pool(tmp_path)


def test_a_forked_child_is_an_instance_of_its_own_beside_the_programs_provider(
    collector: Any, service: str, arrived: Callable[..., Any], python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    app = program(
        OWN.format("http")
        + """
import multiprocessing, time
from concurrent.futures import ThreadPoolExecutor
from leakagent import agent

def work():
    pools.extend(ThreadPoolExecutor(1) for _ in range(3))
    for pool in pools:
        pool.submit(int).result()

pools = []
numbers, end = agent.current().telemetry.numbers, time.monotonic() + 100
# A child that is forked while the SDK is loaded may send nothing.
while not numbers.points("leakagent.resource.created") and time.monotonic() < end:
    time.sleep(0.01)
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
print(child.exitcode)
"""
    )
    env = {**collector.variables("http/protobuf", service), "OTEL_METRIC_EXPORT_INTERVAL": "20"}
    ran = python("-W", "ignore::DeprecationWarning", "-m", "leakagent", app, env=env)
    assert (ran.returncode, ran.stdout) == (0, "0\n"), ran

    def told(got: Any) -> list[float]:
        return sorted(sum(got.points(names.FINDINGS, one).values()) for one in got.metrics)

    found = arrived(service, lambda got: len(got.named(names.SHUTDOWN_SPAN)) == 2 and sum(told(got)) >= 4)
    assert told(found) == [1, 3]


@pytest.mark.parametrize("logs", [False, True])
def test_events_go_to_the_programs_own_providers_where_they_are_asked_for(
    logs: bool,
    collector: Any,
    service: str,
    arrived: Callable[..., Any],
    python: Callable[..., Any],
    program: Callable[..., Path],
) -> None:
    app = program(
        OWN.format("http")
        + """
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

loggers = LoggerProvider(shutdown_on_exit=False)
loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
set_logger_provider(loggers)
"""
        + LEAK
    )
    # What the program's exit handlers shut down takes no last report any more.
    kept = app.read_text(encoding="utf-8").replace("Provider()", "Provider(shutdown_on_exit=False)")
    app.write_text(kept.replace("50)])", "50)], shutdown_on_exit=False)"), encoding="utf-8")
    env = {**collector.variables("http/protobuf", service), "LEAKAGENT_OTEL": "global"}
    if logs:
        env["OTEL_LOGS_EXPORTER"] = "otlp"
    ran = python("-m", "leakagent", app, env=env)
    assert ran.returncode == 0, ran
    found = arrived(
        service,
        lambda got: (
            got.named(names.SHUTDOWN_SPAN)
            and any(names.FINDINGS in metrics for metrics in got.metrics.values())
            and len(got.events) == 2 * logs
        ),
    )
    told = [event.event_name for event in found.events]
    assert told == ([names.FINDING_EVENT, names.SHUTDOWN_EVENT] if logs else [])
    check(found, ran.stdout.strip())
