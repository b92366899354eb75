"""The JSON report, ``leakagent.report/1``: a public interface; its schema is `schema.json` beside this file."""

from __future__ import annotations

import json
import time

from leakagent.core.findings import ACTIONS, REASONS, Finding, Process, Report, StageReceipt
from leakagent.core.records import PROCESS
from leakagent.core.sites import LIBRARY, YOURS, Site

from .charts import begin_of
from .files import write_text
from .fingerprint import SOURCE_LIMIT, merge
from .words import disabled_parts, finite, well_formed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

SCHEMA = "leakagent.report/1"
_TRACE_DIGITS = 32
_COUNTERS = ("created", "finished", "live", "peak")


def to_dict(report: Report) -> dict[str, Any]:
    """Return the report as plain JSON values, one entry per fingerprint."""
    document = {
        "schema": SCHEMA,
        "program": well_formed(report.program),
        "argv": _texts(report.argv),
        "pid": report.pid,
        "parent_pid": report.parent_pid,
        "python": well_formed(report.python),
        "leakagent": well_formed(report.leakagent),
        "started": timestamp(report.started),
        "ended": timestamp(report.ended),
        "exit": {"status": report.status, "signal": report.signal},
        "findings": [_finding(finding) for finding in merge(report.findings)],
        "receipt": [
            {
                "stage": well_formed(stage.stage),
                "seconds": _seconds(stage.seconds),
                "asked": stage.asked,
                "forced": stage.forced,
                "deadline": _seconds(stage.deadline),
                "after": _seconds(begin),
            }
            for stage, begin in zip(report.receipt, begin_of(report.receipt), strict=True)
        ],
        "totals": {
            well_formed(kind): {name: int(counters.get(name, 0)) for name in _COUNTERS}
            for kind, counters in report.totals.items()
        },
        "agent": {
            "seconds": _seconds(report.agent.get("seconds", 0.0)),
            "bytes": int(report.agent.get("bytes", 0)),
            "disabled": disabled_parts(report.agent.get("disabled", ())),
        },
    }
    if report.running:
        document["running"] = True
    if report.timeline:
        document["timeline"] = [
            {"at": timestamp(when), "memory": size, "live": {well_formed(kind): count for kind, count in live.items()}}
            for when, size, live in report.timeline
        ]
    if report.processes:
        document["processes"] = [_process(one) for one in report.processes]
    return document


