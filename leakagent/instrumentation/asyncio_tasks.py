"""Tasks: none is lost, nothing is kept past done, and every task's creation site is known.

The problem.  An event loop refers to its tasks weakly; a dropped task that waits is destroyed by the next garbage collection.
Whoever wants to keep it alive needs a strong reference exactly until it is done: a moment longer keeps results, locals and
tracebacks, and delays "Task exception was never retrieved".

What does not work.  A set and ``add_done_callback(set.discard)``, the recipe of the documentation: 1.4 to 1.7 times the cost of
a task, and one more callback on the loop for each.  A list that is swept now and then: keeps finished tasks and their results
until the sweep.  A task factory: lost when the program sets its own.  Replacing ``asyncio.create_task``: misses names imported
before, ``loop.create_task``, ``TaskGroup``, ``gather``.

What we do.  A task that is ready to run is held by the loop's queue; a task that waits hangs in a cycle with what it waits for.
A cycle is destroyed by one thing only: the cyclic collector.  So a strong reference is needed only *while a collection runs*.
``gc.callbacks`` tells its start, when we take strong references to the pending tasks it could reach, and its end, when we let go
of them.  Outside of collections the agent holds weak references only, so whatever happens to a finished task happens when it
would have happened anyway.  A collection of the youngest generation can only reach tasks made since the last one; so three
lists, one per generation, and each task is looked at once per generation (a full collection walks the heap anyway).

The same moment is used to find lost tasks.  When a collection starts, a task that nobody but its own cycle refers to would be
destroyed by it: `leakagent.detect.lost` proves that.  Only tasks that pass a cheap filter are looked at (nothing but one waiter
refers to the task), and only for a bounded time per collection.

What is patched: ``BaseEventLoop.create_task`` (and ``uvloop.Loop.create_task``), through which every public way of making a task
goes; ``asyncio.runners._cancel_all_tasks``, where ``asyncio.run`` meets what is left over; ``BaseEventLoop.close``;
``BaseEventLoop.call_exception_handler``, by which failed tasks that nobody looked at are told (`.task_errors`).

What is still open.  A direct ``asyncio.Task(...)`` is found by a sweep only (`.task_sweep`).  In a free-threaded build another thread
could drop a task between the start callback and the collection itself, as long as other callbacks run in between.
"""

from __future__ import annotations

import _thread
import gc
import itertools
import sys
import time
import weakref
from contextlib import contextmanager

from leakagent import guard
from leakagent.core.records import TASK, Record
from leakagent.core.sites import capture_stack, creating_frame
from leakagent.detect.lost import is_lost
from leakagent.shutdown import interpreter
from leakagent.shutdown.signals import state

from .task_errors import Errors
from .task_notes import (
    Observation,
    TaskEntry,
    awaiting,
    cheapest_first,
    is_helper,
    is_incremental,
    only_its_waiter_refers_to,
    pending_tasks,
    running_task,
)
from .task_sweep import Sweep, direct_entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Callable, Iterator
    from types import FrameType, ModuleType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.registry import Registry

    from .patching import Patches
    from .task_errors import Failure

#: Creations after which the young list is swept although no collection came (``gc.disable()``).
SWEEP_AT = 4_096

#: Notes that are looked at for a task that has failed right after it was made, before all of them are put into an index.
NEWEST = 64

#: Seconds per collection that may be spent on proofs.
PROOF_SECONDS = 0.001
FULL_PROOF_SECONDS = 0.01

#: Objects that one proof may look at during a collection: about a millisecond.
PROOF_LIMIT = 500

#: Seconds for the proofs at the end of a loop and of the program: with ten thousand tasks that wait for one event, where each
#: proof meets all the others, they took 140 s.
END_PROOF_SECONDS = 0.5


_CALL = weakref.ref.__call__


