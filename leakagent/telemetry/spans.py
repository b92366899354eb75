"""Findings and the end of the process as spans; `leakagent.telemetry.names` says what they are called."""

from __future__ import annotations

import os
import time

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from leakagent.core import records as r
from leakagent.core.findings import KILLED, REFUSED_CLEANUP, RELEASED

from . import names
from .numbers import qualified

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from leakagent.core.findings import Finding, Report

NANO = 1_000_000_000

#: Kind -> the stage of the shutdown that ends it.
_STAGES = {
    r.TASK: "loops",
    r.THREAD_POOL: "executors",
    r.PROCESS_POOL: "executors",
    r.THREAD: "threads",
    r.PROCESS: "children",
    r.SUBPROCESS: "subprocesses",
    r.CHROMADB_CLIENT: "clients",
    r.LANCEDB_CONNECTION: "clients",
    r.LANCEDB_LOOP: "clients",
}


class PerPlace:
    """Lets `names.SPANS_PER_PLACE` findings of one place through, each once."""

    def __init__(self) -> None:
        """Start with nothing told."""
        self._told: dict[str, int] = {}

    def new(self, findings: Iterable[Finding]) -> list[Finding]:
        """Return the findings that were not told yet."""
        places: dict[str, list[Finding]] = {}
        for finding in findings:
            places.setdefault(finding.fingerprint, []).append(finding)
        chosen = []
        for fingerprint, found in places.items():
            done = self._told.get(fingerprint, 0)
            chosen += found[done : names.SPANS_PER_PLACE]
            self._told[fingerprint] = max(done, min(len(found), names.SPANS_PER_PLACE))
        return chosen


class Spans:
    """Turns findings and the end of the process into spans."""

    def __init__(self) -> None:
        """Start with nothing told."""
        self._places = PerPlace()
        self._contexts: list[SpanContext] = []
        self._by_place: dict[str, SpanContext] = {}

    def of_findings(self, tracer: Any, findings: Iterable[Finding]) -> None:  # noqa: ANN401 - a Tracer
        """Make a span for each finding that has none yet, `names.SPANS_PER_PLACE` for one place at most."""
        for finding in self._places.new(findings):
            context = _finding_span(tracer, finding)
            self._contexts.append(context)
            self._by_place[finding.fingerprint] = context

    def of_end(self, tracer: Any, report: Report, findings: Iterable[Finding]) -> None:  # noqa: ANN401 - a Tracer
        """Make a span for the end of the process, with a child for each stage, and in it one for each thing that was forced."""
        end = int(report.ended * NANO)
        times = [(int((stage.ended - stage.seconds) * NANO), int(stage.ended * NANO)) for stage in report.receipt]
        begin = min([end, *(start for start, _ in times)])
        links = [Link(one, {names.LINK: "finding"}) for one in self._contexts[-names.LINKS :]]
        attributes: dict[str, Any] = {names.PID: os.getpid()}
        if report.status is not None:
            attributes[names.EXIT_CODE] = report.status
        whole = tracer.start_span(
            names.SHUTDOWN_SPAN, context=Context(), links=links, start_time=begin, attributes=attributes, kind=SpanKind.INTERNAL
        )
        stop = max([end, *(stop for _, stop in times)])
        #: Stage -> span, begin and end; what belongs to none is a child of the whole.
        stages = {"": (whole, begin, stop)}
        inside = trace.set_span_in_context(whole, Context())
        for stage, (started, stopped) in zip(report.receipt, times, strict=True):
            span = tracer.start_span(
                f"{names.STAGE_SPAN} {stage.stage}", context=inside, start_time=started, attributes={names.STAGE: stage.stage}
            )
            if stage.forced:
                span.set_status(Status(StatusCode.ERROR, f"{stage.forced} of {stage.asked} forced"))
                span.set_attribute(names.ERROR, names.TIMEOUT)
            stages[stage.stage] = span, started, max(started, stopped)
        self._forced(tracer, findings, stages)
        for span, _, stopped in reversed(stages.values()):
            span.end(end_time=stopped)

    def _forced(self, tracer: Any, findings: Iterable[Finding], stages: dict[str, tuple[Any, int, int]]) -> None:  # noqa: ANN401
        forced = [one for one in findings if one.action in {KILLED, RELEASED} or one.reason == REFUSED_CLEANUP]
        for finding in forced[: names.LINKS]:
            parent, started, stopped = stages.get(_STAGES.get(finding.kind, ""), stages[""])
            known = self._by_place.get(finding.fingerprint)
            span = tracer.start_span(
                f"{names.FORCED_SPAN} {finding.kind}",
                context=trace.set_span_in_context(parent, Context()),
                links=[] if known is None else [Link(known, {names.LINK: "finding"})],
                start_time=started,
                attributes={
                    names.KIND: finding.kind,
                    names.ACTION: finding.action,
                    names.COUNT: finding.count,
                    names.ERROR: names.TIMEOUT,
                    **_place(finding),
                },
            )
            span.set_status(Status(StatusCode.ERROR, finding.action))
            span.end(end_time=stopped)


def creator(finding: Finding) -> SpanContext | None:
    """Return the span that was current when the resource was created."""
    if finding.span is None:
        return None
    trace_id, span_id, flags = finding.span
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(flags))


def attributes_of(finding: Finding) -> dict[str, Any]:
    """Return what a span and an event say of a finding."""
    attributes: dict[str, Any] = {
        names.REASON: finding.reason,
        names.KIND: finding.kind,
        names.FINGERPRINT: finding.fingerprint,
        names.COUNT: finding.count,
        names.ACTION: finding.action,
        names.OWNER: finding.site.owner,
        names.PID: os.getpid(),
        **_place(finding),
    }
    if finding.evidence:
        attributes[names.EVIDENCE] = list(finding.evidence)
    if finding.fix:
        attributes[names.FIX] = finding.fix
    if finding.stack:
        attributes[names.STACK] = "\n".join(finding.stack)
    return attributes


def _place(finding: Finding) -> dict[str, Any]:
    site = finding.site
    found: dict[str, Any] = {names.FUNCTION: qualified(site)}
    if site.line:
        found.update({names.FILE: site.file, names.LINE: site.line})
    return found


def _finding_span(tracer: Any, finding: Finding) -> SpanContext:  # noqa: ANN401 - a Tracer
    end = time.time_ns()
    age = finding.oldest_age_s if finding.created is None else time.monotonic() - finding.created
    around, links = Context(), []
    made_by = creator(finding)
    if made_by is not None:
        around = trace.set_span_in_context(NonRecordingSpan(made_by), around)
        links = [Link(made_by, {names.LINK: "created_by"})]
    span = tracer.start_span(
        f"{names.FINDING_SPAN} {finding.kind}",
        context=around,
        links=links,
        start_time=end - int(age * NANO),
        attributes={**attributes_of(finding), names.ERROR: finding.reason},
    )
    span.set_status(Status(StatusCode.ERROR, finding.reason))
    span.end(end_time=end)
    made: SpanContext = span.get_span_context()
    return made
