"""Tasks are held while a garbage collection runs, and at no other time.

The problem.  An event loop refers to its tasks weakly; a dropped task that waits is destroyed by the next garbage collection.
Whoever wants to keep it alive needs a strong reference exactly until it is done: a moment longer keeps results, locals and
tracebacks, and delays "Task exception was never retrieved".

What does not work.  A set and ``add_done_callback(set.discard)``, the recipe of the documentation: 1.4 to 1.7 times the cost of
a task, and one more callback on the loop for each.  A list that is swept now and then: keeps finished tasks and their results
until the sweep.

What we do.  A task that is ready to run is held by the loop's queue; a task that waits hangs in a cycle with what it waits for.
A cycle is destroyed by one thing only: the cyclic collector.  So a strong reference is needed only *while a collection runs*.
``gc.callbacks`` tells its start, when we take strong references to the pending tasks it could reach, and its end, when we let go
of them.  Whatever happens to a finished task happens when it would have happened anyway.  A collection of the youngest
generation can only reach tasks made since the last one, and a full one walks the whole heap itself: the work is in proportion to
the collector's own.

The same moment is used to find lost tasks.  When a collection starts, a task that nobody but its own cycle refers to would be
destroyed by it: `leakagent.detect.lost` proves that.  Only tasks that pass a cheap filter are looked at (nothing but one waiter
refers to the task), and only for a bounded time per collection.

What is still open.  In a free-threaded build another thread could drop a task between the start callback and the collection
itself, as long as other callbacks run in between.  In 3.14, whose collections visit a part of the old objects each, all tasks
are held in each of them.
"""

from __future__ import annotations

import _thread
import gc
import itertools
import sys
import time
from contextlib import contextmanager

from leakagent import guard
from leakagent.detect.lost import is_lost
from leakagent.shutdown import interpreter

from .task_notes import FEW, Observation, awaiting, is_incremental

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .task_notes import TaskEntry
    from .task_sweep import Sweep
    from .task_table import TaskTable

#: Seconds per collection that may be spent on proofs.
PROOF_SECONDS = 0.001
FULL_PROOF_SECONDS = 0.01

#: Objects that one proof may look at during a collection: about a millisecond.
PROOF_LIMIT = 500

#: Seconds that a collection waits for a proof in another thread.
WAIT_SECONDS = 0.5


class _NoLock:
    """In place of the lock of a window that is closed for good: nobody gets it.

    eventlet's ``monkey_patch`` looks for the process's locks, and complains of those that it can't replace.
    """

    def acquire(self, **_options: object) -> bool:
        """Refuse."""
        return False

    def release(self) -> None:
        """Do nothing: nobody has it."""


