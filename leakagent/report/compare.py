"""Two reports of the same program: which leaks are new, which are gone, and which have grown or shrunk, by fingerprint."""

from __future__ import annotations

import json

from .words import duration, kind_name, place, reason_text, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from leakagent.core.findings import Finding, Report

SCHEMA = "leakagent.comparison/1"


class Changes:
    """What has changed from one report to another.

    Attributes:
        new: Leaks that only the newer report has.
        grown, shrunk: Leaks of both with another count, each with the older finding and the newer one.
        same: Leaks of both with the same count.
        gone: Leaks that only the older report has.

    """

    def __init__(self, older: Report, newer: Report) -> None:
        """Compare two reports."""
        before = {one.fingerprint: one for one in older.findings}
        after = {one.fingerprint: one for one in newer.findings}
        both = [(before[name], one) for name, one in after.items() if name in before]
        self.older, self.newer = older, newer
        self.new = [one for name, one in after.items() if name not in before]
        self.gone = [one for name, one in before.items() if name not in after]
        self.grown = [(old, one) for old, one in both if one.count > old.count]
        self.shrunk = [(old, one) for old, one in both if one.count < old.count]
        self.same = [one for old, one in both if one.count == old.count]

    @property
    def worse(self) -> bool:
        """Whether there are leaks that are new or have grown."""
        return bool(self.new or self.grown)

    def as_text(self) -> str:
        """Return it as lines of text, ASCII only: the most important first."""
        counts = [f"{len(found)} {title}" for title, found in self._groups() if found]
        same = f"{len(self.same)} unchanged" if self.same else ""
        lines = [f"leakagent: {', '.join(filter(None, [*counts, same])) or 'no leaks in either report'}"]
        if self.older.program != self.newer.program:
            lines.append(f"  (of different programs: {safe(self.older.program, 80)} and {safe(self.newer.program, 80)})")
        for title, found in self._groups():
            for old, one in found:
                lines += ["", *_entry(title, old, one)]
        return "\n".join(safe(line, 400, unicode=False) for line in lines) + "\n"

    def _groups(self) -> list[tuple[str, list[tuple[Finding | None, Finding]]]]:
        return [
            ("new", [(None, one) for one in self.new]),
            ("grown", list(self.grown)),
            ("shrunk", list(self.shrunk)),
            ("gone", [(None, one) for one in self.gone]),
        ]

    def as_json(self) -> str:
        """Return it as JSON text."""
        document: dict[str, Any] = {"schema": SCHEMA, "older": _named(self.older), "newer": _named(self.newer)}
        for title, found in self._groups():
            document[title] = [_plain(old, one) for old, one in found]
        document["same"] = [_plain(one, one) for one in self.same]
        return json.dumps(document, indent=1) + "\n"


def _entry(title: str, old: Finding | None, one: Finding) -> list[str]:
    how_many = str(one.count) if old is None else f"{old.count} -> {one.count}"
    lines = [f"  {title:<7}{how_many} x {kind_name(one.kind)}   {reason_text(one.reason)}   {one.site.owner}  {place(one.site)}"]
    if one.source:
        lines.append(f"         > {one.source}")
    if title != "gone":
        lines.append(f"         oldest {duration(one.oldest_age_s)}")
        lines.append(f"         fix  {one.fix}")
    return lines


def _named(report: Report) -> dict[str, Any]:
    return {"program": report.program, "pid": report.pid, "leaks": sum(one.count for one in report.findings)}


def _plain(old: Finding | None, one: Finding) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "fingerprint": one.fingerprint,
        "reason": one.reason,
        "kind": one.kind,
        "owner": one.site.owner,
        "site": {"function": one.site.function, "file": one.site.file, "line": one.site.line, "source": one.source},
        "count": one.count,
    }
    return entry if old is None else {**entry, "count_before": old.count}
