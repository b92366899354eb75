"""Tasks without progress, blocked event loops and workers that hang, seen while the program runs.

`leakagent.watcher` calls `Stalls.look` in the agent's own thread.  `leakagent.detect.stalled` says when a long wait is told, and why so
few are.

A task that waits for the very same future as before has not run in between: a task is woken by the end of its future only, and a
future ends once.  So one weak reference to the future per task is all that is kept from look to look; it is dead, or somebody else's, as soon as there
is progress.  Only a task that has waited for the whole threshold is read (its await chain, its timers, who waits for it).

Nothing is held between two looks, and each look is bounded: the oldest `MOST_TASKS` tasks, `LOOK_SECONDS` for reading.
"""

from __future__ import annotations

import sys
import time
import weakref

from leakagent.core.findings import STALLED, STRANDED
from leakagent.core.records import TASK, Record
from leakagent.core.tracing import span_of_task
from leakagent.detect.stalled import Stall, is_a_model_client, is_idle, is_owed, waits_on_purpose
from leakagent.detect.stranded import is_stranded
from leakagent.shutdown import interpreter
from leakagent.shutdown.signals import state
from leakagent.watcher import SHARE, watcher

from .loops import Loops
from .task_notes import is_helper
from .waits import Wait, ended_by_timers, is_a, is_main, peer_times, stands_for_another, waiting_for
from .workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.registry import Registry

    from .asyncio_tasks import Tasks
    from .patching import Patches
    from .task_notes import Observation, TaskEntry

#: Tasks that are looked at, the oldest first.
MOST_TASKS = 2_000

#: Seconds per look for reading tasks that have waited for the whole threshold; after that the next look goes on.
LOOK_SECONDS = 0.05


class _Note:
    """What is remembered of a task from look to look."""

    __slots__ = ("asked_again", "entry", "looks", "since", "stall", "stranded", "waiter")

    def __init__(self, entry: TaskEntry) -> None:
        self.entry = entry
        self.waiter: Any = None
        self.restart()

    def restart(self) -> None:
        """Begin anew: there was progress."""
        self.since = time.monotonic()
        self.looks = 0
        self.asked_again = 0.0
        self.stranded = False
        self.stall: Stall | None = None


