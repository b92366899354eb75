"""What the end of a process says and does about processes: those that outlive it, and itself if its starter is gone."""

from __future__ import annotations

import os
import sys
import time

from . import guard
from .core import findings as f
from .core.findings import Finding, Process
from .core.records import PROCESS
from .core.sites import UNKNOWN, YOURS, resolve, shown_path
from .shutdown import interpreter
from .shutdown.closing import CHILD_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .agent import Agent
    from .core.records import Record
    from .shutdown.closing import Stages


_WRITE_FIX = (
    "tell it to stop and join it: stop.set(); thread.join()  (or write to another file and os.replace() it when it is whole)"
)


def close_ledger(agent: Agent) -> None:
    """Remove this process's file of the ledger, and in the program that was started those of programs that are gone."""
    if "processes" in agent.parts or "subprocesses" in agent.parts:
        from .processes import ledger

        ledger.own.close(kinds=(PROCESS,))
        if not agent.child:
            ledger.sweep()


def processes(agent: Agent, handed_over: list[str]) -> list[Process]:
    """Return the processes that this one and its Python children have started.

    Args:
        agent: The agent.
        handed_over: JSON reports of children.

    """
    if "leakagent.processes.ledger" not in sys.modules:
        return []
    from .processes import ledger
    from .processes.identity import look

    found = {}
    for pid, kind, name, code, lasti in ledger.own.started:
        site = resolve(code, lasti, base=agent.base)
        place = f"{site.file}:{site.line} {site.function}" if site.line else ""
        seen = look(pid)
        found[pid] = Process(
            pid, agent.pid, kind, name, place=place, runs=seen is not None and seen.runs and seen.parent == agent.pid
        )
    for text in handed_over:
        from .report.json_report import processes_of

        for one in processes_of(text):
            found.setdefault(one.pid, one)
    return list(found.values())[: ledger.MOST_TOLD]


def end_subprocesses(agent: Agent, stages: Stages) -> list[tuple[Record, str]]:
    """Return the children of `subprocess` that are going to outlive the program, each with what was done about it."""
    part = agent.parts["subprocesses"]
    left = part.left_over()
    done: dict[int, str] = {}

    def end(seconds: float) -> tuple[int, int]:
        done.update(part.end(left, seconds))
        return len(left), sum(action == f.KILLED for action in done.values())

    if left and part.ends:
        stages.run("subprocesses", CHILD_SECONDS, end)
    part.dismiss()
    return [(record, done.get(record.id, f.NONE)) for record in left]


def subprocess_finding(make: Callable[..., Finding], record: Record, action: str) -> Finding:
    """Return the finding of a child of `subprocess` that outlives the program."""
    evidence = []
    if action == f.NONE:
        evidence.append(f"runs on after the program{memory(record.detail['pid'])}")
    return make(record, f.REFUSED_CLEANUP if action == f.KILLED else f.ORPHANED, evidence=evidence, action=action)


def zombies(agent: Agent, make: Callable[..., Finding]) -> list[Finding]:
    """Return the findings of children of `subprocess` that have ended and that nobody has waited for."""
    part = agent.parts.get("subprocesses")
    evidence = ["it has ended, nobody has waited for it: a zombie for as long as the program runs"]
    return [make(record, f.NOT_CLOSED, evidence=evidence) for record in part.zombies()] if part is not None else []


def shared_memory(agent: Agent, make: Callable[..., Finding]) -> list[Finding]:
    """Return the findings of blocks of shared memory that exist when the program that was started ends."""
    part = agent.parts.get("shared memory")
    if part is None or agent.child:
        return []
    return [
        make(record, f.NOT_CLOSED, evidence=[f"nobody has unlinked it: {size / (1 << 20):.1f} MB in /dev/shm"])
        for record, size in part.left_over()
    ]


def memory(pid: int) -> str:
    """Say how much memory a process has to itself: USS, never the resident size, which counts what is shared again and again."""
    from .processes.memory import private_bytes

    size = private_bytes(pid)
    return "" if size is None else f", {size / (1 << 20):.1f} MB of its own"


def half_way(agent: Agent, make: Callable[..., Finding]) -> list[Finding]:
    """Return a finding for each daemon thread of the program's own that is writing a file and is going to be stopped there."""
    threading: Any = sys.modules.get("threading")
    threads = agent.parts.get("threads")
    if threads is None or threading is None:
        return []
    daemons = [thread for thread in threading.enumerate() if thread.daemon]
    if not daemons:
        return []
    from .detect.writing import half_written

    found = []
    for thread in daemons:
        record = threads.record_of(thread)
        paths = half_written(interpreter.thread_frame(thread)) if record is not None else []
        if record is None or not paths:
            continue
        shown = ", ".join(shown_path(os.path.abspath(path), agent.base) for path in paths[:3])
        finding = make(record, f.OUTLIVED_SCOPE, evidence=[f"a daemon thread, stopped while it had {shown} open for writing"])
        finding.fix = _WRITE_FIX
        if finding.site.owner == YOURS:
            found.append(finding)
    return found


def orphaned(agent: Agent) -> list[Finding]:
    """Return a finding about this very process if its starter is gone."""
    watch = agent.watch
    if watch is None or not watch.gone_since:
        return []
    from .processes import ledger

    process: Any = sys.modules.get("multiprocessing.process")
    name = process.current_process().name if process is not None else os.path.basename(sys.argv[0])
    evidence = [f"its starter (pid {watch.starter}) ended without it; it was asked to end"]
    site = guard.call("ledger", ledger.site_of, os.getpid(), agent.base) or UNKNOWN
    age = max(0.0, time.time() - agent.started)
    return [
        Finding(
            f.ORPHANED,
            PROCESS,
            site=site,
            oldest_age_s=age,
            names=[f"{name} (pid {os.getpid()})"],
            evidence=evidence,
            action=f.TERMINATED,
            pids=[os.getpid()],
        )
    ]
