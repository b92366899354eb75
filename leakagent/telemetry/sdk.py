"""The OpenTelemetry SDK as the agent uses it: providers, instruments, spans.  Imported in the agent's own thread only.

The problem.  The SDK's own pipeline would make the agent what it looks for: two threads with fork handlers that count a child's numbers
twice, a lock that a fork leaves locked in the child, an exit that a dead collector delays by 7 to 23 s, a provider that the program's exit handlers
shut down before the last report is there.

What we do.  Providers of the agent's own, that register no exit handler, and neither the periodic reader nor the batch processor:
`Pipeline.send` collects and exports in the thread that calls it.  Nothing of it is kept over a fork.  Numbers are observable
instruments over plain counters (`leakagent.telemetry.numbers`).  Spans are always sampled: a leak of a request that was not sampled is a
leak as well.  With ``LEAKAGENT_OTEL=global`` the program's own providers are used in their place, and what becomes of the last
report is up to them.

What is still open.  The SDK is loaded in a second thread while the program starts, and shares the interpreter with it.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
from contextlib import suppress
from functools import partial
from threading import get_ident
from uuid import uuid4

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.sdk import version as sdk_version
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from leakagent import __version__
from leakagent.core.findings import Finding, Report

from . import names
from .giving_up import Outlet
from .spans import Spans
from .wanted import CONSOLE, GRPC, LOGS, METRICS, PROMETHEUS, TRACES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .events import Events
    from .numbers import Numbers
    from .wanted import Wanted

#: The packages that exporters come from.
PACKAGES = {
    GRPC: "opentelemetry-exporter-otlp-proto-grpc",
    "http/protobuf": "opentelemetry-exporter-otlp-proto-http",
}


class MissingError(Exception):
    """An exporter that was asked for is not installed; the text is for people."""


#: Signal -> the module of its exporters in each OTLP package, that of its console exporter, and the name of the class.
_EXPORTERS = {
    METRICS: ("metric_exporter", "opentelemetry.sdk.metrics.export", "MetricExporter"),
    TRACES: ("trace_exporter", "opentelemetry.sdk.trace.export", "SpanExporter"),
    LOGS: ("_log_exporter", "opentelemetry.sdk._logs.export", "LogExporter"),
}


def exporter_class(signal: str, protocol: str) -> Callable[..., Any]:
    """Return the class of an exporter.

    Args:
        signal: `METRICS`, `TRACES` or `LOGS`.
        protocol: One of `leakagent.telemetry.wanted`.

    Raises:
        MissingError: Its package is not installed.

    """
    module, console, name = _EXPORTERS[signal]
    if signal == LOGS:
        _events_class()
    if protocol == CONSOLE:
        found: Any = __import__(console, fromlist=[name])
        # The SDK has renamed the one for log records.
        made = getattr(found, "ConsoleLogRecordExporter", None) if signal == LOGS else None
        # Not the program's standard output.
        return partial(made or getattr(found, f"Console{name}"), out=Outlet(sys.stderr))
    package = "grpc" if protocol == GRPC else "http"
    try:
        found = __import__(f"opentelemetry.exporter.otlp.proto.{package}.{module}", fromlist=[name])
    except ImportError as error:
        message = f"OTLP by {protocol} needs {PACKAGES[protocol]} ({error}): pip install 'leakagent[otlp]'"
        raise MissingError(message) from error
    exporter: Callable[..., Any] = getattr(found, f"OTLP{name}")
    return exporter


def _events_class() -> type[Events]:
    try:
        from .events import Events
    except ImportError as error:
        message = f"log records need a newer opentelemetry-sdk ({error}): pip install -U opentelemetry-sdk"
        raise MissingError(message) from error
    return Events


def load(signal: str, protocol: str) -> None:
    """Import what sends a signal.

    Raises:
        MissingError: It is not installed.

    """
    if protocol == PROMETHEUS:
        _prometheus_reader_class()
    else:
        exporter_class(signal, protocol)


def _prometheus_reader_class() -> Callable[..., Any]:
    try:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
    except ImportError as error:
        message = f"prometheus needs opentelemetry-exporter-prometheus ({error}): pip install 'leakagent[prometheus]'"
        raise MissingError(message) from error
    # Older ones use prometheus_client's default registry, which the program may serve.
    if "registry" not in inspect.signature(PrometheusMetricReader).parameters:
        message = "prometheus needs a newer opentelemetry-exporter-prometheus: pip install -U 'leakagent[prometheus]'"
        raise MissingError(message)
    made: Callable[..., Any] = PrometheusMetricReader
    return made


class Quiet(logging.Filter):
    """Keeps what exporters log in the agent's thread, many lines for each try, off the user's terminal."""

    def __init__(self) -> None:
        """Keep the last line."""
        super().__init__()
        self.ident = 0
        self.last = ""

    def attach(self) -> None:
        """Filter the loggers that are there."""
        for name in list(logging.root.manager.loggerDict):
            if name.startswith("opentelemetry"):
                logging.getLogger(name).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep what this thread says."""
        if record.thread != self.ident:
            return True
        self.last = record.getMessage()
        return False


