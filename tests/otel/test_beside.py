"""Beside a program's own telemetry: its providers, `opentelemetry-instrument`, Logfire, Phoenix; their threads are never findings."""

from __future__ import annotations

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
from opentelemetry import trace
from pieces import count_a_question

count_a_question()
with trace.get_tracer("app").start_as_current_span("question") as span:
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
    print(f"{span.get_span_context().trace_id:032x}")
"""

OWN = """
from pieces import own_telemetry
tracers, meters = own_telemetry({!r}, export_interval_millis=50)
"""

#: The same with logs, and nothing of it ends by itself: what is shut down takes no last report any more.
OWN_UNTIL_THE_END = """
from pieces import own_telemetry
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

own_telemetry(ends=False)
loggers = LoggerProvider(shutdown_on_exit=False)
loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
set_logger_provider(loggers)
"""

LOGFIRE = """
import logfire
from opentelemetry.exporter.otlp.proto.{package}.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor

processors = [BatchSpanProcessor(OTLPSpanExporter())]
logfire.configure(send_to_logfire=False, console=False, additional_span_processors=processors)
"""

#: As its documentation says; traces only, which is all that Phoenix takes.
PHOENIX = """
import os
from phoenix.otel import register

endpoint = os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] + ("" if "{package}" == "grpc" else "/v1/traces")
register(endpoint=endpoint, protocol=os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"], project_name="shop", batch=True, verbose=False)
"""

REPORT = ("--report", "json:report.json")


def only_the_pool(service: Any) -> None:
    """Check that the report tells the program's pool and nothing of anybody's telemetry."""
    report = service.report()
    assert [(one["kind"], one["site"]["file"]) for one in report["findings"]] == [("thread_pool", "app.py")], report
    assert report["agent"]["disabled"] in ([], {}), report


def all_is_there(got: Any) -> bool:
    """Say whether the end has arrived, and what the program sends itself."""
    return bool(got.named(names.SHUTDOWN_SPAN) and got.metrics and "question" in got.others)


def check(found: Any, trace_id: str) -> None:
    assert found.points(names.FINDINGS) == {("app.<module>", "not_shut_down", "thread_pool"): 1}
    (span,) = found.named("leak thread_pool")
    assert span.trace_id.hex() == trace_id
    assert "question" in found.others


def test_a_program_with_exporters_of_its_own_that_end_before_ours(protocol: str, service: Any) -> None:
    own = OWN.format("grpc" if protocol == "grpc" else "http")
    ran = service.run(own + LEAK + "tracers.shutdown()\nmeters.shutdown()\n", options=REPORT)
    assert ran.stderr == "", ran
    found = service.received(all_is_there)
    check(found, ran.stdout.strip())
    assert "app.questions" in found.others
    only_the_pool(service)


def test_beside_opentelemetry_instrument(
    protocol: str, service: Any, run: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    tool = os.path.join(os.path.dirname(sys.executable), "opentelemetry-instrument")
    env = {
        **service.variables,
        "LEAKAGENT": "1",
        "LEAKAGENT_REPORT": "json:report.json",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "requests,urllib3,grpc_client",
    }
    ran = run([tool, sys.executable, program(LEAK)], env=env, cwd=tmp_path)
    assert ran.returncode == 0, ran
    check(service.received(all_is_there), ran.stdout.split()[-1])
    only_the_pool(service)


@pytest.mark.parametrize("setup", [LOGFIRE, PHOENIX], ids=["logfire", "phoenix"])
def test_beside_what_sets_telemetry_up(setup: str, protocol: str, service: Any) -> None:
    package = "grpc" if protocol == "grpc" else "http"
    ran = service.run(setup.format(package=package) + LEAK, options=REPORT)
    check(service.received(all_is_there), ran.stdout.strip())
    only_the_pool(service)


def test_a_forked_child_is_an_instance_of_its_own_beside_the_programs_provider(service: Any) -> None:
    service.run(
        OWN.format("http")
        + """
import multiprocessing
from pieces import pools, until_sent

def work():
    kept.extend(pools(3))

kept = []
until_sent()
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
kept += pools(1)
print(child.exitcode)
""",
        env={"OTEL_METRIC_EXPORT_INTERVAL": "20"},
        out="0\n",
    )

    def told(got: Any) -> list[float]:
        return sorted(sum(got.points(names.FINDINGS, one).values()) for one in got.metrics)

    found = service.received(lambda got: len(got.named(names.SHUTDOWN_SPAN)) == 2 and sum(told(got)) >= 4)
    assert told(found) == [1, 3]


@pytest.mark.parametrize("logs", [False, True])
def test_the_programs_own_providers_carry_everything_where_that_is_asked_for(logs: bool, service: Any) -> None:
    env = {"LEAKAGENT_OTEL": "global", **({"OTEL_LOGS_EXPORTER": "otlp"} if logs else {})}
    ran = service.run(OWN_UNTIL_THE_END + LEAK, env=env)
    found = service.received(
        lambda got: (
            all_is_there(got)
            and any(names.FINDINGS in metrics for metrics in got.metrics.values())
            and len(got.events) == 2 * logs
        ),
    )
    told = [event.event_name for event in found.events]
    assert told == ([names.FINDING_EVENT, names.SHUTDOWN_EVENT] if logs else [])
    check(found, ran.stdout.strip())
