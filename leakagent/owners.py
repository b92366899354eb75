"""Who created what: a test, a fixture, a block; and what of it is still alive when its owner is done.

The problem.  A leak has to fail the test that made it.  Comparing what is alive before and after a test blames it for what a
session-wide fixture made in its setup, or for what an earlier test's thread does in the meantime.

What does not work.  A context variable, as in `leakagent.scopes`: test runners for coroutines keep one context, or one task, for
many tests, so that all of them would look like the fixture that started it.

What we do.  One owner at a time holds the pen (`Owners.turn`), as one test or one fixture at a time is run.  A record belongs to the
owner of the thread that makes it, if that thread was started by one itself, else to the one that holds the pen.  Tasks cost
nothing more: they are noted with the time of their creation, which says who held the pen; where their event loop runs in a
thread that has an owner, that one decides, unless the task carries the context of the one that holds the pen (it was handed in from there).
What is made while a module is imported belongs to the whole session: a test is only the first who needed it.

What is still open.  What a library's own thread from before the first owner makes belongs to whoever holds the pen.
"""

from __future__ import annotations

import _thread
import sys
import time
from bisect import bisect_right
from contextlib import contextmanager, suppress

from . import guard
from .core import findings as f
from .core.records import (
    CHROMADB_CLIENT,
    EVENT_LOOP,
    LANCEDB_CONNECTION,
    LANCEDB_LOOP,
    PROCESS_POOL,
    SHARED_MEMORY,
    SUBPROCESS,
    THREAD,
    THREAD_POOL,
)
from .core.sites import YOURS
from .scopes import is_alive, serves
from .shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType
    from typing import Any

    from .agent import Agent
    from .core.findings import Finding
    from .core.records import Record
    from .instrumentation.task_notes import Observation

#: Seconds that what is about to end gets.
GRACE = 0.5

#: Frames of a thread that are shown.
_FRAMES = 4

#: Frames that only run tests and event loops.
_MACHINERY = (
    "asyncio/",
    "concurrent/",
    "threading.py:",
    "_pytest/",
    "pluggy/",
    "pytest/__main__",
    "pytest_asyncio/",
    "xdist/",
    "execnet/",
    "<frozen ",
    "runpy.py:",
    "leakagent/pytest_watching.py:",
)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.1

#: Kinds that a library keeps for the whole process more often than not.
_KEPT_BY_LIBRARIES = frozenset({THREAD, THREAD_POOL, PROCESS_POOL, EVENT_LOOP})

#: Kinds whose part is asked: what counts is not the object that the program has.
_ASKED = frozenset({SUBPROCESS, SHARED_MEMORY, CHROMADB_CLIENT})

_REASONS = {
    THREAD_POOL: f.NOT_SHUT_DOWN,
    PROCESS_POOL: f.NOT_SHUT_DOWN,
    EVENT_LOOP: f.NOT_CLOSED,
    CHROMADB_CLIENT: f.NOT_CLOSED,
    LANCEDB_CONNECTION: f.NOT_CLOSED,
    LANCEDB_LOOP: f.NOT_CLOSED,
    SHARED_MEMORY: f.NOT_CLOSED,
}


class Owner:
    """Somebody who creates things.

    Attributes:
        name: What the report calls it.
        test_id: The test, if it is one.
        code: Its code, which stands for a line that is not known.

    """

    __slots__ = ("code", "name", "test_id")

    def __init__(self, name: str, test_id: str | None = None, code: CodeType | None = None) -> None:
        """Note a name."""
        self.name = name
        self.test_id = test_id
        self.code = code

    def __repr__(self) -> str:
        """Show the name."""
        return f"<Owner {self.name}>"