class Instruments:
    """Every instrument of `names.METRICS` that is wanted."""

    def __init__(self, meter: Any, numbers: Numbers) -> None:  # noqa: ANN401 - a Meter
        """Create them; the first one that is asked has the numbers read."""
        create = {
            names.UP_DOWN: meter.create_observable_up_down_counter,
            names.COUNTER: meter.create_observable_counter,
            names.GAUGE: meter.create_observable_gauge,
        }
        wanted = numbers.wanted()
        for name in wanted:
            instrument, unit, _, meaning = names.METRICS[name]
            if instrument == names.HISTOGRAM:
                self._durations = _histogram(meter, name, unit, meaning)
            else:
                callback = _callback(numbers, name, first=name == wanted[0])
                create[instrument](name, callbacks=[callback], unit=unit, description=meaning)

    def of_end(self, report: Report) -> None:
        """Record how long the stages took: the one instrument that is not observed, used in the agent's own thread only."""
        for stage in report.receipt:
            failed = {names.ERROR: names.TIMEOUT} if stage.forced else {}
            self._durations.record(stage.seconds, {names.STAGE: stage.stage, **failed})


def _histogram(meter: Any, name: str, unit: str, meaning: str) -> Any:  # noqa: ANN401 - a Meter, a Histogram
    try:
        return meter.create_histogram(name, unit=unit, description=meaning, explicit_bucket_boundaries_advisory=names.BOUNDS)
    except TypeError:  # an SDK that has no advice yet
        return meter.create_histogram(name, unit=unit, description=meaning)


def _callback(numbers: Numbers, name: str, *, first: bool) -> Callable[[object], list[metrics.Observation]]:
    attributes = names.METRICS[name][2]

    def observe(_options: object) -> list[metrics.Observation]:
        if not numbers.active:
            return []
        if first:
            numbers.collect()
        return [
            metrics.Observation(value, {key: text for key, text in zip(attributes, values, strict=True) if text})
            for values, value in numbers.points(name)
        ]

    return observe


