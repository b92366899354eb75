"""Records of what was left over -> findings."""

from __future__ import annotations

import time

from leakagent.core import findings as f
from leakagent.core.findings import Finding
from leakagent.core.sites import YOURS, resolve, starts_the_program
from leakagent.core.tracing import trace_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from leakagent.core.records import Record


def finding_of(  # noqa: PLR0913 - what a record can't know
    record: Record,
    reason: str,
    *,
    base: str,
    evidence: Iterable[str] = (),
    action: str = f.NONE,
    fix: str = "",
) -> Finding:
    """Make a finding of one record.

    Args:
        record: The resource.
        reason: Why it is told.
        base: Folder that the program's own paths are shown relative to.
        evidence: How the agent knows.
        action: What was done about it.
        fix: What to write at the site.

    """
    site = resolve(record.code, record.lasti, base=base)
    frames = list(record.stack or ())
    while frames and starts_the_program(frames[-1][0].co_filename):
        frames.pop()
    stack = [_line(code, lasti, base) for code, lasti in frames]
    span = record.detail.get("span")
    finding = Finding(
        reason,
        record.kind,
        site,
        oldest_age_s=max(0.0, time.monotonic() - record.created),
        names=[record.name] if record.name else [],
        evidence=list(evidence),
        action=action,
        fix=fix,
        stack=stack,
        trace_id=trace_id(span),
        pids=[record.pid],
    )
    finding.span = span
    finding.created = record.created
    return finding


def _line(code: object, lasti: int, base: str) -> str:
    site = resolve(code, lasti, base=base)  # type: ignore[arg-type]
    return f"{site.file}:{site.line} {site.function}"


def pool_is_a_leak(finding: Finding, *, stuck: bool) -> bool:
    """Say whether a pool that was not shut down is told.

    A pool that a library keeps for the whole process and that ends when it is told to (lancedb's embedding pool, streamlit's
    file watcher) is no leak that anybody could mend.
    """
    return stuck or finding.site.owner == YOURS


def task_is_a_leak(finding: Finding, *, running_elsewhere: bool) -> bool:
    """Say whether a task that is pending at the very end is told.

    A task in a loop that still runs in a daemon thread is told only if the program's own code made it: libraries keep such
    loops for the whole process (lancedb, fsspec).
    """
    return not running_elsewhere or finding.site.owner == YOURS


def ignored(finding: Finding, patterns: tuple[str, ...]) -> bool:
    """Say whether the user asked not to be told: by fingerprint, kind, function or ``file:line``."""
    site = finding.site
    names = {finding.fingerprint, finding.kind, site.function, f"{site.file}:{site.line}", f"{site.path}:{site.line}"}
    return any(pattern in names for pattern in patterns)
