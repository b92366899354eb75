"""What is noted of every task: a list per generation of the collector.

A note is a weak reference to the task, with the site and the time of its creation in the same object.  A note moves on with
the collections that its task lives through, as objects do, so that a collection of the youngest generation needs to look at new
tasks only.

Readers need no lock: a note is put into its new list before it is taken out of the old one, and lists are read from young to
old, so a reader sees every task at least once.  Writers other than `add` hold the lock of the collector window
(`leakagent.instrumentation.task_window`); the turn counter tells one of them that a collection, which may come with any
allocation, has got there first.

Up to 3.11 a collection begins inside the allocation itself: ``list[:]`` and ``list + list`` read the length, allocate (the
callback shortens the list) and copy what is not there any more.  ``[*list]`` allocates first; only that is used here on lists
that a collection changes.
"""

from __future__ import annotations

import time
from itertools import compress, repeat
from operator import is_not

from leakagent import guard
from leakagent.shutdown import interpreter

from .task_notes import TaskEntry, without_site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from leakagent.core.registry import Counts

#: Notes in the young list at which it is swept although no collection came: short-lived tasks cause none, nor does
#: ``gc.disable()`` allow any.
SWEEP_AT = 256

#: Times that a sweep begins again because a collection came: with ``gc.set_threshold(1)`` one comes every time.
TRIES = 3

#: Notes that are looked at for a task that has failed right after it was made, before all of them are put into an index.
NEWEST = 64