class Global:
    """The program's own providers."""

    def __init__(self, numbers: Numbers, *, logs: bool) -> None:
        """Create the instruments, which come to life when the program sets its provider; ``logs``: events as well."""
        self._spans = Spans()
        self._events = _events_class().of_program() if logs else None
        self._instruments = Instruments(metrics.get_meter(names.SCOPE, __version__, schema_url=names.SCHEMA_URL), numbers)

    def send(self, findings: list[Finding], report: Report | None, *, now: bool = False) -> list[str]:
        """Make the spans and events; at the end, or ``now``, have the providers deliver what they have."""
        tracer = trace.get_tracer(names.SCOPE, __version__, schema_url=names.SCHEMA_URL)
        self._spans.of_findings(tracer, findings)
        if self._events is not None:
            self._events.of_findings(findings)
        if report is not None:
            self._spans.of_end(tracer, report, findings)
            self._instruments.of_end(report)
            if self._events is not None:
                self._events.of_end(report, findings)
        if report is not None or now:
            providers = [trace.get_tracer_provider(), metrics.get_meter_provider()]
            if self._events is not None:
                from opentelemetry._logs import get_logger_provider

                providers.append(get_logger_provider())
            for provider in providers:
                flush = getattr(provider, "force_flush", None)
                if flush is not None:
                    flush()
        return []


class _Reader(MetricReader):
    """Exports in the thread that collects."""

    def __init__(self, exporter: Any) -> None:  # noqa: ANN401 - of two packages
        # What OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE says, as the SDK's own readers read it.
        super().__init__(getattr(exporter, "_preferred_temporality", None))
        self._exporter = exporter
        self.delivered = True

    def _receive_metrics(self, metrics_data: Any, timeout_millis: float = 10_000, **_more: object) -> None:  # noqa: ANN401
        result = self._exporter.export(metrics_data, timeout_millis=timeout_millis)
        self.delivered = result is MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis: float = 30_000, **_more: object) -> None:
        """Keep nothing open: the process ends."""


class _Keep(SpanProcessor):
    """Hands spans over."""

    def __init__(self, keep: Callable[[ReadableSpan], None]) -> None:
        self._keep = keep

    def on_end(self, span: ReadableSpan) -> None:
        """Keep it."""
        self._keep(span)


class _Outlets:
    """The exporters of spans or of log records, each with what it has not delivered yet."""

    def __init__(self, what: str, exporters: list[Any]) -> None:
        """Start with nothing; ``what`` they carry, in words."""
        self._what = what
        self._waiting: list[tuple[Any, list[Any]]] = [(exporter, []) for exporter in exporters]

    def keep(self, one: Any) -> None:  # noqa: ANN401 - a span or a log record
        """Keep it for every exporter."""
        for _, waiting in self._waiting:
            waiting.append(one)

    def send(self, quiet: Quiet) -> list[str]:
        """Send what waits, and return what could not be delivered, in words; it is tried again with the next ones."""
        problems = []
        for exporter, waiting in self._waiting:
            batch = waiting[:]
            if batch and exporter.export(batch).name != "SUCCESS":
                problems.append(f"{len(batch)} {self._what} ({quiet.last or 'refused'})")
            else:
                del waiting[: len(batch)]
        return problems


