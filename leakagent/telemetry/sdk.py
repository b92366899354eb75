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

import logging
import os
import sys
import time
from contextlib import suppress
from functools import partial
from threading import get_ident
from uuid import uuid4

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.sdk import version as sdk_version
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from leakagent import __version__
from leakagent.core.findings import Finding, Report

from . import names
from .wanted import CONSOLE, GRPC, METRICS, TRACES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .numbers import Numbers
    from .wanted import Wanted

_NANO = 1_000_000_000

#: The packages that exporters come from.
PACKAGES = {
    GRPC: "opentelemetry-exporter-otlp-proto-grpc",
    "http/protobuf": "opentelemetry-exporter-otlp-proto-http",
}


class MissingError(Exception):
    """An exporter that was asked for is not installed; the text is for people."""


def exporter_class(signal: str, protocol: str) -> Callable[..., Any]:
    """Return the class of an exporter.

    Args:
        signal: `METRICS` or `TRACES`.
        protocol: One of `leakagent.telemetry.wanted`.

    Raises:
        MissingError: Its package is not installed.

    """
    name = "MetricExporter" if signal == METRICS else "SpanExporter"
    if protocol == CONSOLE:
        found: Any = __import__(f"opentelemetry.sdk.{'metrics' if signal == METRICS else 'trace'}.export", fromlist=[name])
        # Not the program's standard output.
        return partial(getattr(found, f"Console{name}"), out=sys.stderr)
    package = "grpc" if protocol == GRPC else "http"
    module = f"opentelemetry.exporter.otlp.proto.{package}.{'metric' if signal == METRICS else 'trace'}_exporter"
    try:
        found = __import__(module, fromlist=[name])
    except ImportError as error:
        message = f"OTLP by {protocol} needs {PACKAGES[protocol]} ({error}): pip install 'leakagent[otlp]'"
        raise MissingError(message) from error
    made: Callable[..., Any] = getattr(found, f"OTLP{name}")
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


class Spans:
    """Turns findings and the end of the process into spans."""

    def __init__(self) -> None:
        """Start with nothing told."""
        self._told: dict[str, int] = {}
        self._contexts: list[SpanContext] = []

    def of_findings(self, tracer: Any, findings: Iterable[Finding]) -> None:  # noqa: ANN401 - a Tracer
        """Make a span for each finding that has none yet, `names.SPANS_PER_PLACE` for one place at most."""
        places: dict[str, list[Finding]] = {}
        for finding in findings:
            places.setdefault(finding.fingerprint, []).append(finding)
        for fingerprint, found in places.items():
            done = self._told.get(fingerprint, 0)
            for finding in found[done : names.SPANS_PER_PLACE]:
                self._contexts.append(_finding_span(tracer, finding))
            self._told[fingerprint] = max(done, min(len(found), names.SPANS_PER_PLACE))

    def of_end(self, tracer: Any, report: Report) -> None:  # noqa: ANN401 - a Tracer
        """Make a span for the end of the process, with a child for each stage."""
        end = int(report.ended * _NANO)
        times = [(int((stage.ended - stage.seconds) * _NANO), int(stage.ended * _NANO)) for stage in report.receipt]
        begin = min([end, *(start for start, _ in times)])
        links = [Link(one, {names.LINK: "finding"}) for one in self._contexts[-names.LINKS :]]
        attributes: dict[str, Any] = {names.PID: os.getpid()}
        if report.status is not None:
            attributes[names.EXIT_CODE] = report.status
        whole = tracer.start_span(
            names.SHUTDOWN_SPAN, context=Context(), links=links, start_time=begin, attributes=attributes, kind=SpanKind.INTERNAL
        )
        inside = trace.set_span_in_context(whole, Context())
        for stage, (start, stop) in zip(report.receipt, times, strict=True):
            span = tracer.start_span(
                f"{names.STAGE_SPAN} {stage.stage}", context=inside, start_time=start, attributes={names.STAGE: stage.stage}
            )
            if stage.forced:
                span.set_status(Status(StatusCode.ERROR, f"{stage.forced} of {stage.asked} forced"))
            span.end(end_time=max(start, stop))
        whole.end(end_time=max([end, *(stop for _, stop in times)]))


def _finding_span(tracer: Any, finding: Finding) -> SpanContext:  # noqa: ANN401 - a Tracer
    end = time.time_ns()
    age = finding.oldest_age_s if finding.created is None else time.monotonic() - finding.created
    site = finding.site
    attributes: dict[str, Any] = {
        names.REASON: finding.reason,
        names.KIND: finding.kind,
        names.FINGERPRINT: finding.fingerprint,
        names.COUNT: finding.count,
        names.ACTION: finding.action,
        names.OWNER: site.owner,
        names.FUNCTION: site.function,
        names.PID: os.getpid(),
    }
    if site.line:
        attributes.update({names.FILE: site.file, names.LINE: site.line})
    if finding.stack:
        attributes[names.STACK] = "\n".join(finding.stack)
    around, links = Context(), []
    if finding.span is not None:
        number, span_number, flags = finding.span
        creator = SpanContext(number, span_number, is_remote=False, trace_flags=TraceFlags(flags))
        around = trace.set_span_in_context(NonRecordingSpan(creator), around)
        links = [Link(creator, {names.LINK: "created_by"})]
    span = tracer.start_span(
        f"{names.FINDING_SPAN} {finding.kind}",
        context=around,
        links=links,
        start_time=end - int(age * _NANO),
        attributes=attributes,
    )
    span.set_status(Status(StatusCode.ERROR, finding.reason))
    span.end(end_time=end)
    made: SpanContext = span.get_span_context()
    return made


