"""The identity of a finding: stable over runs and over lines that move, and the merging of equal ones.

A line number changes with every edit above it, so a baseline or an ignore list built on it would not last a day.  The
text of the line that creates the resource changes only when somebody looks at it: it goes into the fingerprint, and the
line number takes its place only where the source can't be read.
"""

from __future__ import annotations

import hashlib
import linecache
import os
import stat

from leakagent.core.findings import CANCELLED, CLOSED, DRAINED, KILLED, NONE, RELEASED, TERMINATED, Finding

from .fixes import fix_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeVar

    from leakagent.core.sites import Site

    Item = TypeVar("Item")

#: Longest source line that is kept, in characters.
SOURCE_LIMIT = 200
#: Most names, texts of evidence and pids that a merged finding carries.
LIST_LIMIT = 10
#: Larger files are no source that somebody wrote, in bytes.
_LARGEST_SOURCE = 20_000_000
_DIGITS = 12
_STRENGTH = {action: strength for strength, action in enumerate((NONE, DRAINED, CLOSED, CANCELLED, RELEASED, TERMINATED, KILLED))}


def complete(finding: Finding) -> None:
    """Fill in what only the source can tell: `source`, `fingerprint`, and the fixed `fix` where the detector gave none.

    A finding that has a fingerprint keeps it: it may come from another process, whose files are not here.
    """
    if not finding.fingerprint:
        if not finding.source:
            finding.source = source_line(finding.site)
        finding.fingerprint = _hash(finding)
    if not finding.fix:
        finding.fix = fix_for(finding.reason, finding.kind)


def source_line(site: Site) -> str:
    """Return the stripped source line of a site, at most 200 characters; empty when it can't be read."""
    try:
        if site.line < 1 or not site.path or not _readable(site.path):
            return ""
        return linecache.getline(site.path, site.line).strip()[:SOURCE_LIMIT].rstrip()
    except Exception:  # noqa: BLE001 - a file name may be anything (`compile(..., filename)`), and the report goes on
        return ""


def _readable(path: str) -> bool:
    if path in linecache.cache:
        return True
    try:
        found = os.stat(path)
    except OSError:
        # linecache also knows places that are no files: a zip archive's loader, sys.path.
        return True
    # `python /dev/stdin` and `python <(...)`: opening the pipe again would block the exit for ever.
    return stat.S_ISREG(found.st_mode) and found.st_size <= _LARGEST_SOURCE


def _hash(finding: Finding) -> str:
    site = finding.site
    where = finding.source or f"line {site.line}"
    parts = (finding.reason, finding.kind, site.file, site.function, where)
    text = "\0".join(parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def merge(findings: Iterable[Finding]) -> list[Finding]:
    """Return one finding per fingerprint, biggest count first, then the oldest; equals keep their order.

    Counts are added, the oldest age is the greatest, the strongest action wins; names, evidence and pids are united, at
    most ten of each.  The findings given are completed, and otherwise left alone.
    """
    merged: dict[str, Finding] = {}
    for finding in findings:
        complete(finding)
        known = merged.get(finding.fingerprint)
        if known is None:
            merged[finding.fingerprint] = _copy(finding)
        else:
            _add(known, finding)
    return sorted(merged.values(), key=lambda finding: (-finding.count, -finding.oldest_age_s))


def _copy(finding: Finding) -> Finding:
    copy = Finding(
        finding.reason,
        finding.kind,
        finding.site,
        count=finding.count,
        oldest_age_s=finding.oldest_age_s,
        names=_united(finding.names, ()),
        evidence=_united(finding.evidence, ()),
        action=finding.action,
        fix=finding.fix,
        stack=list(finding.stack),
        trace_id=finding.trace_id,
        test_id=finding.test_id,
        pids=_united(finding.pids, ()),
    )
    copy.source = finding.source
    copy.span = finding.span
    copy.fingerprint = finding.fingerprint
    return copy


def _add(known: Finding, finding: Finding) -> None:
    known.count += finding.count
    known.oldest_age_s = max(known.oldest_age_s, finding.oldest_age_s)
    known.names = _united(known.names, finding.names)
    known.evidence = _united(known.evidence, finding.evidence)
    known.pids = _united(known.pids, finding.pids)
    known.stack = known.stack or list(finding.stack)
    known.trace_id = known.trace_id or finding.trace_id
    known.test_id = known.test_id or finding.test_id
    if _STRENGTH.get(finding.action, 0) > _STRENGTH.get(known.action, 0):
        known.action = finding.action


def _united(first: Sequence[Item], second: Sequence[Item]) -> list[Item]:
    return list(dict.fromkeys((*first, *second)))[:LIST_LIMIT]