class Pipeline:
    """Providers and exporters of the agent's own."""

    def __init__(self, wanted: Wanted, numbers: Numbers, *, forked: bool = False) -> None:
        """Build what is wanted.

        Args:
            wanted: What the variables ask for.
            numbers: Where the metrics come from.
            forked: This process was forked from one that may have told who it is.

        """
        self._quiet = Quiet()
        self._spans = Spans()
        exporters = {signal: _exporters(signal, protocols) for signal, protocols in wanted.exporters.items()}
        resource = _resource(forked=forked)
        self._readers = [_Reader(exporter) for exporter in exporters.get(METRICS, ())]
        self._registry: Any = None
        self._instruments: Instruments | None = None
        readers: list[MetricReader] = [*self._readers, *self._scraped_readers(wanted)]
        if readers:
            provider = MeterProvider(readers, resource, shutdown_on_exit=False)
            self._instruments = Instruments(provider.get_meter(names.SCOPE, __version__, schema_url=names.SCHEMA_URL), numbers)
        self._span_outlets = _Outlets("spans", exporters.get(TRACES, []))
        self._tracer: Any = None
        if exporters.get(TRACES):
            tracers = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
            tracers.add_span_processor(_Keep(self._span_outlets.keep))
            self._tracer = tracers.get_tracer(names.SCOPE, __version__, schema_url=names.SCHEMA_URL)
        self._event_outlets = _Outlets("log records", exporters.get(LOGS, []))
        self._events = _events_class().kept(resource, self._event_outlets.keep) if exporters.get(LOGS) else None

    def _scraped_readers(self, wanted: Wanted) -> list[MetricReader]:
        if wanted.scrape is None:
            return []
        with suppress(MissingError):
            made = _prometheus_reader_class()
            from prometheus_client import CollectorRegistry

            self._registry = CollectorRegistry()
            return [made(registry=self._registry)]
        return []

    @property
    def can_be_scraped(self) -> bool:
        """Say whether `scraped` has something to return."""
        return self._registry is not None

    def scraped(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics as Prometheus wants them, and the type of that text, for an ``Accept`` header."""
        from prometheus_client.exposition import choose_encoder

        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind

    def send(self, findings: list[Finding], report: Report | None, *, now: bool = False) -> list[str]:  # noqa: ARG002
        """Send the numbers and what is new now; ``report`` at the end.

        Returns:
            What could not be delivered, and why, in words.

        """
        self._quiet.attach()
        self._quiet.ident = get_ident()
        # An instrumented HTTP client would trace the agent's own requests.
        context = otel_context.get_current()
        for key in ("suppress_instrumentation", "suppress_http_instrumentation"):
            context = otel_context.set_value(key, True, context)
        token = otel_context.attach(context)
        try:
            return [*self._send_metrics(report), *self._send_spans(findings, report), *self._send_events(findings, report)]
        finally:
            otel_context.detach(token)
            self._quiet.ident = 0

    def _send_metrics(self, report: Report | None) -> list[str]:
        if report is not None and self._instruments is not None:
            self._instruments.of_end(report)
        for reader in self._readers:
            reader.collect()
        return [f"metrics ({self._quiet.last or 'refused'})" for reader in self._readers if not reader.delivered]

    def _send_spans(self, findings: list[Finding], report: Report | None) -> list[str]:
        if self._tracer is None:
            return []
        self._spans.of_findings(self._tracer, findings)
        if report is not None:
            self._spans.of_end(self._tracer, report, findings)
        return self._span_outlets.send(self._quiet)

    def _send_events(self, findings: list[Finding], report: Report | None) -> list[str]:
        if self._events is None:
            return []
        self._events.of_findings(findings)
        if report is not None:
            self._events.of_end(report, findings)
        return self._event_outlets.send(self._quiet)


def _exporters(signal: str, protocols: tuple[str, ...]) -> list[Any]:
    found = []
    for protocol in protocols:
        # A missing one was told when it was loaded.
        with suppress(MissingError):
            if protocol != PROMETHEUS:
                found.append(exporter_class(signal, protocol)())
    return found


def _resource(*, forked: bool) -> Resource:
    """Return the program's own resource if it has a real provider, so that the service's name agrees; else its file names it.

    A forked child is an instance of its own, which the program's provider does not know.  Not by `Resource.create`, which starts a
    thread pool: refused when the main thread has ended.
    """
    instance = {"service.instance.id": str(uuid4())}
    # With this variable the getter would make a provider.
    provider = None if os.environ.get("OTEL_PYTHON_TRACER_PROVIDER") else trace.get_tracer_provider()
    # Not by the provider's class: Logfire has one of its own around the SDK's.
    known = getattr(provider, "resource", None)
    if isinstance(known, Resource):
        return known.merge(Resource(instance)) if forked or "service.instance.id" not in known.attributes else known
    program = os.path.basename(sys.argv[0]) if sys.argv else ""
    made = Resource(
        {
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.version": sdk_version.__version__,
            SERVICE_NAME: program or "python",
            **instance,
        }
    )
    return made.merge(OTELResourceDetector().detect())
