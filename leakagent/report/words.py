"""The words that every report format shares: names of kinds, ages, actions, the headline, and texts made harmless."""

from __future__ import annotations

from leakagent.core.findings import (
    CANCELLED,
    CLOSED,
    DRAINED,
    GROWING,
    KILLED,
    NONE,
    REASONS,
    RELEASED,
    STALLED,
    TERMINATED,
    UNRETRIEVED_EXCEPTION,
)
from leakagent.core.records import (
    CHROMADB_CLIENT,
    EVENT_LOOP,
    LANCEDB_CONNECTION,
    LANCEDB_LOOP,
    LANCEDB_TABLE,
    PROCESS,
    PROCESS_POOL,
    SHARED_MEMORY,
    SUBPROCESS,
    TASK,
    THREAD,
    THREAD_POOL,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leakagent.core.findings import Finding, Report
    from leakagent.core.sites import Site

#: Stage of the shutdown whose ``forced`` counts the killed processes.
CHILDREN_STAGE = "children"

_KIND_NAMES = {
    TASK: "asyncio task",
    EVENT_LOOP: "event loop",
    THREAD_POOL: "thread pool",
    PROCESS_POOL: "process pool",
    THREAD: "thread",
    PROCESS: "process",
    SUBPROCESS: "subprocess",
    SHARED_MEMORY: "shared memory block",
    CHROMADB_CLIENT: "chroma client",
    LANCEDB_CONNECTION: "lancedb connection",
    LANCEDB_TABLE: "lancedb table",
    LANCEDB_LOOP: "lancedb background loop",
}

_ACTION_TEXTS = {
    CLOSED: "closed by leakagent",
    CANCELLED: "cancelled with its loop",
    DRAINED: "finished its work and ended by itself",
    TERMINATED: "ended on SIGTERM from leakagent",
    KILLED: "killed by leakagent",
    RELEASED: "let go by leakagent, so that the process could end",
    NONE: "left as it was",
}

#: Findings about something that is over, or about a place: nothing was open, and there was nothing to do.
_NOT_OPEN = (UNRETRIEVED_EXCEPTION, GROWING)


def _was_open(finding: Finding) -> bool:
    return finding.reason not in _NOT_OPEN and not _was_blocked(finding)


def _was_blocked(finding: Finding) -> bool:
    return finding.reason == STALLED and finding.kind == EVENT_LOOP


_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_LONGEST = 100_000 * _DAY


def safe(value: object, limit: int = 200, *, unicode: bool = True) -> str:
    """Make a text from outside harmless to print: one line, no control or invisible character, bounded.

    Args:
        value: What to show; anything that is not a text is turned into one.
        limit: Longest result, in characters before escaping.
        unicode: False escapes everything outside of ASCII.

    """
    text = _as_text(value)
    if len(text) > limit:
        text = text[: max(limit - 3, 0)] + "..."
    # A CI runner takes this at any place of a line for a command.
    text = text.replace("##[", "#\\#[")
    if text.isprintable() and (unicode or text.isascii()):
        return text
    return "".join(char if char.isprintable() and (unicode or char.isascii()) else _escape(char) for char in text)


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a foreign __str__ may raise anything, and the report goes on
        return f"<{type(value).__name__}>"


def _escape(char: str) -> str:
    if char == "\t":
        return " "
    return char.encode("ascii", "backslashreplace").decode("ascii") if ord(char) >= 0x80 else repr(char)[1:-1]  # noqa: PLR2004 - end of ASCII


def well_formed(value: object, limit: int = 4000) -> str:
    """Return at most ``limit`` characters of a text, with lone surrogates escaped: UTF-8 has none."""
    text = _as_text(value)
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def disabled_parts(parts: object) -> list[str]:
    """Return the agent's disabled parts as texts; they may be given as ``{part: cause}``, pairs or texts."""
    if isinstance(parts, dict):
        parts = list(parts.items())
    elif isinstance(parts, str):
        parts = [parts]
    if not isinstance(parts, (list, tuple, set, frozenset)):
        return []
    return [
        ": ".join(well_formed(item) for item in part) if isinstance(part, (tuple, list)) else well_formed(part) for part in parts
    ]


def finite(value: object) -> float:
    """Return a number as a finite float that is not negative; everything else as 0."""
    if not isinstance(value, (int, float)):
        return 0.0
    return float(value) if 0 < value < _LONGEST else 0.0


def duration(seconds: float) -> str:
    """Say a duration in seconds as people do: ``0.02 s``, ``1.8 s``, ``2 m 04 s``, ``3 h 07 m``, ``2 d 01 h``."""
    seconds = finite(seconds)
    if seconds < 0.995:  # noqa: PLR2004 - from here on 1.0 s
        return f"{seconds:.2f} s"
    if seconds < _MINUTE - 0.05:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} m {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} m"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR:02d} h"