def _process(one: Process) -> dict[str, Any]:
    return {
        "pid": one.pid,
        "parent_pid": one.parent_pid,
        "kind": well_formed(one.kind),
        "name": well_formed(one.name),
        "place": well_formed(one.place),
        "runs": one.runs,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    site = finding.site
    entry: dict[str, Any] = {
        "fingerprint": finding.fingerprint,
        "reason": finding.reason,
        "kind": well_formed(finding.kind),
        "count": finding.count,
        "owner": site.owner,
        "site": {
            "function": well_formed(site.function),
            "file": well_formed(site.file),
            "line": max(site.line, 0),
            "source": well_formed(finding.source, SOURCE_LIMIT),
        },
        "stack": _texts(finding.stack),
        "oldest_age_s": _seconds(finding.oldest_age_s),
        "names": _texts(finding.names),
        "trace_id": _trace_id(finding.trace_id),
        "test_id": None if finding.test_id is None else well_formed(finding.test_id),
        "evidence": _texts(finding.evidence),
        "action": finding.action,
        "fix": well_formed(finding.fix),
    }
    if finding.pids:
        entry["pids"] = list(finding.pids)
    return entry


def _texts(values: Iterable[object]) -> list[str]:
    return [well_formed(value) for value in values]


def _seconds(value: object) -> float:
    return round(finite(value), 6)


def _trace_id(value: str | None) -> str | None:
    text = "" if value is None else value.lower()
    known = text and len(text) <= _TRACE_DIGITS and all(char in "0123456789abcdef" for char in text)
    return text if known else None


def timestamp(seconds: float) -> str:
    """Return ``time.time()`` seconds as RFC 3339 in UTC with milliseconds; the epoch when they make no sense."""
    milliseconds = round(finite(seconds) * 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(milliseconds // 1000))}.{milliseconds % 1000:03d}Z"


def dumps(report: Report) -> str:
    """Return the report as JSON text: ASCII only, so that it is harmless on every terminal and in every encoding."""
    return json.dumps(to_dict(report), indent=1, allow_nan=False) + "\n"


def write(report: Report, path: str) -> None:
    """Write the report to a file, whole or not at all; folders on the way are created.

    Raises:
        OSError: It can't be written; the message names the path and the cause.

    """
    write_text(path, dumps(report))


def from_dict(data: object) -> Report:
    """Build a report from the values of a JSON report; fields that this version does not know are passed over.

    Raises:
        ValueError: It is no such report; the message names the field and what was expected.

    """
    top = _Reader(data, "the report")
    schema = top.value("schema")
    if schema != SCHEMA:
        message = f"not a leakagent report: schema is {schema!r}, expected {SCHEMA!r}"
        raise ValueError(message)
    report = Report(top.text("program"), top.texts("argv"), top.integer("pid"), top.integer("parent_pid"))
    report.python = top.text("python")
    report.leakagent = top.text("leakagent")
    report.started = top.time("started")
    report.ended = top.time("ended")
    exit_ = top.child("exit")
    report.status = exit_.integer_or_none("status")
    report.signal = exit_.integer_or_none("signal")
    report.running = top.has("running") and bool(top.value("running"))
    report.findings = [_read_finding(item) for item in top.children("findings")]
    report.receipt = _read_receipt(top.children("receipt"))
    report.timeline = [_read_sample(item) for item in (top.children("timeline") if top.has("timeline") else ())]
    report.processes = [_read_process(item) for item in (top.children("processes") if top.has("processes") else ())]
    totals = top.child("totals")
    for kind in totals.keys():  # noqa: SIM118 - a reader is no dict
        counters = totals.child(kind)
        report.totals[kind] = {name: counters.integer(name) for name in _COUNTERS}
    agent = top.child("agent")
    report.agent = {
        "seconds": agent.number("seconds"),
        "bytes": agent.integer("bytes"),
        "disabled": agent.texts("disabled"),
    }
    return report


def loads(text: str) -> Report:
    """Build a report from the text of a JSON report.

    Raises:
        ValueError: It is no such report; the message says why.

    """
    try:
        return from_dict(json.loads(text))
    except RecursionError:
        message = "values in values, too deep to be read"
        raise ValueError(message) from None


def processes_of(text: str) -> list[Process]:
    """Return the processes that a child's report tells of, itself first; none if it is no report."""
    try:
        report = loads(text)
    except ValueError:
        return []
    return [Process(report.pid, report.parent_pid, PROCESS, report.program), *report.processes]


def _read_receipt(items: list[_Reader]) -> list[StageReceipt]:
    receipt, end = [], 0.0
    for item in items:
        stage = StageReceipt(
            item.text("stage"), item.number("seconds"), item.integer("asked"), item.integer("forced"), item.number("deadline")
        )
        # Older reports don't say when a stage began: one after the other.
        stage.ended = end = (item.number("after") if item.has("after") else end) + stage.seconds
        receipt.append(stage)
    return receipt


def _read_sample(item: _Reader) -> tuple[float, int, dict[str, int]]:
    live = item.child("live")
    return item.time("at"), item.integer("memory"), {kind: live.integer(kind) for kind in live.keys()}  # noqa: SIM118 - no dict


def _read_process(item: _Reader) -> Process:
    return Process(
        item.integer("pid"),
        item.integer("parent_pid"),
        item.text("kind"),
        item.text("name"),
        place=item.text("place"),
        runs=bool(item.value("runs")),
    )


def _read_finding(item: _Reader) -> Finding:
    place = item.child("site")
    file = place.text("file")
    site = Site(place.text("function"), file, place.integer("line"))
    # The report's word counts: what is a library there may look like a file of ours here.
    site.owner = item.choice("owner", (YOURS, LIBRARY))
    site.file = file
    finding = Finding(
        item.choice("reason", tuple(REASONS)),
        item.text("kind"),
        site,
        count=item.integer("count"),
        oldest_age_s=item.number("oldest_age_s"),
        names=item.texts("names"),
        evidence=item.texts("evidence"),
        action=item.choice("action", ACTIONS),
        fix=item.text("fix"),
        stack=item.texts("stack"),
        trace_id=item.text_or_none("trace_id"),
        test_id=item.text_or_none("test_id"),
        pids=item.integers("pids") if item.has("pids") else [],
    )
    finding.source = place.text("source")
    finding.fingerprint = item.text("fingerprint")
    if not finding.fingerprint:
        message = f"{item.where}.fingerprint: expected a text that is not empty"
        raise ValueError(message)
    return finding


class _Reader:
    """Reads the fields of one JSON object and says clearly which one is wrong."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            message = f"{where}: expected an object, found {_named(data)}"
            raise ValueError(message)  # noqa: TRY004 - one error class for everything that is wrong with a file
        self._data: dict[str, Any] = data
        self.where = where

    def keys(self) -> list[str]:
        return list(self._data)

    def has(self, name: str) -> bool:
        return name in self._data

    def value(self, name: str) -> Any:  # noqa: ANN401 - what a file holds
        if name not in self._data:
            message = f"{self.where}: field {name!r} is missing"
            raise ValueError(message)
        return self._data[name]

    def _wrong(self, name: str, expected: str) -> ValueError:
        return ValueError(f"{self._path(name)}: expected {expected}, found {_named(self._data[name])}")

    def _path(self, name: str) -> str:
        return name if self.where == "the report" else f"{self.where}.{name}"

    def child(self, name: str) -> _Reader:
        return _Reader(self.value(name), self._path(name))

    def children(self, name: str) -> list[_Reader]:
        return [_Reader(item, f"{self._path(name)}[{index}]") for index, item in enumerate(self._list(name))]

    def _list(self, name: str) -> list[Any]:
        value = self.value(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        return value

    def text(self, name: str) -> str:
        value = self.value(name)
        if not isinstance(value, str):
            raise self._wrong(name, "a text")
        return value

    def text_or_none(self, name: str) -> str | None:
        return None if self.value(name) is None else self.text(name)

    def texts(self, name: str) -> list[str]:
        value = self._list(name)
        if not all(isinstance(item, str) for item in value):
            raise self._wrong(name, "a list of texts")
        return value

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        value = self.text(name)
        if value not in allowed:
            raise self._wrong(name, "one of " + ", ".join(allowed))
        return value

    def integer(self, name: str) -> int:
        value = self.value(name)
        if not _is_integer(value):
            raise self._wrong(name, "a whole number")
        return int(value)

    def integer_or_none(self, name: str) -> int | None:
        return None if self.value(name) is None else self.integer(name)

    def integers(self, name: str) -> list[int]:
        value = self._list(name)
        if not all(_is_integer(item) for item in value):
            raise self._wrong(name, "a list of whole numbers")
        return value

    def number(self, name: str) -> float:
        value = self.value(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(name, "a number")
        return finite(value)

    def time(self, name: str) -> float:
        from datetime import datetime

        text = self.text(name)
        try:
            when = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            when = None
        if when is None or when.tzinfo is None:
            raise self._wrong(name, "a time like 2026-01-31T12:00:00.000Z")
        return when.timestamp()


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _named(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."  # noqa: PLR2004 - fits on a line