class Window:
    """Holds the tasks of a table while a collection runs, and finds the lost ones."""

    def __init__(self, table: TaskTable, lost: list[Observation], direct: Sweep) -> None:
        """Start closed; observations of lost tasks are put into ``lost``, and ``direct`` finds tasks without a note."""
        self.direct = direct
        self.table = table
        self.lost = lost
        self.held: list[Any] = []
        #: Seconds that were spent in collections.
        self.seconds = 0.0
        self._lock: Any = _thread.RLock()
        self._locked = False
        self._started = 0.0
        self._claims: dict[int, tuple[TaskEntry]] = {}
        table.sweep_soon = self._sweep_soon

    def open(self) -> None:
        """Be told of collections."""
        if self._on_collection not in gc.callbacks:
            gc.callbacks.append(self._on_collection)

    def close(self) -> None:
        """Leave the collector alone again."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)
            self.held.clear()
        if not self._locked:
            self._lock = _NoLock()

    def forget(self) -> None:
        """Start afresh in a forked child, where nobody will release the lock that another thread had."""
        self.held.clear()
        self._lock = _thread.RLock()
        self._locked = False
        self._started = 0.0
        self._claims.clear()

    def claim(self, entry: TaskEntry) -> bool:
        """Say whether the caller is the first who wants to tell this task, and nobody else is to.

        Two threads can come to it at the same time: the one that ends the loop, and another that collects.
        """
        # The note is kept, so that no other one gets its number.
        claim = (entry,)
        return self._claims.setdefault(id(entry), claim) is claim

    def give_up(self, entry: TaskEntry) -> None:
        """Let the task be told again."""
        self._claims.pop(id(entry), None)

    @contextmanager
    def locking(self, deadline: float) -> Iterator[bool]:
        """Keep other threads' collections out, if it can be done until the deadline.

        A collection runs finalizers, and one of them may wait for this very thread (a client that joins its loop's thread).
        """
        alone = self._lock.acquire(timeout=max(deadline - time.perf_counter(), 0))
        try:
            yield alone
        finally:
            if alone:
                self._lock.release()

    def _sweep_soon(self) -> None:
        # A task that is created waits for nobody.
        if self._lock.acquire(blocking=False):
            try:
                self.table.sweep()
            finally:
                self._lock.release()

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        """Hold tasks from the start of a collection to its end.

        The lock is kept in between, so that no other thread moves notes from list to list where they would be missed;
        without it all that is known is held, and nothing is proven.  The last statement is one instruction of the interpreter, after which no other
        thread gets a turn before the collector has decided: a task that another one made during the proofs is held as well.
        """
        if phase == "start":
            self._started = time.perf_counter()
            self._locked = self._lock.acquire(timeout=WAIT_SECONDS)
            try:
                if self._locked:
                    self._hold(info["generation"])
                else:
                    self.held += [entry() for entry in self.table.noted()]
            except Exception as error:  # noqa: BLE001 - an exception here would be printed by the collector
                guard.failed("asyncio tasks", error)
            self.held += map(interpreter.call, self.table.young)
        elif self._started:
            self.held.clear()
            self.seconds += time.perf_counter() - self._started
            self._started = 0.0
            if self._locked:
                self._locked = False
                self._lock.release()

    def _hold(self, generation: int) -> None:
        """Take strong references to every pending task that this collection could reach."""
        if generation == 1 and is_incremental():
            generation = 2
        entries = self.table.reached(generation)
        length = len(entries)
        entries, tasks = self.table.pending(entries)
        finished = length - len(entries)
        if not self.table.taken:
            made = (
                guard.call("asyncio sweep", self.direct.new, generation, entries[0] if entries else None, self.table.noted) or []
            )
            entries, tasks = entries + made, tasks + [entry() for entry in made]
        # Lost tasks stay lost: the frequent young collections leave it to the next one to look for them.
        if generation > 0:
            self._look_for_lost(entries, tasks, FULL_PROOF_SECONDS if generation > 1 else PROOF_SECONDS)
        self.held += itertools.compress(tasks, map(interpreter.waits, tasks))
        self.table.move_on(generation, length, entries, finished)

    def _look_for_lost(self, entries: list[TaskEntry], tasks: list[Any], seconds: float) -> None:
        counts = map(sys.getrefcount, tasks)
        # In the order of what is quick and seldom true.
        suspects = [number for number, count in enumerate(counts) if count <= FEW and interpreter.waits(tasks[number])]
        if not suspects:
            return
        # A task that is held would vouch for those that wait for it or that it waits for (``gather``).
        tasks.clear()
        deadline = time.perf_counter() + seconds
        for number in suspects:
            if time.perf_counter() >= deadline:
                break
            self._prove(entries[number])
        tasks += map(interpreter.call, entries)
        if not all(tasks):
            tasks[:] = filter(None, tasks)

    def _prove(self, entry: TaskEntry) -> None:
        box = [entry()]
        if box[0] is None or entry.lost or entry.told:
            return
        waits, name = awaiting(box[0]), box[0].get_name()
        if is_lost(box, limit=PROOF_LIMIT) and not entry.told and self.claim(entry):
            entry.lost = True
            self.lost.append(Observation(entry, name, waits))