class Owners:
    """Notes who creates what, from `start` on."""

    def __init__(self, agent: Agent, first: Owner) -> None:
        """Begin with the one who owns what nobody else does."""
        import contextvars  # tests have imported it

        self.agent = agent
        self.first = first
        self._pens = [first]
        self._times = [0.0]
        self._turns = [first]
        self._threads: dict[int, Owner] = {}
        self._variable: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("leakagent.owner", default=None)
        agent.registry.owned = self._note

    def stop(self) -> None:
        """Note nothing any more."""
        self.agent.registry.owned = self.agent.owners = None

    @contextmanager
    def turn(self, owner: Owner) -> Iterator[Owner]:
        """Give an owner the pen for a block."""
        self._pens.append(owner)
        self._begin(owner)
        token = self._variable.set(owner)
        try:
            yield owner
        finally:
            with suppress(ValueError):  # left in another context than the one it was entered in
                self._variable.reset(token)
            self.abandoned(owner)
            self._pens.remove(owner)
            self._begin(self._pens[-1])

    def _begin(self, owner: Owner) -> None:
        self._times.append(time.monotonic())
        self._turns.append(owner)

    def _note(self, record: Record) -> None:
        guard.call("owners", self._own, record)

    def _own(self, record: Record) -> None:
        owner = self._threads.get(_thread.get_ident(), self._pens[-1])
        if any(code.co_filename.startswith("<frozen importlib") for code, _ in record.stack or ()):
            owner = self.first
        record.detail["owner"] = owner
        if record.kind == THREAD:
            thread = record.resource()
            if serves(record, None):
                self._threads.pop(thread.ident, None)
            else:
                self._threads[thread.ident] = owner

    def abandoned(self, owner: Owner | None = None) -> list[Record]:
        """Return the loops of lancedb's that were left in a bad state: by ``owner``, or else by the one that holds the pen."""
        part = self.agent.parts.get("lancedb")
        if part is None:
            return []
        owner = owner or self._pens[-1]
        return guard.call("lancedb", part.abandoned_loops, owner, owner.code) or []

    def of_task(self, task: Any, created: float) -> Owner:  # noqa: ANN401 - a task, or None
        """Return the owner of a task that was created at that time."""
        holder = self._turns[bisect_right(self._times, created) - 1]
        if task is None:
            return holder
        thread = interpreter.thread_of(task.get_loop())
        owner = self._threads.get(thread) if thread and thread != _thread.get_ident() else None
        if owner is None or owner is holder:
            return holder
        context = interpreter.context_of(task)
        return holder if context is not None and context.get(self._variable) is holder else owner

    def left_of(self, wanted: Callable[[Owner], bool]) -> Left:
        """Return what is alive of the owners that are wanted."""
        return Left(self, wanted)


