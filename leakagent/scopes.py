"""``leakagent.scope``: what was created inside a block and is still alive after it.

The problem.  "Created inside" is a question of who created it, not of when: while a coroutine is inside its block, other tasks
of the same loop, and other threads, create things as well.

What we do.  The block sets a context variable.  Whatever runs for the block has it: its own code, the tasks it makes (a task copies
the context that it is made in) and the tasks that these make, callbacks, ``asyncio.to_thread``.  Records are noted while they are made, by a hook
of the registry that is there only while a block is open.  Tasks are not noted at all: at the end of the block, pending tasks are asked
for their context, so that making one costs nothing more, inside a block or outside.

What a block does not answer for: what the event loop and executors start for themselves (default executor, workers, queue feeders), and threads and pools
that a library made, which keeps them for the whole process more often than not.

What is still open.  A plain thread begins with an empty context (in most builds), so what it creates belongs to no block.
"""

from __future__ import annotations

import _thread
import os
import sys
import time
from contextlib import suppress

from . import agent as agents
from . import guard
from .core import findings as f
from .core.records import PROCESS, PROCESS_POOL, SUBPROCESS, TASK, THREAD, THREAD_POOL, Record
from .core.sites import YOURS
from .processes.identity import is_running
from .shutdown import interpreter
from .shutdown.signals import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar, Token
    from types import TracebackType
    from typing import Any

    from typing_extensions import Self

    from .agent import Agent
    from .core.findings import Finding
    from .ending import Ending
    from .instrumentation.task_notes import Observation

WARN, RAISE, CANCEL = "warn", "raise", "cancel"

_MODES = (WARN, RAISE, CANCEL)

#: Packages whose threads serve something else that has a record of its own.
_SERVING = ("concurrent", "multiprocessing", "asyncio", "uvloop", "anyio")

#: Most resources that the message of an error lists.
_LISTED = 10

_variable: list[ContextVar[scope | None]] = []
_open: list[scope] = []


