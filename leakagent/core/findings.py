"""What the agent tells the user: findings, and the report that carries them."""

from __future__ import annotations

import time

from .sites import UNKNOWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .sites import Site
    from .tracing import Span

LOST_TASK = "lost_task"
STRANDED = "stranded"
STALLED = "stalled"
UNRETRIEVED_EXCEPTION = "unretrieved_exception"
OUTLIVED_SCOPE = "outlived_scope"
NOT_SHUT_DOWN = "not_shut_down"
NOT_CLOSED = "not_closed"
BLOCKS_EXIT = "blocks_exit"
REFUSED_CLEANUP = "refused_cleanup"
ORPHANED = "orphaned"
GROWING = "growing"

#: The closed list of reasons, each with the fixed text that a report shows.
REASONS = {
    LOST_TASK: "lost: only leakagent kept it alive",
    STRANDED: "stranded: nobody can complete what it waits for",
    STALLED: "stalled: no progress",
    UNRETRIEVED_EXCEPTION: "failed, and nobody looked at the exception",
    OUTLIVED_SCOPE: "still alive when the scope that made it ended",
    NOT_SHUT_DOWN: "not shut down",
    NOT_CLOSED: "not closed",
    BLOCKS_EXIT: "kept the process from ending",
    REFUSED_CLEANUP: "refused to end and was forced",
    ORPHANED: "its starter is gone",
    GROWING: "keeps growing",
}

CLOSED = "closed"
CANCELLED = "cancelled"
DRAINED = "drained"
TERMINATED = "terminated"
KILLED = "killed"
RELEASED = "released"
NONE = "none"

#: What can have been done about a finding.
ACTIONS = (CLOSED, CANCELLED, DRAINED, TERMINATED, KILLED, RELEASED, NONE)


class Finding:
    """One leak, or several of the same fingerprint.

    Attributes:
        reason: A key of `REASONS`.
        kind: The kind of resource (`leakagent.core.records`).
        site: Where it was created.
        count: How many of this fingerprint.
        stack: Creation stack as ``file:line function`` texts, innermost first; empty below level ``stack``.
        oldest_age_s: Age of the oldest, in seconds.
        names: Names of the resources (thread names, directories, pids), at most ten.
        trace_id: Trace that created it, in lowercase hex, or None.
        test_id: Test that created it, or None.
        evidence: Short texts that say how the agent knows.
        action: One of `ACTIONS`.
        fix: What to write at the site.
        pids: Processes it was found in.

    """

    __slots__ = (
        "action",
        "count",
        "created",
        "evidence",
        "fingerprint",
        "fix",
        "kind",
        "names",
        "oldest_age_s",
        "pids",
        "reason",
        "site",
        "source",
        "span",
        "stack",
        "test_id",
        "trace_id",
    )

    def __init__(  # noqa: PLR0913 - the fields of the JSON report
        self,
        reason: str,
        kind: str,
        site: Site = UNKNOWN,
        *,
        count: int = 1,
        oldest_age_s: float = 0.0,
        names: list[str] | None = None,
        evidence: list[str] | None = None,
        action: str = NONE,
        fix: str = "",
        stack: list[str] | None = None,
        trace_id: str | None = None,
        test_id: str | None = None,
        pids: list[int] | None = None,
    ) -> None:
        """Note a finding; `fingerprint` and `source` are filled in by the detector that can read the source."""
        self.reason = reason
        self.kind = kind
        self.site = site
        self.count = count
        self.oldest_age_s = oldest_age_s
        self.names = names if names is not None else []
        self.evidence = evidence if evidence is not None else []
        self.action = action
        self.fix = fix
        self.stack = stack if stack is not None else []
        self.trace_id = trace_id
        self.test_id = test_id
        self.pids = pids if pids is not None else []
        self.source = ""
        #: ``time.monotonic()`` at the creation of the resource, where it is one of this process.
        self.created: float | None = None
        #: The span that created it (`leakagent.core.tracing`), or None.
        self.span: Span | None = None
        self.fingerprint = ""

    def __repr__(self) -> str:
        """Show what was found and where."""
        return f"<Finding {self.count} x {self.kind} {self.reason} at {self.site.file}:{self.site.line}>"


class StageReceipt:
    """What one shutdown stage did: how long it took (s), its deadline (s), how many were asked and how many forced."""

    __slots__ = ("asked", "deadline", "ended", "forced", "seconds", "stage")

    def __init__(self, stage: str, seconds: float, asked: int, forced: int, deadline: float) -> None:
        """Note a stage."""
        self.stage = stage
        self.ended = time.time()
        self.seconds = seconds
        self.asked = asked
        self.forced = forced
        self.deadline = deadline


class Process:
    """A process that was started: pids, its kind, what people call it, where it was started, and whether it still runs."""

    __slots__ = ("kind", "name", "parent_pid", "pid", "place", "runs")

    def __init__(  # noqa: PLR0913 - what is told of one
        self, pid: int, parent_pid: int, kind: str, name: str, *, place: str = "", runs: bool = False
    ) -> None:
        """Note a process; ``place`` is ``file:line function``."""
        self.pid = pid
        self.parent_pid = parent_pid
        self.kind = kind
        self.name = name
        self.place = place
        self.runs = runs


class Report:
    """Everything a report format needs; plain data.

    Attributes:
        program: What was run, as people call it (``app.py``).
        argv: The program's ``sys.argv``.
        pid, parent_pid: Process ids.
        python: Version of the interpreter, ``3.11.7``.
        leakagent: Version of the agent.
        started, ended: ``time.time()`` of start and end.
        status: Exit status the process ends with, or None when the agent can't know it.
        own_status: The program's own exit status, where ``--fail-on-leak`` puts another one in its place, else None.
        signal: Number of the signal that ends the program, or None.
        findings: Biggest first.
        receipt: One `StageReceipt` per stage, in order.
        totals: Kind -> ``{"created", "finished", "live", "peak"}``.
        agent: ``{"seconds", "bytes", "disabled"}``: the agent's own cost and the parts that are off, with the cause.
        timeline: Samples over the program's life, oldest first: ``time.time()``, bytes of resident memory (0 if unknown), live count per
            kind.  Empty unless a report was asked for that shows it.
        processes: Processes that were started, by this one and by its children: `Process`.
        running: Whether the program ran on when this was written (``leakagent dump``); ``ended`` is when it was looked at then.

    """

    __slots__ = (
        "agent",
        "argv",
        "ended",
        "findings",
        "leakagent",
        "own_status",
        "parent_pid",
        "pid",
        "processes",
        "program",
        "python",
        "receipt",
        "running",
        "signal",
        "started",
        "status",
        "timeline",
        "totals",
    )

    def __init__(self, program: str, argv: list[str], pid: int, parent_pid: int) -> None:
        """Start an empty report."""
        self.program = program
        self.argv = argv
        self.pid = pid
        self.parent_pid = parent_pid
        self.python = ""
        self.leakagent = ""
        self.started = 0.0
        self.ended = 0.0
        self.status: int | None = None
        self.own_status: int | None = None
        self.signal: int | None = None
        self.findings: list[Finding] = []
        self.receipt: list[StageReceipt] = []
        self.totals: dict[str, dict[str, int]] = {}
        self.timeline: list[tuple[float, int, dict[str, int]]] = []
        self.processes: list[Process] = []
        self.running = False
        self.agent: dict[str, Any] = {"seconds": 0.0, "bytes": 0, "disabled": []}