class Tasks:
    """Sees every task of every loop."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Start without tasks; ``settings.grace`` is how many seconds the tasks of an ending loop get."""
        self.registry = registry
        self.grace = settings.grace
        self.seconds = 0.0
        self.cancelling: list[float] = []
        self.lost: list[Observation] = []
        self.left: list[Observation] = []
        # Four items per task: weak reference, creating code (at level ``stack`` the whole stack), offset, time.
        self._young: list[Any] = []
        self._flight: list[TaskEntry] = []
        self._taken = 0
        self._recent: list[TaskEntry] = []
        self._looked: list[TaskEntry] = []
        self._recent_limit = SWEEP_AT // 4
        self._middle: list[TaskEntry] = []
        self._old: list[TaskEntry] = []
        self._held: list[Any] = []
        self._index: dict[int, TaskEntry] = {}
        self.errors = Errors(registry.level, self._find)
        self._direct = Sweep(registry.level)
        self._lock = _thread.RLock()
        self._locked = False
        self._started = 0.0

    # -- patches -----------------------------------------------------------------------------------------------------

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch a module of `leakagent.instrumentation.TARGETS`."""
        if module.__name__ == "asyncio.base_events":
            self._patch_loops(module, patches)
        elif module.__name__ == "asyncio.runners":
            self._patch_runners(module, patches)
        else:
            self._patch_uvloop(module, patches)

    def stop(self) -> None:
        """Leave the collector alone again."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)
            self._held.clear()

    def forget(self) -> None:
        """Drop all that is known; a forked child has no part in its parent's tasks."""
        guard.call("asyncio sweep", self._direct.forked, self._known())
        for known in (self._young, self._flight, self._recent, self._middle, self._old, self._held, self.lost, self.left):
            known.clear()
        self.errors.forget()
        self._index = {}
        self._lock = _thread.RLock()
        self._locked = False
        self._started = 0.0

    def _patch_loops(self, module: ModuleType, patches: Patches) -> None:
        patches.replace(module.BaseEventLoop, "create_task", self._make_create_task)
        patches.replace(module.BaseEventLoop, "close", self._make_close)
        patches.replace(module.BaseEventLoop, "call_exception_handler", self.errors.make_handler)
        if self._on_collection not in gc.callbacks:
            gc.callbacks.append(self._on_collection)

    def _patch_uvloop(self, module: ModuleType, patches: Patches) -> None:
        # uvloop.Loop inherits create_task from a C class: what is put on the Python class is taken away again.
        owner = next(base for base in module.Loop.__mro__ if "create_task" in vars(base))
        if owner is module.Loop:
            patches.replace(owner, "create_task", self._make_create_task)
        else:
            patches.override(module.Loop, "create_task", self._make_create_task)
            patches.override(module.Loop, "close", self._make_close)
            patches.override(module.Loop, "call_exception_handler", self.errors.make_handler)

    def _patch_runners(self, module: ModuleType, patches: Patches) -> None:
        owner = interpreter.cancel_all_tasks_owner()
        if owner is not None and owner[0] is module:
            patches.replace(*owner, self._make_cancel_all)

    def _make_create_task(self, original: Callable[..., Task[Any]]) -> Callable[..., Task[Any]]:
        young, ref, now, frame_of = self._young, weakref.ref, time.monotonic, interpreter.frame_of
        level = self.registry.level

        def create_task(loop: AbstractEventLoop, coro: Any, **kwargs: Any) -> Task[Any]:  # noqa: ANN401
            task = original(loop, coro, **kwargs)
            try:
                place: Any = None
                lasti = 0
                if level != "count":
                    frame: Any = frame_of(1)
                    if frame.f_globals.get("__package__") == "asyncio":
                        frame = creating_frame(frame)
                    place, lasti = (frame.f_code, frame.f_lasti) if level == "site" else (capture_stack(frame), 0)
                young.extend((ref(task), place, lasti, now()))
                if len(young) > SWEEP_AT:
                    self._sweep()
            except Exception as error:  # noqa: BLE001 - the program must never see it
                guard.failed("asyncio tasks", error)
            return task

        return create_task

    def _make_close(self, original: Callable[[AbstractEventLoop], None]) -> Callable[[AbstractEventLoop], None]:
        def close(loop: AbstractEventLoop) -> None:
            # A loop that nobody closed is closed by its finalizer, when the report is written and the modules are gone.
            if not sys.is_finalizing() and not loop.is_running() and not loop.is_closed():
                guard.call("asyncio loops", self._observe_loop, loop)
            original(loop)
            state.raise_postponed()

        return close

    def _make_cancel_all(self, original: Callable[[AbstractEventLoop], None]) -> Callable[[AbstractEventLoop], None]:
        def _cancel_all_tasks(loop: AbstractEventLoop) -> None:
            main = _main_coroutine(interpreter.frame_of(1))
            seen = guard.call("asyncio loops", self._observe_loop, loop, main) or []
            self._bounded(original, loop, seen)

        return _cancel_all_tasks

    def _bounded(self, original: Callable[[AbstractEventLoop], None], loop: AbstractEventLoop, seen: list[Observation]) -> None:
        """Let asyncio cancel and await the tasks, but for no longer than the grace."""
        late: list[bool] = []

        def give_up() -> None:
            late.append(True)
            loop.stop()

        timer = loop.call_later(self.grace, give_up)
        begin = time.monotonic()
        try:
            original(loop)
        except RuntimeError:
            # "Event loop stopped before Future completed" (asyncio.base_events.BaseEventLoop.run_until_complete).
            if not late:
                raise
            for observation in seen:
                task = observation.entry.ref()
                if task is not None and not task.done():
                    observation.refused = True
                    if observation not in self.left and observation not in self.lost:
                        self.left.append(observation)
            for task in pending_tasks(loop):
                interpreter.silence_destroyed(task)
        finally:
            timer.cancel()
            if seen:
                self.cancelling.append(time.monotonic() - begin)

    # -- the collector -----------------------------------------------------------------------------------------------

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        """Hold tasks from the start of a collection to its end.

        The lock is kept in between, so that no other thread moves notes from list to list where they would be missed;
        without it all that is known is held, and nothing is proven.  The last statement is one instruction of the interpreter, after which no other
        thread gets a turn before the collector has decided: a task that another one made during the proofs is held as well.
        """
        if phase == "start":
            self._started = time.perf_counter()
            self._locked = self._lock.acquire(timeout=END_PROOF_SECONDS)
            try:
                if self._locked:
                    self._hold(info["generation"])
                else:
                    self._held += [entry.ref() for entry in self._known()]
            except Exception as error:  # noqa: BLE001 - an exception here would be printed by the collector
                guard.failed("asyncio tasks", error)
            self._held += map(_CALL, itertools.islice(self._young, 0, None, 4))
        elif self._started:
            self._held.clear()
            self.seconds += time.perf_counter() - self._started
            self._started = 0.0
            if self._locked:
                self._locked = False
                self._lock.release()

    def _hold(self, generation: int) -> None:
        """Take strong references to every pending task that this collection could reach.

        This thread itself can get here in the middle of `_sweep`, whose allocations can start a collection: what `_sweep`
        has in its hands is in ``_flight``.
        """
        flight = self._flight
        self._held.extend(entry.ref() for entry in flight)
        entries, self._recent = self._take_young() + self._recent, []
        entries += guard.call("asyncio sweep", self._direct_ones, generation, entries) or []
        if generation > 0:
            self._index = {}
            entries, self._middle = entries + self._middle, []
        if generation > 1 or (generation and is_incremental()):
            entries, self._old = entries + self._old, []
        survivors = self._old if generation > 0 else self._middle
        self._looked = entries
        deadline = time.perf_counter() + (FULL_PROOF_SECONDS if generation > 1 else PROOF_SECONDS)
        finished = 0
        box: list[Any] = []
        kept: list[TaskEntry] = []
        for entry in entries:
            box.append(entry.ref())
            if box[0] is None or box[0].done():
                self.errors.note(box[0], entry)
                box.clear()
                finished += 1
                continue
            kept.append(entry)
            if not (entry.lost or entry.told) and only_its_waiter_refers_to(box) and time.perf_counter() < deadline:
                self._prove(entry, box)
            box.clear()
        # Only now: a task that is held would vouch for those that wait for it or that it waits for (``gather``).
        survivors.extend(kept)
        self._held.extend([entry.ref() for entry in kept])
        self._flight, self._looked = flight, []
        self.registry.count(TASK).add(0, finished)

    def _direct_ones(self, generation: int, entries: list[TaskEntry]) -> list[TaskEntry]:
        made = self._direct.new(
            generation,
            entries[0].ref if entries else None,
            lambda: [*entries, *self._flight, *self._middle, *self._old],
        )
        self.registry.count(TASK).add(len(made), 0)
        return made

    def _find(self, task: Any) -> TaskEntry | None:  # noqa: ANN401 - a task
        """Return the note about a task that may be in the middle of its finalizer."""
        reference, young = weakref.ref(task), self._young
        for index in range(len(young) - 4, max(len(young) - 4 * NEWEST, 0) - 1, -4):
            if young[index] is reference:
                return TaskEntry(reference, *young[index + 1 : index + 4])
        found = self._index.get(id(reference))
        if found is None or found.ref is not reference:
            flat = young[:]
            made = [TaskEntry(flat[index], *flat[index + 1 : index + 4]) for index in range(0, len(flat), 4)]
            self._index = {id(entry.ref): entry for entry in (*made, *self._known())}
            found = self._index.get(id(reference))
        return found

    def _is_pending(self, entry: TaskEntry) -> bool:
        task = entry.ref()
        if task is not None and task.done():
            self.errors.note(task, entry)
        return task is not None and not task.done()

    def _prove(self, entry: TaskEntry, box: list[Any]) -> None:
        observation = Observation(entry, box[0].get_name(), awaiting(box[0]))
        if is_lost(box, limit=PROOF_LIMIT) and not entry.told:
            entry.lost = True
            self.lost.append(observation)

    def _take_young(self) -> list[TaskEntry]:
        """Move the young list into entries, which are in ``_flight`` until the caller has put them elsewhere.

        Building them can start a collection, which gets here again and takes them first: then this turn is void.
        """
        with self._lock:
            while True:
                turn = self._taken
                flat = self._young[:]
                entries = [
                    TaskEntry(reference, *flat[index + 1 : index + 4])
                    for index, reference in zip(range(0, len(flat), 4), flat[::4], strict=True)
                    if (task := reference()) is not None and (not task.done() or interpreter.complains(task))
                ]
                task = None
                self._flight = entries
                delete, cut = self._young.__delitem__, slice(0, len(flat))
                if turn == self._taken:
                    delete(cut)
                    self._taken = turn + 1
                    break
            made = len(flat) // 4
            self.registry.count(TASK).add(made, made - len(entries))
            merged = self._direct.merge(entries)
            self.registry.count(TASK).add(len(merged) - len(entries), 0)
            return merged

    def _sweep(self) -> None:
        """Let go of the notes about finished tasks although no collection came; a task that is created waits for nobody."""
        if self._lock.acquire(blocking=False):
            try:
                self._sweep_locked()
            finally:
                self._lock.release()

    def _sweep_locked(self) -> None:
        """Move what is new to ``_recent``; only a collection may move it on, since these tasks are still young to it."""
        made = self._take_young()
        self._recent += made  # in place: a collection can come with any new object, and takes the list away
        self._flight = []
        recent = self._recent
        if len(recent) > self._recent_limit:
            # Twice as many as were left last time: the work per task stays constant.
            pending = [entry for entry in recent if self._is_pending(entry)]
            self._recent_limit = SWEEP_AT // 4 + 2 * len(pending)
            if self._recent is recent:
                self._recent = pending
                self.registry.count(TASK).add(0, len(recent) - len(pending))

    # -- the end -----------------------------------------------------------------------------------------------------

    def _observe_loop(self, loop: AbstractEventLoop, main: object = None) -> list[Observation]:
        """Note what is pending when a loop ends.

        The loop's own helpers are left out.  If a signal ends the program, or the main coroutine itself was interrupted (Ctrl+C),
        nothing has outlived it: only lost tasks are told then.
        """
        if loop in self._direct.foreign:
            return []
        entries = {id(task): entry for entry in self.entries() if (task := entry.ref()) is not None}
        task = None
        seen: list[Observation] = []
        waiting = pending_tasks(loop)
        interrupted = state.interrupts or (main is not None and any(task.get_coro() is main for task in waiting))
        # Referred to weakly: a list of tasks would vouch for those that wait for each other.
        pending = cheapest_first(waiting)
        deadline = time.perf_counter() + END_PROOF_SECONDS
        for reference in pending:
            # Another thread's collection must neither hold the task during the proof nor prove it at the same time.
            with self._locking(deadline) as alone:
                box = [reference()]
                if box[0] is None:
                    continue
                entry = entries.get(id(box[0])) or direct_entry(reference, self.registry.level)
                if entry.told:
                    continue
                entry.told = True
                known = entry.lost
                observation = Observation(entry, box[0].get_name(), awaiting(box[0]))
                seen.append(observation)
                # Noted by a collection in another thread, before `told` kept it from doing so?
                if not known:
                    entry.lost = alone and time.perf_counter() < deadline and is_lost(box)
                    if entry.lost:
                        self.lost.append(observation)
                    elif not interrupted:
                        self.left.append(observation)
                box.clear()
        return seen

    def observe_rest(self, *, final: bool) -> list[Observation]:
        """Note what is still pending in loops that nobody closed, and return it; ``final`` says that the program ends now.

        A task that ends the program itself (it raises a signal) has not outlived it; the others of its loop have if it is the
        main one, else the main one is interrupted (`_observe_loop`).
        """
        seen = []
        deadline = time.perf_counter() + END_PROOF_SECONDS
        entries = self.entries()
        current, interrupted = running_task(entries)
        interrupted = interrupted or state.interrupts
        for entry in entries:
            box = [entry.ref()]
            if entry.told or entry.lost or box[0] is None or box[0].done() or box[0] is current or is_helper(box[0]):
                continue
            entry.told = True
            here = current is not None and box[0].get_loop() is current.get_loop()
            observation = Observation(entry, box[0].get_name(), awaiting(box[0]))
            observation.loop_runs = box[0].get_loop().is_running()
            seen.append(observation)
            if time.perf_counter() < deadline and is_lost(box):
                self.lost.append(observation)
            elif not (interrupted and final and (here or state.interrupts)):
                self.left.append(observation)
        return seen

    def take_back(self, observations: list[Observation]) -> None:
        """Take observations back: the program goes on, and these tasks with it."""
        for observation in observations:
            observation.entry.told = False
        for known in (self.lost, self.left):
            known[:] = [one for one in known if one not in observations]

    def entries(self) -> list[TaskEntry]:
        """Return what is known of tasks that were pending when they were last looked at."""
        with self._locking(time.perf_counter() + END_PROOF_SECONDS) as alone:
            if alone:
                self._sweep_locked()
            return self._known()

    def _known(self) -> list[TaskEntry]:
        return [*self._flight, *self._looked, *self._recent, *self._middle, *self._old]

    @contextmanager
    def _locking(self, deadline: float) -> Iterator[bool]:
        """Keep other threads' collections out, if it can be done until the deadline.

        A collection runs finalizers, and one of them may wait for this very thread (a client that joins its loop's thread).
        """
        alone = self._lock.acquire(timeout=max(deadline - time.perf_counter(), 0))
        try:
            yield alone
        finally:
            if alone:
                self._lock.release()

    def record(self, observation: Observation) -> Record:
        """Return an observation as a record."""
        return self._record(observation.entry, observation.name)

    def record_of_failure(self, failure: Failure) -> Record:
        """Return an exception that nobody looked at as a record of its task."""
        return self._record(failure.entry, failure.name)

    def _record(self, entry: TaskEntry | None, name: str) -> Record:
        if entry is None:
            return Record(0, TASK, None, 0, time.monotonic(), self.registry.pid, name=name)
        made = Record(0, TASK, entry.code, entry.lasti, entry.created, self.registry.pid, name=name)
        made.stack = entry.stack
        return made

    def look_at_failed(self) -> None:
        """Note the exceptions that nobody has looked at when the program ends."""
        self.errors.look(self.entries())


def _main_coroutine(frame: FrameType | None) -> object:
    """Return what ``asyncio.run`` was called with: still pending when it was interrupted (on 3.11 and newer not by Ctrl+C)."""
    for _ in range(6):
        if frame is None:
            return None
        if frame.f_code.co_name == "run" and "main" in frame.f_locals:
            return frame.f_locals["main"]
        frame = frame.f_back
    return None