class Stalls:
    """Looks for what makes no progress."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Start without anything to look at; ``settings.stalled_after`` is the threshold in seconds."""
        self.registry = registry
        self.threshold = settings.stalled_after
        self.loops = Loops(registry, settings)
        self.workers = Workers(registry, settings)
        self.tell: Callable[[Stall], None] | None = None
        self._tasks: Tasks | None = None
        self._notes: dict[int, _Note] = {}
        self._ended: tuple[float, int, set[int] | None] = (0.0, 0, None)

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch a module of `leakagent.instrumentation.WATCHED`."""
        self.loops.arrived(module, patches)

    def start(self, tasks: Tasks | None, tell: Callable[[Stall], None]) -> None:
        """Have this part called by the watcher.

        Args:
            tasks: The part that knows the tasks.
            tell: Called once per stall, in the agent's own thread.

        """
        self._tasks, self.tell = tasks, tell
        if tasks is not None:
            tasks.judge = self.judge
        if self.look not in watcher.looks:
            watcher.looks.append(self.look)
            watcher.enable(self.threshold)

    def adopt(self, loops: list[AbstractEventLoop]) -> int:
        """Watch loops that were there before the agent, and return how many there are."""
        self.loops.adopt(loops)
        return len(loops)

    def forget(self) -> None:
        """Drop all that is known: a forked child has no part in it."""
        self._notes.clear()
        self.loops.forget()
        self.workers.forget()

    # -- while the program runs --------------------------------------------------------------------------------------

    def look(self) -> None:
        """Look once at everything; called by the watcher."""
        if state.number or sys.is_finalizing():
            return  # the program ends
        stalls = [*self.loops.look(), *self.workers.look()]
        if self._tasks is not None:
            stalls += self._look_at_tasks(self._tasks)
        for stall in stalls:
            if self.tell is not None:
                self.tell(stall)

    def _look_at_tasks(self, tasks: Tasks) -> list[Stall]:
        notes: dict[int, _Note] = {}
        due: list[_Note] = []
        for entry in tasks.oldest(MOST_TASKS):
            note = self._notes.get(id(entry)) or _Note(entry)
            if _has_moved(note):
                continue
            notes[id(entry)] = note
            now = time.monotonic()
            note.looks += 1
            # Looks are counted as well: a process that was stopped (Ctrl+Z) has made no progress, and is not stalled.
            if note.stall is None and note.looks > SHARE and now - note.since >= self.threshold and now >= note.asked_again:
                due.append(note)
        self._notes = notes
        # A look has no time for hundreds that wait on purpose: the next one goes on with those that have waited longest for their turn.
        due.sort(key=lambda note: note.asked_again)
        return self._examine_all(due)

    def _examine_all(self, due: list[_Note]) -> list[Stall]:
        stalls: list[Stall] = []
        # Of the processor's: on a busy machine less is done in a second, and no less is to be found.
        end = time.thread_time() + LOOK_SECONDS
        for note in due:
            if _has_moved(note):
                continue
            note.asked_again = time.monotonic() + self.threshold
            note.stall = self._examine(note)
            if note.stall is not None:
                stalls.append(note.stall)
            elif note.stranded:
                note.asked_again = 0.0
            if time.thread_time() >= end:
                break
        return stalls

    def _examine(self, note: _Note) -> Stall | None:
        task = note.entry.ref()
        if task is None or task.done() or is_helper(task):
            return None
        wait = Wait(task)
        waiter = interpreter.waiter_of(task)
        if waiter is None or is_a(waiter, "Task", "_GatheringFuture") or stands_for_another(waiter):
            return None  # who it waits for is looked at by itself
        waiting = [waiter, task, *waiting_for(task)]
        ended = self._ended_by_timers(task.get_loop())
        if ended is None or any(id(one) in ended for one in waiting):
            return None
        # All of it is text from here on: what refers to the future would make it look alive.
        signs = self._signs(wait, waiting, is_main(task))
        chain = [*wait.lines(), ("", 0, _type_name(waiter))]
        on_purpose = waits_on_purpose(_source(wait))
        can_strand = not (is_main(task) or on_purpose or note.entry.lost)
        name, span = task.get_name(), span_of_task(task)
        del wait, waiter, waiting
        reason = STALLED
        if not signs and can_strand:
            # References move while other threads run: two looks have to agree.
            before, note.stranded = note.stranded, self._is_stranded(note, task)
            if before and note.stranded:
                reason, signs = STRANDED, ["nobody refers to what it waits for"]
        if not signs:
            return None
        record = self._record(note.entry, name)
        record.detail["span"] = span
        return Stall(record, reason, chain, [f"no progress for {time.monotonic() - note.since:.1f} s", *signs])

    def _signs(self, wait: Wait, waiting: list[Any], main: bool) -> list[str]:  # noqa: FBT001
        """Return what speaks for a stall (`leakagent.detect.stalled`), or nothing."""
        task = waiting[1]
        if is_idle(wait.places, _asyncio_folder()):
            return []
        for other in [one for one in waiting[1:] if is_a(one, "Task") and not one.done()]:
            its = wait if other is task else Wait(other)
            if its.is_being_cancelled() and not _is_a_process(wait):
                lines = its.lines()
                where = "" if not lines else f" (at {lines[0][0].rpartition('/')[2]} {lines[0][2]})"
                return [f"{'it' if other is task else 'a task that waits for it' + where} was cancelled, and can't end"]
        if is_a_model_client([path for path, _ in wait.places]):
            return ["the answer of a language model has stopped"]
        awaited = main or any(is_a(one, "Task") for one in waiting[2:])
        connection = wait.connection() if awaited else None
        times = None if connection is None else peer_times(connection)
        if times is not None and is_owed(*times, self.threshold):
            return [f"the other end of its connection has not answered for {times[0] / 1000:.1f} s"]
        return []

    def _ended_by_timers(self, loop: AbstractEventLoop) -> set[int] | None:
        since, number, ended = self._ended
        if number != id(loop) or time.monotonic() - since > LOOK_SECONDS:
            ended = ended_by_timers([loop])
            self._ended = time.monotonic(), id(loop), ended
        return ended

    def _is_stranded(self, note: _Note | None, task: Any) -> bool:  # noqa: ANN401 - a task
        if note is not None:
            note.waiter = None  # a weak reference is a way to the future
        try:
            return is_stranded([task, interpreter.waiter_of(task)])
        finally:
            if note is not None:
                note.waiter = _weak(interpreter.waiter_of(task))

    def _record(self, entry: TaskEntry, name: str) -> Record:
        record = Record(0, TASK, *entry.site, entry.created, self.registry.pid, name=name)
        record.stack = entry.stack
        return record

    # -- at the end --------------------------------------------------------------------------------------------------

    def judge(self, observation: Observation, *, interrupted: bool, may_prove: bool) -> None:
        """Fill in why a task is pending that is left at the end of its loop, where there is something special about it.

        Args:
            observation: The task.
            interrupted: Whether the program was asked to end, so that being pending is nothing that can be held against it.
            may_prove: Whether there is time for a proof.

        """
        entry = observation.entry
        task = entry.ref()
        note = self._notes.get(id(entry))
        if task is None or interpreter.waiter_of(task) is None:
            return
        if (
            note is not None
            and note.stall is not None
            and note.waiter is not None
            and note.waiter() is interpreter.waiter_of(task)
        ):
            observation.reason, observation.waits = note.stall.reason, note.stall.chain
            observation.evidence = note.stall.evidence[1:]
            return
        if interrupted or not may_prove or is_main(task):
            return
        ended = self._ended_by_timers(task.get_loop())
        if (
            ended is not None
            and not any(id(one) in ended for one in (task, *waiting_for(task)))
            and self._is_stranded(note, task)
        ):
            observation.reason = STRANDED

    def still_there(self) -> list[Stall]:
        """Return the stalls of workers and event loops that the report tells."""
        return [*self.loops.found, *self.workers.still_there()]

    def tasks_now(self) -> list[Stall]:
        """Return the stalls of tasks that have not moved since, and are not part of the end of their loop."""
        notes = [note for note in list(self._notes.values()) if note.stall is not None and not note.entry.told]
        return [note.stall for note in notes if not _has_moved(note) and note.stall is not None]


def _has_moved(note: _Note) -> bool:
    """Note progress; True if there is nothing to look at any more."""
    task = note.entry.ref()
    if task is None or task.done():
        return True
    waiter = interpreter.waiter_of(task)
    if waiter is None or note.waiter is None or note.waiter() is not waiter:
        note.restart()
        note.waiter = _weak(waiter)
    return note.waiter is None


def _weak(waiter: object) -> Any:  # noqa: ANN401 - a weak reference, or None
    try:
        return None if waiter is None else weakref.ref(waiter)
    except TypeError:
        return None  # of a kind that can't be recognised again


def _type_name(waiter: object) -> str:
    return f"{type(waiter).__module__}.{type(waiter).__qualname__}"


def _is_a_process(wait: Wait) -> bool:
    return any(path.endswith(("asyncio/subprocess.py", "asyncio/base_subprocess.py")) for path, _ in wait.places)


def _asyncio_folder() -> str:
    return str(sys.modules["asyncio.base_events"].__file__).replace("\\", "/").rpartition("/")[0]


def _source(wait: Wait) -> str:
    """Return the line of the innermost frame that is not asyncio's own."""
    import linecache  # only for a task that is suspected

    for path, line, _ in reversed(wait.lines()):
        if path.replace("\\", "/").rpartition("/")[0] != _asyncio_folder():
            return linecache.getline(path, line)
    return ""