class TaskTable:
    """Notes of all tasks that may be pending."""

    def __init__(self, count: Callable[[], Counts]) -> None:
        """Start empty; ``count`` returns the counts of tasks, which are kept up to date at sweeps."""
        self.young: list[TaskEntry] = []
        self.middle: list[TaskEntry] = []
        self.old: list[TaskEntry] = []
        #: Whether asyncio's own registry calls `add`: every task is noted before its creator gets it.
        self.taken = False
        #: Called when the young list is longer than ``limit``.
        self.sweep_soon: Callable[[], None] = self.sweep
        self.limit = SWEEP_AT
        self.add = _make_add(self)
        #: Called with a task that has failed, and its note, when the note is dropped.
        self.failed: Callable[[Any, TaskEntry], None] = lambda _task, _entry: None
        self._index: dict[int, TaskEntry] = {}
        self._count = count
        self._finished = 0
        self._turn = 0

    def place(self, task: Any, place: Any, lasti: int) -> None:  # noqa: ANN401 - a task; code or a stack
        """Note where a task was created, which has been noted already if it was taken from asyncio's registry."""
        done = task.done()  # an eager one, which asyncio has not registered
        entry = self.find(task) if self.taken and not done else None
        if entry is None:
            if done and not interpreter.complains(task):
                self._finished += 1
                return
            self.add(task)
            entry = self.find(task)
        if entry is not None:
            entry.place = place
            entry.lasti = lasti

    def find(self, task: object) -> TaskEntry | None:
        """Return the note of a task, looked for from the newest on."""
        for known in (self.young, self.middle, self.old):
            for entry in reversed([*known]):
                if entry() is task:
                    return entry
        return None

    def search(self, task: object) -> TaskEntry | None:
        """Return the note of a task that may be in its finalizer; unlike `find`, again and again at little cost."""
        for entry in reversed([*self.young][-NEWEST:]):
            if entry() is task:
                return entry
        known = self._index.get(id(task))
        if known is None or known() is not task:
            self._index = {id(one()): one for one in self.noted()}
        found = self._index.get(id(task))
        return found if found is not None and found() is task else None

    def remove(self, task: object) -> None:
        """Forget what is noted of a new task."""
        entry = self.find(task)
        if entry is not None:
            self.young.remove(entry)

    # -- sweeps, by one writer at a time -----------------------------------------------------------------------------

    def sweep(self) -> None:
        """Let go of new notes about finished tasks; the others stay young, since a collection has not seen them yet."""
        finished = self._sweep(self.young)
        # Twice as many as were left: the work per task stays constant.
        self.limit = max(SWEEP_AT, 2 * len(self.young))
        self._note_counts(finished)

    def sweep_all(self) -> None:
        """Let go of all notes about finished tasks: the counts are exact after it."""
        self._note_counts(sum(map(self._sweep, (self.young, self.middle, self.old))))

    def _sweep(self, known: list[TaskEntry]) -> int:
        for _ in range(TRIES):
            turn, length = self._turn, len(known)
            kept = self.pending([*known][:length])[0]
            put, cut = known.__setitem__, slice(0, length)
            if turn == self._turn:
                put(cut, kept)
                self._turn += 1
                return length - len(kept)
        return 0

    def pending(self, entries: list[TaskEntry]) -> tuple[list[TaskEntry], list[Any]]:
        """Return the notes whose tasks are not done yet, and these tasks."""
        entries, tasks = alive(entries)
        try:
            done = [*map(interpreter.task_done(), tasks)]
            failed = [*map(is_not, map(interpreter.task_exception, tasks), repeat(None))] if any(done) else []
        except (TypeError, AttributeError):  # not all are asyncio's own
            done = [task.done() for task in tasks]
            failed = [getattr(task, "_exception", None) is not None for task in tasks]
        if any(done):
            for task, entry in compress(zip(tasks, entries, strict=True), failed):
                self.failed(task, entry)
            pending = [not is_done for is_done in done]
            return [*compress(entries, pending)], [*compress(tasks, pending)]
        return entries, tasks

    def reached(self, generation: int) -> list[TaskEntry]:
        """Return a copy of the notes about all tasks that a collection of this generation can reach."""
        if generation == 0:
            return [*self.young]
        return [*(self.old if generation > 1 else ()), *self.middle, *self.young]

    def move_on(self, generation: int, length: int, kept: list[TaskEntry], finished: int) -> None:
        """Move notes to the next list.

        Args:
            generation: What is collected.
            length: How many notes `reached` has returned.
            kept: Those of them that stay, and new ones.
            finished: How many do not stay.

        """
        old, middle = len(self.old) if generation > 1 else 0, len(self.middle) if generation > 0 else 0
        if generation == 0:
            self.middle += kept
        else:
            self.old[:old] = kept
            del self.middle[:middle]
            self._index = {}
        del self.young[: length - old - middle]
        self._turn += 1
        self._note_counts(finished)

    def forget(self) -> None:
        """Drop all that is known; a forked child has no part in its parent's tasks."""
        for known in (self.young, self.middle, self.old):
            known.clear()
        self._index = {}
        self._finished = 0

    def _note_counts(self, finished: int) -> None:
        self._finished += finished
        count, live = self._count(), len(self.young) + len(self.middle) + len(self.old)
        count.created, count.finished = self._finished + live, self._finished
        count.peak = max(count.peak, live)

    # -- reading -----------------------------------------------------------------------------------------------------

    def noted(self) -> list[TaskEntry]:
        """Return all notes."""
        return [*self.young, *self.middle, *self.old]

    def entries(self) -> list[TaskEntry]:
        """Return the notes of all pending tasks, one for each."""
        notes: dict[int, TaskEntry] = {}
        for entry in self.noted():
            task = entry()
            if task is None or task.done():
                continue
            known = notes.get(id(task))
            if known is None:
                notes[id(task)] = entry
            elif known is not entry:
                # An eager task waits already when its constructor returns: a sweep can find it before it is noted.
                known.place, known.lasti = (entry if known.direct else known).site
        for entry in notes.values():
            if not entry.placed and (task := entry()) is not None:
                without_site(task, entry)
        return list(notes.values())


def alive(entries: list[TaskEntry]) -> tuple[list[TaskEntry], list[Any]]:
    """Return the notes whose tasks are there, and these tasks."""
    tasks = [*map(interpreter.call, entries)]
    if not all(tasks):
        return [*compress(entries, tasks)], [*filter(None, tasks)]
    return entries, tasks


def _make_add(table: TaskTable) -> Callable[[Any], None]:
    young, now = table.young, time.monotonic

    def add(task: Any) -> None:  # noqa: ANN401
        try:
            entry = TaskEntry(task)
            entry.created = now()
            young.append(entry)
            if len(young) > table.limit:
                table.sweep_soon()
        except Exception as error:  # noqa: BLE001 - the program must never see it
            guard.failed("asyncio tasks", error)

    return add
