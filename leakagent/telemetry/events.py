"""Findings and the end of the process as log records with an event name, for those who ask for them (``OTEL_LOGS_EXPORTER``).

The Logs API is still the SDK's underscore module and has changed its classes more than once, so it is imported here alone, where it
is asked for, and an SDK without it is told in one line (`leakagent.telemetry.sdk.MissingError`).
"""

from __future__ import annotations

import os
import time

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber, get_logger
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadableLogRecord
from opentelemetry.trace import NonRecordingSpan

from leakagent import __version__, guard
from leakagent.core.findings import REASONS

from . import names
from .spans import NANO, PerPlace, attributes_of, creator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from leakagent.core.findings import Finding, Report


class _Keep(LogRecordProcessor):
    """Hands log records over."""

    def __init__(self, keep: Callable[[Any], None]) -> None:
        self._keep = keep

    def on_emit(self, log_record: Any) -> None:  # noqa: ANN401 - the SDK's, which has changed its name
        """Keep it."""
        self._keep(
            ReadableLogRecord(
                log_record=log_record.log_record,
                resource=log_record.resource,
                instrumentation_scope=log_record.instrumentation_scope,
                limits=log_record.limits,
            )
        )

    def shutdown(self) -> None:
        """Keep nothing open."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the SDK's interface
        """Say that nothing waits here."""
        return True


class Events:
    """Turns findings and the end of the process into log records."""

    def __init__(self, logger: Any) -> None:  # noqa: ANN401 - a Logger
        """Start with nothing told; ``logger`` takes the records."""
        self._logger = logger
        self._places = PerPlace()
        self._parts: set[str] = set()

    @classmethod
    def of_program(cls) -> Events:
        """Return those that go to the program's own provider."""
        return cls(get_logger(names.SCOPE, __version__, schema_url=names.SCHEMA_URL))

    @classmethod
    def kept(cls, resource: Any, keep: Callable[[Any], None]) -> Events:  # noqa: ANN401 - a Resource
        """Return those that are handed over as soon as they are made."""
        provider = LoggerProvider(resource, shutdown_on_exit=False)
        provider.add_log_record_processor(_Keep(keep))
        return cls(provider.get_logger(names.SCOPE, __version__, names.SCHEMA_URL))

    def of_findings(self, findings: Iterable[Finding]) -> None:
        """Make one for each finding and each disabled part that has none yet."""
        for finding in self._places.new(findings):
            site = finding.site
            times = f"{finding.count} x " if finding.count > 1 else ""
            where = f"{site.file}:{site.line} {site.function}" if site.line else site.function
            around, made_by = Context(), creator(finding)
            if made_by is not None:
                around = trace.set_span_in_context(NonRecordingSpan(made_by), around)
            body = f"{times}{finding.kind} {REASONS.get(finding.reason, finding.reason)}: {where}"
            self._emit(names.FINDING_EVENT, body, attributes_of(finding), warn=True, context=around)
        for part, cause in list(guard.disabled.items()):
            if part not in self._parts:
                self._parts.add(part)
                self._emit(names.DISABLED_EVENT, cause, {names.PART: part}, warn=True)

    def of_end(self, report: Report, findings: Iterable[Finding]) -> None:
        """Make one for the end of the process."""
        found, forced = sum(one.count for one in findings), sum(stage.forced for stage in report.receipt)
        seconds = sum(stage.seconds for stage in report.receipt)
        body = f"{report.program} ended: {found} leaks found, {forced} resources forced, closed in {seconds:.1f} s"
        attributes: dict[str, Any] = {names.PID: os.getpid()}
        if report.status is not None:
            attributes[names.EXIT_CODE] = report.status
        self._emit(names.SHUTDOWN_EVENT, body, attributes, warn=bool(forced), at=int(report.ended * NANO))

    def _emit(  # noqa: PLR0913 - what a record has
        self, name: str, body: str, attributes: dict[str, Any], *, warn: bool, context: Context | None = None, at: int = 0
    ) -> None:
        now = time.time_ns()
        self._logger.emit(
            LogRecord(
                timestamp=at or now,
                observed_timestamp=now,
                context=Context() if context is None else context,
                severity_number=SeverityNumber.WARN if warn else SeverityNumber.INFO,
                severity_text="WARN" if warn else "INFO",
                body=body,
                attributes=attributes,
                event_name=name,
            )
        )