def number(count: int, singular: str, plural: str = "") -> str:
    """Say a count with its noun: ``1 process``, ``2 processes``."""
    return f"{count} {singular}" if count == 1 else f"{count} {plural or singular + 's'}"


def kind_name(kind: str) -> str:
    """Return what people call a kind of resource."""
    return _KIND_NAMES.get(kind) or safe(kind, 40).replace(".", " ").replace("_", " ")


def reason_text(reason: str) -> str:
    """Return the fixed text of a reason."""
    return REASONS.get(reason) or safe(reason, 60).replace("_", " ")


def action_text(finding: Finding) -> str:
    """Say what was done about a finding; empty where there was nothing to do."""
    if finding.action == NONE and not _was_open(finding):
        return ""
    text = _ACTION_TEXTS.get(finding.action) or safe(finding.action, 40)
    if finding.action == CANCELLED and finding.kind in {THREAD_POOL, PROCESS_POOL}:
        text = "the jobs that had not begun were cancelled"
    if finding.count == 1:
        return text
    if finding.action == KILLED:
        # The strongest action of a merged entry: true of at least one.
        return "killed by leakagent where SIGTERM did not help"
    return {NONE: "left as they were", DRAINED: "finished their work and ended by themselves"}.get(finding.action, text)


def place(site: Site) -> str:
    """Return ``file:line function``, without the parts that are not known."""
    if not site.file:
        return "(created at an unknown place)"
    where = f"{site.file}:{site.line}" if site.line else site.file
    return f"{where} {site.function}" if site.function else where


def exit_text(report: Report) -> str:
    """Say how the process ends: ``exit status kept: 0``, or nothing when that is not known."""
    if report.signal is not None:
        return f"exit status kept: {signal_name(report.signal)} (-{report.signal})"
    if report.own_status is not None:
        return f"exit status: {report.status} (--fail-on-leak; the program's own was {report.own_status})"
    return "" if report.status is None else f"exit status kept: {report.status}"


def signal_name(signum: int) -> str:
    """Return the name of a signal number."""
    import signal

    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


def headline(report: Report, findings: list[Finding]) -> str:
    """Say in one line what was found and what it cost to end it.

    Args:
        report: Gives the program and the receipt.
        findings: Merged findings; at least one.

    """
    clauses = _clauses(findings)
    what = clauses[0] if len(clauses) == 1 else ", ".join(clauses[:-1]) + " and " + clauses[-1]
    notes = _notes(report, findings)
    tail = f" ({', '.join(notes)})" if notes else ""
    program = safe(report.program, 80) or "the program"
    return f"{what} when {program} was looked at; it still ran" if report.running else f"{what} when {program} ended{tail}"


def nothing(report: Report) -> str:
    """Say that nothing was found."""
    return "has nothing open that leaks" if report.running else "left nothing open"


def _clauses(findings: list[Finding]) -> list[str]:
    still_open = sum(finding.count for finding in findings if _was_open(finding))
    blocked = sum(finding.count for finding in findings if _was_blocked(finding))
    failed = sum(finding.count for finding in findings if finding.reason == UNRETRIEVED_EXCEPTION)
    places = sum(1 for finding in findings if finding.reason == GROWING)
    clauses = []
    if still_open:
        clauses.append(f"{number(still_open, 'resource')} {_were(still_open)} still open")
    if blocked:
        clauses.append(f"an event loop was blocked {number(blocked, 'time')}")
    if failed:
        clauses.append(f"{number(failed, 'exception')} {_were(failed)} never looked at")
    if places:
        clauses.append(f"{number(places, 'place')} kept growing")
    return clauses or ["nothing was open"]


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _notes(report: Report, findings: list[Finding]) -> list[str]:
    actions = {finding.action for finding in findings if _was_open(finding)}
    notes = []
    if actions - {NONE} and report.receipt:
        seconds = duration(sum(finite(stage.seconds) for stage in report.receipt))
        notes.append(f"clean-up took {seconds}" if NONE in actions else f"closed in {seconds}")
    killed = [finding for finding in findings if finding.action == KILLED]
    if killed:
        notes.append(_killed(report, killed))
    return notes


def _killed(report: Report, killed: list[Finding]) -> str:
    at_most = sum(finding.count for finding in killed)
    forced = sum(stage.forced for stage in report.receipt if stage.stage == CHILDREN_STAGE)
    if len(killed) <= forced <= at_most:
        return f"{number(forced, 'process', 'processes')} killed"
    # A merged entry shows its strongest action, so only one of each entry is certain.
    prefix = "" if at_most == len(killed) else "at least "
    return f"{prefix}{number(len(killed), 'process', 'processes')} killed"