class Left:
    """What owners have left behind."""

    def __init__(self, owners: Owners, wanted: Callable[[Owner], bool]) -> None:
        """Look for it."""
        self.owners = owners
        self.agent = owners.agent
        self.ending = self.agent.ending()
        self._wanted = wanted
        #: Tasks that were lost, or left at the end of their loop.
        self.ended: list[tuple[Owner, Observation]] = []
        self.pending: list[tuple[Owner, Observation, Any]] = []
        self.records: list[tuple[Owner, Record, Finding]] = []
        self.look()

    def __bool__(self) -> bool:
        """Say whether there is anything."""
        return bool(self.ended or self.pending or self.records)

    def look(self) -> None:
        """Look again."""
        self.ended, self.pending, self.records = [], [], []
        if "asyncio" in self.agent.parts:
            self._look_at_tasks(self.agent.parts["asyncio"])
        loop = interpreter.running_loop()
        for record in self._open():
            owner = record.detail.get("owner")
            if owner is None or not self._wanted(owner) or record.detail.get("scope"):
                continue
            if record.kind in {THREAD, THREAD_POOL, PROCESS_POOL} and serves(record, loop):
                continue
            finding = self.ending.finding(record, _REASONS.get(record.kind, f.OUTLIVED_SCOPE))
            finding.fix = record.detail.get("fix", finding.fix)
            if record.kind in _KEPT_BY_LIBRARIES and finding.site.owner != YOURS:
                continue
            self.records.append((owner, record, finding))

    def _open(self) -> list[Record]:
        parts = self.agent.parts
        if "processes" in parts:
            parts["processes"].alive()
        found = [record for record in self.agent.registry if record.kind not in _ASKED and is_alive(record)]
        if "stalls" in parts:
            found += parts["stalls"].loops.open()
        if "subprocesses" in parts:
            found += [record for record in parts["subprocesses"].alive() if not record.detail["told"]]
        if "shared memory" in parts:
            found += [record for record, _ in parts["shared memory"].left_over()]
        if "chromadb" in parts:
            found += parts["chromadb"].left_over()
        return found + self.owners.abandoned()

    def _look_at_tasks(self, tasks: Any) -> None:  # noqa: ANN401 - the part for tasks
        from .instrumentation.task_notes import Observation, awaiting, calling_task, is_helper

        for observation in [*tasks.lost, *tasks.left]:
            owner = self.owners.of_task(observation.entry.ref(), observation.entry.created)
            if self._wanted(owner) and not _runs_tests(observation):
                self.ended.append((owner, observation))
        current = calling_task()
        for entry in tasks.entries():
            task = entry.ref()
            if task is None or task.done() or entry.told or entry.lost or task is current or is_helper(task):
                continue
            owner = self.owners.of_task(task, entry.created)
            if self._wanted(owner) and not interpreter.is_ending(task):
                observation = Observation(entry, task.get_name(), awaiting(task))
                if not _runs_tests(observation):
                    self.pending.append((owner, observation, task))

    def wait(self, seconds: float = GRACE) -> bool:
        """Give what is about to end a moment, and return whether something is left.

        Args:
            seconds: At most so long; it looks again after 1 ms, 2 ms, ... 0.1 s.

        """
        for pause in self.pauses(seconds):
            self._give_turns(pause)
            self.look()
        return bool(self)

    def pauses(self, seconds: float) -> Iterator[float]:
        """Yield the pauses before the next looks, as long as there is something that may end yet."""
        end, pause = time.monotonic() + seconds, _FIRST_PAUSE
        collected = False
        while self.pending or self.records:
            rest = end - time.monotonic()
            if rest <= 0:
                return
            if not collected:
                collected = True
                self.collect()
            yield min(pause, rest)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def collect(self) -> None:
        """Let go of what is in reference cycles: some resources end by being dropped."""
        import gc

        self.ended, self.pending, self.records = [], [], []
        gc.collect()
        self.look()

    def _give_turns(self, seconds: float) -> None:
        """Wait; in event loops of this thread that stand still, what has been cancelled or woken needs a turn to end."""
        if interpreter.running_loop() is None and "stalls" in self.agent.parts:
            known = self.agent.parts["stalls"].loops
            loops = {id(loop): loop for _, _, task in self.pending if known.stands_still(loop := task.get_loop())}
            for loop in loops.values():
                with suppress(RuntimeError):
                    loop.run_until_complete(sys.modules["asyncio"].sleep(0))
        time.sleep(seconds)

    def tell(self, *, named: bool = False) -> list[Finding]:
        """Put it into the report of the agent, once, and return it, merged by place; ``named`` adds who made it."""
        from .report.fingerprint import merge

        found = []
        for owner, observation in sorted(self.ended, key=lambda one: one[1].entry.created):
            finding = self.ending.task_finding(observation)
            tasks = self.agent.parts["asyncio"]
            for known in (tasks.lost, tasks.left):
                if observation in known:
                    known.remove(observation)
            found.append((owner, finding))
        for owner, observation, task in self.pending:
            observation.entry.told = True
            waits = [self.ending.waits(observation.waits)] if observation.waits else []
            found.append((owner, self._task_finding(observation, task, waits)))
        for owner, record, finding in self.records:
            record.detail["scope"] = True
            finding.evidence = self._evidence(record) or finding.evidence
            found.append((owner, finding))
        findings = []
        for owner, finding in found:
            if finding is not None:
                finding.test_id = owner.test_id
                finding.stack = [line for line in finding.stack if not any(mark in line for mark in _MACHINERY)]
                if named:
                    finding.evidence = [f"made by {owner.name}", *finding.evidence]
                findings.append(finding)
        return self._known(merge(findings))

    def _task_finding(self, observation: Observation, task: Any, evidence: list[str]) -> Finding:  # noqa: ANN401 - a task
        record = self.agent.parts["asyncio"].record(observation)
        place = None
        if "lancedb" in self.agent.parts:
            from .instrumentation.lance_suites import FIX_CALL, call_of

            place = guard.call("lancedb", call_of, task)
        if place is None:
            return self.ending.finding(record, f.OUTLIVED_SCOPE, evidence=evidence)
        record.code, record.lasti = place
        record.stack = None  # of the loop's thread, which says nothing
        finding = self.ending.finding(record, f.OUTLIVED_SCOPE, evidence=["on lancedb's background loop", *evidence])
        finding.fix = FIX_CALL
        return finding

    def lines(self) -> list[str]:
        """Return one text for each: the kind, and where it was created."""
        found = [finding for _, _, finding in self.records]
        for _, observation in [*self.ended, *((owner, seen) for owner, seen, _ in self.pending)]:
            found.append(self.ending.finding(self.agent.parts["asyncio"].record(observation), f.OUTLIVED_SCOPE))
        return [f"{one.kind} of {one.site.file}:{one.site.line} {one.site.function}" for one in found]

    def _evidence(self, record: Record) -> list[str]:
        if record.kind == THREAD:
            return [f"runs {where}" for where in self._frames(record)]
        return list(record.detail["evidence"]) if record.kind == LANCEDB_LOOP else []

    def _frames(self, record: Record) -> list[str]:
        from .telling import chain_text

        frame = interpreter.thread_frame(record.resource())
        chain: list[tuple[str, int, str]] = []
        starts = (sys.modules["threading"].__file__, {"run", "_bootstrap_inner", "_bootstrap"})
        while frame is not None and not (chain and frame.f_code.co_filename == starts[0] and frame.f_code.co_name in starts[1]):
            chain.append((frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name))
            frame = frame.f_back
        chain = chain[-_FRAMES:]
        return [chain_text(chain[::-1], self.agent.base)] if chain else []

    def _known(self, merged: list[Finding]) -> list[Finding]:
        from .report.fingerprint import merge

        known = self.agent.scoped
        for finding in merge([*known.values(), *merged]):
            known[finding.fingerprint] = finding
        return merged


def _runs_tests(observation: Observation) -> bool:
    """Say whether a task is the one in which anyio's plugin runs tests: it is cancelled when its event loop is closed."""
    return any(function == "_run_tests_and_fixtures" for _, _, function in observation.waits[:1])