class LeakError(RuntimeError):
    """Something that was created in a ``leakagent.scope(..., on_leak="raise")`` is still alive after it.

    Attributes:
        scope: The name of the scope.
        leaks: One text per place: what it is, how many, and where it was created.

    """

    def __init__(self, scope: str, leaks: list[str]) -> None:
        """Note what is left of which scope."""
        self.scope = scope
        self.leaks = leaks
        more = [f"... and {len(leaks) - _LISTED} more places"] if len(leaks) > _LISTED else []
        lines = "".join(f"\n  {line}" for line in leaks[:_LISTED] + more)
        super().__init__(f"still alive after leakagent.scope({scope!r}):{lines}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be pickled: a worker process may raise it."""
        return type(self), (self.scope, self.leaks)


class scope:  # noqa: N801 - used like a function
    """A block whose background work must end with it, for ``with`` and ``async with``.

    Tasks, threads, executors, processes and clients that were created inside (also by tasks that were created inside) and are
    still alive after the block become a finding ``outlived_scope``.  Scopes may be nested, and used in several tasks at the same time;
    each has an object of its own.  Without an active agent a scope does nothing.

    Args:
        name: What the scope is called in the report.
        on_leak: What is done at the end of the block about what is still alive: ``"warn"`` tells it in the report; ``"raise"`` tells it and
            raises `LeakError`, unless the block itself raises; ``"cancel"`` tells it and ends it: tasks are cancelled (by
            ``async with`` also awaited, for the grace at most: ``LEAKAGENT_GRACE``, in seconds), executors shut down without waiting,
            processes terminated, clients closed.  A thread can't be cancelled.

    Raises:
        ValueError: Another ``on_leak``.
        RuntimeError: A scope that is entered a second time.
        LeakError: At the end of the block, see ``on_leak``.

    """

    def __init__(self, name: str, on_leak: str = WARN) -> None:
        """Prepare a scope; it begins with the block."""
        if on_leak not in _MODES:
            message = f"scope() does not know on_leak={on_leak!r} (allowed: {', '.join(_MODES)})"
            raise ValueError(message)
        self.name = str(name)
        self.on_leak = on_leak
        self._entered = False
        self._agent: Agent | None = None
        self._pid = os.getpid()
        self.began = 0.0
        self._token: Token[scope | None] | None = None
        self.parent: scope | None = None
        self.records: list[Record] = []

    def __repr__(self) -> str:
        """Show its name."""
        return f"<leakagent.scope {self.name!r} on_leak={self.on_leak!r}>"

    # -- the block ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Begin."""
        if self._entered:
            message = f"{self!r} was entered before: make one for each block"
            raise RuntimeError(message)
        self._entered = True
        self._pid = os.getpid()
        if agents.is_active():
            guard.call("scopes", self._begin)
        return self

    async def __aenter__(self) -> Self:
        """Begin."""
        return self.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """End: tell what is still alive, and do about it what was asked for."""
        left = guard.call("scopes", self._end)
        if left is not None:
            guard.call("scopes", left.look)
            if self.on_leak == CANCEL:
                guard.call("scopes", left.end)
            self._tell(left, error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End: tell what is still alive, and do about it what was asked for."""
        left = guard.call("scopes", self._end)
        if left is None:
            return
        guard.call("scopes", left.look)
        if left.tasks and "asyncio" in sys.modules and interpreter.running_loop() is not None:
            # One turn of the loop: what was told to end, or has nothing left to do, ends in it.
            await sys.modules["asyncio"].sleep(0)
            left.drop_finished()
        if self.on_leak == CANCEL:
            tasks = guard.call("scopes", left.end)
            if tasks:
                await sys.modules["asyncio"].wait(tasks, timeout=left.agent.settings.grace)
                left.waited = True
        self._tell(left, error)

    def _begin(self) -> None:
        import contextvars  # only for programs that have scopes

        if not _variable:
            _variable.append(contextvars.ContextVar("leakagent.scope", default=None))
        self._agent = agents.current()
        self.parent = _variable[0].get()
        self._token = _variable[0].set(self)
        self.began = time.monotonic()
        _open.append(self)
        if self._agent is not None:
            self._agent.registry.scoped = _note

    def _end(self) -> _Left | None:
        agent, token, self._token = self._agent, self._token, None
        if self in _open:
            _open.remove(self)
        if token is not None:
            with suppress(ValueError):  # a generator that is closed in another context than the one it began in
                _variable[0].reset(token)
        if agent is None:
            return None
        if not _open:
            agent.registry.scoped = None
        # Not after a fork, nor after uninstall().
        return _Left(self, agent) if agent.is_active() and self._pid == os.getpid() else None

    def _tell(self, left: _Left, error: BaseException | None) -> None:
        if isinstance(error, (KeyboardInterrupt, SystemExit)) or state.interrupts:
            return  # it was cut off: nothing has outlived it
        told = guard.call("scopes", left.tell)
        if told and self.on_leak == RAISE and error is None:
            raise LeakError(self.name, told)

    # -- what belongs to it ------------------------------------------------------------------------------------------

    def contains(self, other: scope | None) -> bool:
        """Say whether another scope is this one or was opened inside of it."""
        while other is not None and other is not self:
            other = other.parent
        return other is self

    def add(self, record: Record) -> None:
        """Note what was created inside."""
        self.records.append(record)
        if len(self.records) > self._limit:
            self.records = [one for one in self.records if one.state == "live" and is_alive(one)]
            self._limit = 256 + 2 * len(self.records)

    _limit = 256


def _note(record: Record) -> None:
    inner = _variable[0].get()
    while inner is not None:
        inner.add(record)
        inner = inner.parent


class _Left:
    """What is still alive at the end of a scope."""

    def __init__(self, owner: scope, agent: Agent) -> None:
        self.scope = owner
        self.agent = agent
        self.ending: Ending = agent.ending()
        self.tasks: list[tuple[Observation, Any]] = []
        self.records: list[tuple[Record, Finding]] = []
        self._ended: set[int] = set()
        self.waited = False

    def look(self) -> None:
        """Find it, at the end of the block."""
        self._look_at_tasks()
        loop = interpreter.running_loop()
        for record in self.scope.records:
            if record.detail.get("scope") or not is_alive(record) or serves(record, loop):
                continue
            finding = self.ending.finding(record, f.OUTLIVED_SCOPE)
            if record.kind in {THREAD, THREAD_POOL, PROCESS_POOL} and finding.site.owner != YOURS:
                continue
            self.records.append((record, finding))

    def _look_at_tasks(self) -> None:
        part = self.agent.parts.get("asyncio")
        if part is None:
            return
        from .instrumentation.task_notes import Observation, awaiting  # only for programs with tasks

        variable = _variable[0]
        for entry in part.entries():
            task = entry.ref()
            if entry.created < self.scope.began or entry.told or task is None or task.done():
                continue
            context = interpreter.context_of(task)
            if context is not None and self.scope.contains(context.get(variable)) and not interpreter.is_ending(task):
                self.tasks.append((Observation(entry, task.get_name(), awaiting(task)), task))

    def drop_finished(self) -> None:
        """Forget the tasks that have ended in the meantime."""
        self.tasks = [(seen, task) for seen, task in self.tasks if not task.done()]

    def end(self) -> list[Any]:
        """End it as far as that can be done without waiting; return the tasks of the running loop that were cancelled."""
        here = interpreter.running_loop()
        waiting = []
        for _, task in self.tasks:
            loop = task.get_loop()
            if loop is here:
                task.cancel()
                waiting.append(task)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
        for record, _ in self.records:
            if guard.call("scopes", self._end_one, record):
                self._ended.add(record.id)
        return waiting

    def _end_one(self, record: Record) -> bool:
        resource = record.resource()
        if record.kind == PROCESS:
            resource.terminate()
            return True
        if record.kind in {THREAD_POOL, PROCESS_POOL}:
            if hasattr(resource, "terminate"):  # of multiprocessing
                resource.terminate()
            else:
                resource.shutdown(wait=False, cancel_futures=True)
            return True
        part = self.agent.client_part(record.kind)
        return part is not None and part.close(record)

    def tell(self) -> list[str]:
        """Put it into the report and return one text per place."""
        from .report.fingerprint import merge  # only for programs that left something

        found = []
        name = f"created in leakagent.scope({self.scope.name!r})"
        for observation, task in self.tasks:
            observation.entry.told = True
            waits = [self.ending.waits(observation.waits)] if observation.waits else []
            record = self.agent.parts["asyncio"].record(observation)
            reason, action = f.OUTLIVED_SCOPE, f.NONE
            if self.scope.on_leak == CANCEL:
                refused = self.waited and not task.done() and task.get_loop() is interpreter.running_loop()
                reason, action = (f.REFUSED_CLEANUP, f.NONE) if refused else (f.OUTLIVED_SCOPE, f.CANCELLED)
            found.append(self.ending.finding(record, reason, evidence=[name, *waits], action=action))
        for record, finding in self.records:
            record.detail["scope"] = True
            finding.evidence = [name]
            if record.id in self._ended:
                finding.action = f.TERMINATED if record.kind == PROCESS else f.CLOSED
            found.append(finding)
        merged = merge(found)
        known = self.agent.scoped
        for finding in merge([*known.values(), *merged]):
            known[finding.fingerprint] = finding
        return [_line(finding) for finding in merged]


def _line(finding: Finding) -> str:
    count = f"{finding.count} x " if finding.count > 1 else ""
    site = finding.site
    where = f"{site.file}:{site.line} {site.function}" if site.file else "an unknown place"
    return f"{count}{finding.kind} created at {where}"


def is_alive(record: Record) -> bool:
    """Say whether a resource that was not ended by its own method is still there."""
    resource = record.resource()
    if resource is None or record.state != "live":
        return False
    ask = _SIGNS.get(record.kind)
    if ask is not None:
        return bool(ask(resource, record.detail))
    agent = agents.current()
    part = agent.client_part(record.kind) if agent is not None else None
    return record.kind != TASK if part is None else part.is_alive(record)


#: Kind -> what says that a resource has not ended.
_SIGNS: dict[str, Callable[[Any, dict[str, Any]], object]] = {
    THREAD: lambda thread, _: thread.is_alive(),
    PROCESS: lambda process, detail: not detail["pool"] and process.exitcode is None,
    SUBPROCESS: lambda _, detail: is_running(detail["pid"], detail["start"]),
}


def serves(record: Record, loop: object) -> bool:
    """Say whether it serves something else: the running loop, an executor, a queue."""
    resource = record.resource()
    if record.kind != THREAD:
        return loop is not None and interpreter.is_default_executor(loop, resource)
    if resource is None or resource.ident == _thread.get_ident() or resource in interpreter.worker_threads():
        return True
    target = interpreter.thread_target(resource)
    modules = {type(resource).__module__, getattr(target, "__module__", None) or ""}
    return any(module.partition(".")[0] in _SERVING for module in modules)
