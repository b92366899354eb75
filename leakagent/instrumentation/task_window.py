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
generation can only reach tasks made since the last one.

A full collection reaches all.  To touch a hundred thousand tasks takes 5 to 10 ms, whatever is done with them: twice that is what
people notice.  So only the first four thousand old ones are looked at each time.  Of the others we refer to the *coroutine*, all the
time: it leads to what it awaits, and that to the task that waits for it (`Future` -> its callbacks -> task), so the task is held as
long as it waits; and when it is done, its coroutine is an empty shell: no result, no local variable, no traceback hangs on it.
The shells are swept away a block at a time.

The same moment is used to find lost tasks.  When a collection starts, a task that nobody but its own cycle refers to would be
destroyed by it: `leakagent.detect.lost` proves that.  Only tasks that pass a cheap filter are looked at (nothing but one waiter
refers to the task), and only for a bounded time per collection.

What is still open.  An awaitable written by hand that yields a future and forgets it itself leads to nothing: with more than four
thousand old tasks, one that waits for such a thing is held by it alone.  In a free-threaded build another thread could drop a task between the start callback and the collection
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

from .task_notes import FEW, Observation, awaiting, first_line, is_incremental
from .task_table import LOOKED_AT, ONE, all_wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .task_notes import TaskEntry
    from .task_sweep import Sweep
    from .task_table import Block, TaskTable

#: Seconds per collection that may be spent on proofs.
PROOF_SECONDS = 0.001
FULL_PROOF_SECONDS = 0.01

#: Objects that one proof may look at during a collection: about a millisecond.
PROOF_LIMIT = 500

#: Blocks of old tasks among which a full collection looks for lost ones if there are many: the next one looks among the following.
LOST_BLOCKS = 2

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
        #: Block of old tasks, and suspect in it, where the next full collection begins to look for lost ones.
        self._block = self._next = 0
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
            except Exception as error:  # noqa: BLE001 - the program must never see it
                guard.failed("asyncio tasks", error)
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
                    self.held += map(interpreter.call, self.table.noted())
            except Exception as error:  # noqa: BLE001 - an exception here would be printed by the collector
                guard.failed("asyncio tasks", error)
            try:
                self.held += map(interpreter.call, self.table.young[self.table.seen :: ONE])
            except MemoryError as error:
                guard.failed("asyncio tasks", error)
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
        table = self.table
        table.drain_rest()
        if generation == 0:
            # Lost tasks stay lost: the frequent young collections leave it to the next one to look for them.
            tasks = table.new_tasks()
            self.held += tasks
            made = [] if table.taken else self._unseen(generation, tasks)
            for task in made:
                table.young.extend(first_line(task))
            self.held += made
            return
        length = len(table.young)
        words, tasks = table.split(table.young[:length])
        finished = length // ONE - len(tasks)
        if not table.taken:
            words += itertools.chain.from_iterable(map(first_line, self._unseen(generation, tasks)))
        tasks = []
        self._look_for_lost(words, generation)
        self.held += map(interpreter.call, words[::ONE])
        if generation > 1:
            for number, block in enumerate([*table.old]):
                if block.coroutines is None:
                    self.held += all_wait(block[::ONE]) or self._sort_out(block)
                    if number >= LOOKED_AT:
                        block.keep()
        table.move_on(length, words, finished + table.sweep_block())

    def _unseen(self, generation: int, tasks: list[Any]) -> list[Any]:
        """Return the pending tasks of which nothing is noted, where asyncio's registry does not tell."""
        return guard.call("asyncio sweep", self.direct.new, generation, tasks[0] if tasks else None, self.table.noted) or []

    def _sort_out(self, block: Block) -> list[Any]:
        """Let go of the notes about finished tasks in a block of old ones, and return the tasks that wait."""
        kept, tasks = self.table.split(block)
        finished = len(block) // ONE - len(tasks)
        if finished:
            block[:] = kept
            self.table.note_counts(finished)
        return tasks

    def _look_for_lost(self, words: list[Any], generation: int) -> None:
        """Prove which tasks are lost, of these and, in a full collection, of a part of the old ones."""
        old = self.table.old
        few = len(old) <= LOOKED_AT
        deadline = time.perf_counter() + (FULL_PROOF_SECONDS if generation > 1 and few else PROOF_SECONDS)
        self._prove_all(words, 0, deadline)
        if generation > 1:
            for _ in range(len(old) if few else LOST_BLOCKS):
                self._block %= len(old)
                block = old[self._block]
                keeps, block.coroutines = block.coroutines is not None, None
                self._next = self._prove_all([*block], self._next, deadline)
                if keeps:
                    block.keep()
                if self._next:
                    return
                self._block += 1

    def _prove_all(self, words: list[Any], first: int, deadline: float) -> int:
        """Prove which tasks are lost from the ``first`` suspect on; return at which one the time was over, 0 if it was not."""
        for place, number in enumerate(suspects(words)[first:], first):
            if time.perf_counter() >= deadline:
                return place
            self._prove(*words[number * ONE : (number + 1) * ONE])
        return 0

    def _prove(self, known: Any, place: Any, lasti: int, created: float) -> None:  # noqa: ANN401 - a weak reference, code
        box = [known()]
        if box[0] is None:
            return
        entry = self.table.entry(box[0], place, lasti, created)
        if entry.lost or entry.told:
            return
        waits, name = awaiting(box[0]), box[0].get_name()
        if is_lost(box, limit=PROOF_LIMIT) and not entry.told and self.claim(entry):
            entry.lost = True
            self.lost.append(Observation(entry, name, waits))


def suspects(words: list[Any]) -> list[int]:
    """Return which of the tasks may be lost: the cheap filter in front of the proof.

    None of them is referred to when this returns: a task that is held would vouch for those that wait for it or that it waits for
    (``gather``).
    """
    tasks = [*map(interpreter.call, words[::ONE])]
    # In the order of what is quick and seldom true.
    # What very many wait for leads to all of them, and the proof to its limit: each of them refers to it.  So do very many to None.
    return [
        number
        for number, count in enumerate(map(sys.getrefcount, tasks))
        if count <= FEW and sys.getrefcount(getattr(tasks[number], interpreter.WAITER, None)) <= PROOF_LIMIT
    ]