def instruments(meter: Any, numbers: Numbers) -> None:  # noqa: ANN401 - a Meter
    """Create every instrument of `names.METRICS`; the first one that is asked has the numbers read."""

    def callback(name: str) -> Callable[[object], list[metrics.Observation]]:
        attributes = names.METRICS[name][2]
        first = name == next(iter(names.METRICS))

        def observe(_options: object) -> list[metrics.Observation]:
            if not numbers.active:
                return []
            if first:
                numbers.collect()
            return [
                metrics.Observation(value, dict(zip(attributes, values, strict=True))) for values, value in numbers.points(name)
            ]

        return observe

    create = {
        names.UP_DOWN: meter.create_observable_up_down_counter,
        names.COUNTER: meter.create_observable_counter,
        names.GAUGE: meter.create_observable_gauge,
    }
    for name, (instrument, unit, _, meaning) in names.METRICS.items():
        create[instrument](name, callbacks=[callback(name)], unit=unit, description=meaning)


class Global:
    """The program's own providers."""

    def __init__(self, numbers: Numbers) -> None:
        """Create the instruments; they come to life when the program sets its provider."""
        self._spans = Spans()
        instruments(metrics.get_meter(names.SCOPE, __version__, schema_url=names.SCHEMA_URL), numbers)

    def send(self, findings: Iterable[Finding], report: Report | None) -> list[str]:
        """Make the spans; at the end have the providers deliver what they have."""
        tracer = trace.get_tracer(names.SCOPE, __version__, schema_url=names.SCHEMA_URL)
        self._spans.of_findings(tracer, findings)
        if report is None:
            return []
        self._spans.of_end(tracer, report)
        for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
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
    """Keeps spans until they are sent."""

    def __init__(self, ended: list[ReadableSpan]) -> None:
        self._ended = ended

    def on_end(self, span: ReadableSpan) -> None:
        """Keep it."""
        self._ended.append(span)


class Pipeline:
    """Providers and exporters of the agent's own."""

    def __init__(self, wanted: Wanted, numbers: Numbers, timeout: float | None = None) -> None:
        """Build what is wanted.

        Args:
            wanted: What the variables ask for.
            numbers: Where the metrics come from.
            timeout: Seconds for one export, or None for what the variables say.

        """
        self._quiet = Quiet()
        self._spans = Spans()
        self._exporters: dict[str, Any] = {}
        for signal, protocol in wanted.exporters.items():
            # A missing one was told when it was loaded.
            with suppress(MissingError):
                made = exporter_class(signal, protocol)
                limited = timeout is not None and protocol != CONSOLE
                self._exporters[signal] = made(timeout=timeout) if limited else made()
        resource = _resource()
        self._reader: _Reader | None = None
        self._tracer: Any = None
        self._ended: list[ReadableSpan] = []
        if METRICS in self._exporters:
            self._reader = _Reader(self._exporters[METRICS])
            provider = MeterProvider([self._reader], resource, shutdown_on_exit=False)
            instruments(provider.get_meter(names.SCOPE, __version__, schema_url=names.SCHEMA_URL), numbers)
        if TRACES in self._exporters:
            tracers = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
            tracers.add_span_processor(_Keep(self._ended))
            self._tracer = tracers.get_tracer(names.SCOPE, __version__, schema_url=names.SCHEMA_URL)
        self._quiet.attach()

    def send(self, findings: Iterable[Finding], report: Report | None) -> list[str]:
        """Send the numbers and the new spans now; ``report`` at the end.

        Returns:
            What could not be delivered, and why, in words.

        """
        self._quiet.ident = get_ident()
        # An instrumented HTTP client would trace the agent's own requests.
        context = otel_context.get_current()
        for key in ("suppress_instrumentation", "suppress_http_instrumentation"):
            context = otel_context.set_value(key, True, context)
        token = otel_context.attach(context)
        try:
            return [text for text in (self._send_metrics(), self._send_spans(findings, report)) if text]
        finally:
            otel_context.detach(token)
            self._quiet.ident = 0

    def _send_metrics(self) -> str:
        if self._reader is None:
            return ""
        self._reader.collect()
        return "" if self._reader.delivered else f"metrics ({self._quiet.last or 'refused'})"

    def _send_spans(self, findings: Iterable[Finding], report: Report | None) -> str:
        if self._tracer is None:
            return ""
        self._spans.of_findings(self._tracer, findings)
        if report is not None:
            self._spans.of_end(self._tracer, report)
        # What could not be sent is tried again with the next ones.
        waiting = self._ended[:]
        if not waiting:
            return ""
        if self._exporters[TRACES].export(waiting).name != "SUCCESS":
            return f"{len(waiting)} spans ({self._quiet.last or 'refused'})"
        del self._ended[: len(waiting)]
        return ""


def _resource() -> Resource:
    """Return the program's own resource if it has a real provider, so that the service's name agrees; else its file names it.

    Not by `Resource.create`, which starts a thread pool: refused when the main thread has ended.
    """
    # With this variable the getter would make a provider.
    provider = None if os.environ.get("OTEL_PYTHON_TRACER_PROVIDER") else trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        return provider.resource
    program = os.path.basename(sys.argv[0]) if sys.argv else ""
    made = Resource(
        {
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.version": sdk_version.__version__,
            "service.instance.id": str(uuid4()),
            SERVICE_NAME: program or "python",
        }
    )
    return made.merge(OTELResourceDetector().detect())
