"""What is noted of every task: four words in a flat list, one list per generation of the collector.

A note is a weak reference to the task, the creating code with the offset in it, and the time.  It is no object of its own: an
object of a class costs as much to make as the rest of the note, 40 bytes more, and is one more thing for the collector to visit
(docs/benchmarks.md).  Whoever wants to keep and to mark a note gets a `TaskEntry` made of it, the same one each time.

A collection of the youngest generation needs to look at new tasks only: how far the last one has come in the young list is
remembered.  What lives through an older collection becomes old.  The old ones stand in blocks (`Block`), so that a part of them can be
looked at, and let go of, without moving all.

Readers need no lock: a note is put into its block before it is taken out of the young list, which is read first, so a reader sees
every task at least once.  Writers other than those that add notes hold the lock of the collector window
(`leakagent.instrumentation.task_window`); the turn counter tells one of them that a collection, which may come with any
allocation, has got there first.

Up to 3.11 a collection begins inside the allocation itself: ``list[:]`` and ``list + list`` read the length, allocate (the
callback shortens the list) and copy what is not there any more.  ``[*list]`` allocates first; only that is used here on lists
that a collection changes.
"""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import compress, islice, repeat
from operator import eq, is_not, not_
from weakref import ref

from leakagent import guard
from leakagent.shutdown import interpreter

from .task_notes import NOWHERE, TaskEntry, site_of, without_site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType
    from typing import Any

    from leakagent.core.registry import Counts

#: Words of a note: weak reference, code (or stack), offset, time of creation.
ONE = 4

#: Words in the young list at which it is swept although no collection came: short-lived tasks cause none, nor does
#: ``gc.disable()`` allow any.
SWEEP_AT = 4_096 * ONE

#: Words of a block of old notes, at most.
BLOCK = 1_024 * ONE

#: Blocks of which every task is looked at in a full collection: half a millisecond.
LOOKED_AT = 4

#: What stands in the list of tasks that are being born: it neither grows nor shrinks with one more, which would be an allocation, and
#: has one for each thread that may find the task of its own taken by another (`leakagent.instrumentation.task_functions`).
FLOOR = (None,) * 64

_ALL = slice(None)

#: Times that a sweep begins again because a collection came: with ``gc.set_threshold(1)`` one comes every time.
TRIES = 3

#: Notes that are looked at for a task that has failed right after it was made, before all of them are put into an index.
NEWEST = 64

#: Seconds that tasks may be apart and share one object for the time of their creation, once they live longer than others.
SAME_TIME = 0.01

#: Different offsets that are remembered, to share one object for each.
OFFSETS = 4_096

#: Share of notes (one of so many) up to which they are copied one by one.
FEW_OF = 2

#: Notes that were made an object of, up to which nobody asks whether their tasks are gone.
FEW_ENTRIES = 1_024


class Block(list):  # type: ignore[type-arg]
    """Notes of old tasks.

    Attributes:
        coroutines: Those of the tasks, referred to so that no collection takes them, or None if a full collection looks at each task
            (`leakagent.instrumentation.task_window`).

    """

    __slots__ = ("coroutines",)

    coroutines: list[Any] | None

    def keep(self) -> None:
        """Refer to the coroutines of all tasks, if these are asyncio's own."""
        tasks = filter(None, map(interpreter.call, [*self][::ONE]))
        try:
            self.coroutines = [*map(interpreter.task_coroutine(), tasks)]
        except TypeError:
            self.coroutines = None


class TaskTable:
    """Notes of all tasks that may be pending.

    Attributes:
        young: New notes; always the same list.
        seen: How many words of it the last collection has seen, at least.
        old: Blocks of all others.
        born: Tasks that asyncio has registered and whose creator is about to note them, above `FLOOR`; always the same list.
        slot: Where asyncio's registry looks for its method ``add``; nowhere that matters while it is not ours.
        taken: Whether asyncio's own registry calls `add`: every task is noted before its creator gets it.
        sweep_soon: Called when the young list is longer than ``limit``.
        failed: Called with a task that has failed, and its note, when the note is dropped.
        finished: How many tasks of which nothing is noted any more, or ever was.

    """

    def __init__(self, count: Callable[[], Counts], is_exact: Callable[[], bool]) -> None:
        """Start empty.

        Args:
            count: Returns the counts of tasks, which are kept up to date at sweeps.
            is_exact: Says whether somebody asks by the time of its creation in which test or scope a task was made.

        """
        self.young: list[Any] = []
        self.seen = 0
        self.old: list[Block] = []
        self.born: list[Any] = [*FLOOR]
        self.slot: dict[str, Any] = {}
        self.taken = False
        self.sweep_soon: Callable[[], None] = self.sweep
        self.limit = SWEEP_AT
        self.add = _make_add(self)
        self.failed: Callable[[Any, TaskEntry], None] = lambda _task, _entry: None
        self._entries: dict[int, TaskEntry] = {}
        self._most_entries = FEW_ENTRIES
        self._index: dict[int, tuple[Any, ...]] = {}
        self._offsets: dict[int, int] = {}
        self._count = count
        self._is_exact = is_exact
        self.finished = 0
        self._next = 0
        self._turn = 0

    # -- writing -----------------------------------------------------------------------------------------------------

    def place(self, task: Any, place: Any, lasti: int) -> None:  # noqa: ANN401 - a task; code or a stack
        """Note where a task was created, which has been noted already if it was taken from asyncio's registry."""
        done = task.done()  # an eager one, which asyncio has not registered
        if self.taken and not done and self._fill_in(task, place, lasti):
            return
        if done and not interpreter.complains(task):
            self.finished += 1
            return
        self.young.extend((ref(task), place, lasti, time.monotonic()))
        if len(self.young) > self.limit:
            self.sweep_soon()

    def _fill_in(self, task: object, place: Any, lasti: int) -> bool:  # noqa: ANN401 - code or a stack
        for words in (self.young, *self.old[-1:]):
            length = len(words)
            try:
                for at in range(length - ONE, max(length - NEWEST * ONE, 0) - 1, -ONE):
                    known = words[at]
                    # No call from the second comparison on: neither a collection nor another thread comes in between.
                    if known() is task and words[at] is known:
                        words[at + 1] = place
                        words[at + 2] = lasti
                        return True
            except IndexError:  # a collection has made them old
                pass
        return False

    def remove(self, task: object) -> None:
        """Forget what is noted of a new task."""
        for at in range(len(self.young) - ONE, -1, -ONE):
            if self.young[at]() is task:
                del self.young[at : at + ONE]
                self.seen = 0
                return

    def drain(self) -> None:
        """Note the tasks that asyncio has registered and whose creators were interrupted, or were several at a time."""
        born = self.born
        # No call in between, and nothing that a collection could begin with: no other thread gets a turn.
        found = [*born]
        born[_ALL] = FLOOR
        for task in found:
            if task is not None:
                self.add(task)

    def drain_rest(self) -> None:
        """Note the tasks whose creators don't come for them: made in the middle of another's creation, past all known functions."""
        if len(self.born) > len(FLOOR):
            self.drain()

    def being_born(self) -> list[Any]:
        """Return the tasks that asyncio has registered and whose creators have not noted them yet."""
        try:
            return [task for task in [*self.born] if task is not None]
        except Exception as error:  # noqa: BLE001 - the program asks for all tasks: it gets the others
            guard.failed("asyncio tasks", error)
            return []

    def forget(self) -> None:
        """Drop all that is known; a forked child has no part in its parent's tasks."""
        for known in (self.young, self.old, self._entries, self._offsets):
            known.clear()
        self.born[:] = FLOOR
        self._index = {}
        self.finished = self.seen = 0

    # -- sweeps, by one writer at a time -----------------------------------------------------------------------------

    def sweep(self) -> None:
        """Let go of notes about finished tasks: the young ones, and a part of the old ones."""
        self.drain_rest()
        finished = self._sweep_young() + self.sweep_block()
        # Twice as many as were left: the work per task stays constant.
        self.limit = max(SWEEP_AT, 2 * len(self.young))
        self.note_counts(finished)

    def sweep_young(self) -> None:
        """Let go of the young notes about finished tasks."""
        self.note_counts(self._sweep_young())

    def _sweep_young(self) -> int:
        finished = self._sweep(self.young)
        if finished:
            self.seen = 0
        return finished

    def sweep_block(self) -> int:
        """Let go of the notes about finished tasks in the next block of old ones, and return how many there were."""
        if not self.old:
            return 0
        self._next = number = self._next % len(self.old)
        block = self.old[number]
        self._next += 1
        if none_is_ready(block[::ONE]):
            return 0
        finished = self._sweep(block)
        if number < len(self.old) and self.old[number] is block and not self._tidy(number):
            self._next = number
        return finished

    def sweep_this(self, block: list[Any]) -> None:
        """Let go of the notes about finished tasks in a block of old ones."""
        if not none_is_ready(block[::ONE]):
            self.note_counts(self._sweep(block))

    def tidy(self) -> None:
        """Join small blocks of old notes with those before them."""
        number = 0
        while number < len(self.old):
            number += self._tidy(number)

    def _tidy(self, number: int) -> int:
        """Join a block with the one before it if there is room; return 0 if it is not there any more."""
        block = self.old[number]
        if block:
            before = self.old[number - 1] if number else block
            if before is block or len(before) + len(block) > BLOCK:
                return 1
            # A reader who has a copy of the list of blocks finds them in the one or the other.
            before.extend(block)
            if before.coroutines is not None:
                before.keep()
        del self.old[number]
        return 0

    def _sweep(self, words: list[Any]) -> int:
        for _ in range(TRIES):
            turn, length = self._turn, len(words)
            kept = self._unfinished([*words][:length])
            put, cut = words.__setitem__, slice(0, length)
            if turn == self._turn:
                put(cut, kept)
                self._turn += 1
                if isinstance(words, Block) and words.coroutines is not None:
                    words.keep()
                return (length - len(kept)) // ONE
        return 0

    def _unfinished(self, words: list[Any]) -> list[Any]:
        """Return those of the notes whose tasks are not done yet.

        No task is referred to for longer than it takes to ask it: this may be another thread than theirs, and lose its turn.
        """
        alive = [*map(is_not, map(interpreter.call, words[::ONE]), repeat(None))]
        if False in alive:
            words = select(words, alive)
        states = [*map(getattr, map(interpreter.call, words[::ONE]), repeat(interpreter.STATE), repeat(None))]
        pending = [*map(eq, states, repeat(interpreter.PENDING))]
        if False not in pending:
            return words
        for number in [*compress(range(len(pending)), map(not_, pending))]:
            task = words[number * ONE]()
            if states[number] is None and task is not None and not task.done():  # not asyncio's own
                pending[number] = True
            elif interpreter.has_failed(task):
                self.failed(task, self.entry(task, *words[number * ONE + 1 : (number + 1) * ONE]))
            task = None
        return select(words, pending)

    def split(self, words: list[Any]) -> tuple[list[Any], list[Any]]:
        """Return those of the notes whose tasks are not done yet, and these tasks."""
        tasks = [*map(interpreter.call, words[::ONE])]
        if not all(tasks):
            words, tasks = select(words, tasks), [*filter(None, tasks)]
        done = are_done(tasks)
        if True not in done:
            return words, tasks
        for number, task in [*compress(enumerate(tasks), done)]:
            if interpreter.has_failed(task):
                self.failed(task, self.entry(task, *words[number * ONE + 1 : (number + 1) * ONE]))
        pending = [*map(not_, done)]
        return select(words, pending), [*compress(tasks, pending)]

    def new_tasks(self) -> list[Any]:
        """Return the pending tasks that no collection has seen, for one of the youngest generation; others have been seen then."""
        first, self.seen = self.seen, len(self.young)
        known = self.young[first : self.seen : ONE]
        tasks = [*map(interpreter.call, known)]
        if not all(tasks):
            self._drop(first, tasks)
            known, tasks = [*compress(known, tasks)], [*filter(None, tasks)]
        done = are_done(tasks)
        if True in done:
            # Of garbage, nothing but this number is left when a finalizer asks for the note (`search`).
            with suppress(TypeError):
                all(map(hash, compress(known, done)))
            tasks = [*compress(tasks, map(not_, done))]
        return tasks

    def _drop(self, first: int, tasks: list[Any]) -> None:
        """Let go of the notes, from ``first`` to what has been seen, whose tasks are gone: most are, and nobody has to look at them again."""
        gone = ONE * next(compress(range(len(tasks)), tasks), len(tasks))
        del self.young[first : first + gone]
        self.seen -= gone
        self._turn += 1
        self.finished += gone // ONE

    def move_on(self, length: int, kept: list[Any], finished: int) -> None:
        """Make young notes old.

        Args:
            length: How many words of the young list this is about.
            kept: Those of them that stay, and new ones.
            finished: How many notes do not stay.

        """
        self._grow_old(kept)
        self._index = {}
        del self.young[:length]
        self.seen = 0
        self._turn += 1
        self.note_counts(finished)

    def _grow_old(self, words: list[Any]) -> None:
        """Add notes to the old ones; those of a moment share one object for their time, and one for the same offset."""
        if len(self._offsets) > OFFSETS:
            self._offsets.clear()
        words[2::ONE] = map(self._offsets.setdefault, words[2::ONE], words[2::ONE])
        if not self._is_exact():
            same = float("-inf")
            words[3::ONE] = [same if created - same < SAME_TIME else (same := created) for created in words[3::ONE]]
        if self.old and len(self.old[-1]) + len(words) <= BLOCK:
            block = self.old[-1]
            block.extend(words)
            if block.coroutines is not None:
                block.keep()
            return
        for at in range(0, len(words), BLOCK):
            block = Block(words[at : at + BLOCK])
            block.coroutines = None
            if len(self.old) >= LOOKED_AT:
                block.keep()
            self.old.append(block)

    def let_go(self) -> None:
        """Refer to no coroutine: somebody wants to know who else does."""
        for block in [*self.old]:
            block.coroutines = None

    def note_counts(self, finished: int) -> None:
        """Bring the counts up to date, with so many notes let go of."""
        self.finished += finished
        count, live = self._count(), self.size()
        count.created, count.finished = self.finished + live, self.finished
        count.peak = max(count.peak, live)

    # -- reading -----------------------------------------------------------------------------------------------------

    def size(self) -> int:
        """Return how many notes there are."""
        return (len(self.young) + sum(map(len, [*self.old]))) // ONE

    def noted(self) -> list[Any]:
        """Return a weak reference for each note."""
        young = [*self.young]
        return [known for words in (*[[*block] for block in [*self.old]], young) for known in words[::ONE]]

    def notes(self) -> Iterator[tuple[Any, Any, int, float]]:
        """Return weak reference, code or stack, offset and time of each note, the oldest first."""
        for words in self._lists():
            yield from zip(*(words[number::ONE] for number in range(ONE)), strict=True)

    def sites(self, step: int = 1) -> Iterator[tuple[CodeType | None, int, float]]:
        """Return code, offset and time of each pending task, the oldest first; ``step`` 2 looks at every second note, and so on."""
        for known, place, lasti, created in islice(self.notes(), 0, None, step):
            if _is_pending(known()):
                yield *site_of(place, lasti), created

    def _lists(self) -> Iterator[list[Any]]:
        """Return copies of all lists, the oldest notes first; the young ones are read first (see above)."""
        young = [*self.young]
        for block in [*self.old]:
            yield [*block]
        yield young

    def search(self, task: object) -> TaskEntry | None:
        """Return the note of a task that may be in its finalizer, again and again at little cost."""
        key = object.__hash__(task)
        found = self._index.get(key)
        if found is not None and found[0]() is task:
            return self.entry(task, *found[1:])
        young = self.young
        end = len(young)
        try:
            for at in range(end - ONE, max(end - NEWEST * ONE, 0) - 1, -ONE):
                known = young[at]
                if known() is task and young[at] is known:
                    return self.entry(task, *(young[at + 1], young[at + 2], young[at + 3]))
        except IndexError:  # a collection has made them old
            pass
        # The weak references to garbage are dead when its finalizers run; a collection had them remember the hash of their task.
        self._index = {_hash(note[0]): note for note in self.notes()}
        found = self._index.get(key)
        alive = None if found is None else found[0]()
        is_it = alive is None or alive is task
        return self.entry(task, *found[1:]) if found is not None and is_it else None

    def entry(self, task: object, place: Any, lasti: int, created: float) -> TaskEntry:  # noqa: ANN401 - code or a stack
        """Return the note about a task as an object, the same one each time."""
        known = self._entries.get(id(task))
        if known is None or known() is not task:
            made = TaskEntry(task)
            made.created = created
            known = self._entries.setdefault(id(task), made)
            if known() is not task:
                known = self._entries[id(task)] = made
            self._forget_entries()
        if place is not NOWHERE and (known.direct or not known.placed):
            known.place, known.lasti = place, lasti
        return known

    def _forget_entries(self) -> None:
        if len(self._entries) > self._most_entries:
            for number, entry in self._entries.copy().items():
                if entry() is None:
                    self._entries.pop(number, None)
            self._most_entries = max(FEW_ENTRIES, 2 * len(self._entries))

    def entries(self) -> list[TaskEntry]:
        """Return the notes of all pending tasks, one for each, the oldest first."""
        return list({id(entry): entry for entry in self.pending()}.values())

    def pending(self) -> Iterator[TaskEntry]:
        """Return the notes of all pending tasks, the oldest first; one that is moved meanwhile may come twice."""
        for known, place, lasti, created in self.notes():
            task = known()
            if task is None or task.done():
                continue
            # An eager task waits already when its constructor returns: a sweep can find it before it is noted, a second time.
            entry = self.entry(task, place, lasti, created)
            if not entry.placed:
                without_site(task, entry)
            task = None
            yield entry


def none_is_ready(references: list[Any]) -> bool:
    """Say whether each of the tasks is there and waits for something, without referring to any of them meanwhile."""
    waiters = map(getattr, map(interpreter.call, references), repeat(interpreter.WAITER), repeat(None))
    return all(map(is_not, waiters, repeat(None)))


def all_wait(references: list[Any]) -> list[Any] | None:
    """Return the tasks, if each of them is there and waits for something."""
    tasks = [*map(interpreter.call, references)]
    waiters = map(getattr, tasks, repeat(interpreter.WAITER), repeat(None))
    return tasks if all(map(is_not, waiters, repeat(None))) else None


def _is_pending(task: Any) -> bool:  # noqa: ANN401 - a task or None
    return task is not None and not task.done()


def _hash(known: Any) -> int:  # noqa: ANN401 - a weak reference
    """Return the hash of what is referred to, 0 if it is not known."""
    try:
        return hash(known)
    except TypeError:  # it is gone, or has none
        return 0


def are_done(tasks: list[Any]) -> list[bool]:
    """Return which tasks are done."""
    try:
        return [*map(interpreter.task_done(), tasks)]
    except TypeError:  # not all are asyncio's own
        return [bool(task.done()) for task in tasks]


def select(words: list[Any], chosen: list[Any]) -> list[Any]:
    """Return the notes whose place in ``chosen`` is true."""
    numbers = [*compress(range(0, len(words), ONE), chosen)]
    if len(numbers) < len(chosen) // FEW_OF:
        return [word for number in numbers for word in words[number : number + ONE]]
    found = [None] * (ONE * len(numbers))
    for number in range(ONE):
        found[number::ONE] = compress(words[number::ONE], chosen)
    return found


def _make_add(table: TaskTable) -> Callable[[Any], None]:
    young, extend, now = table.young, table.young.extend, time.monotonic

    def add(task: Any) -> None:  # noqa: ANN401
        try:
            extend((ref(task), NOWHERE, 0, now()))
            if len(young) > table.limit:
                table.sweep_soon()
        except Exception as error:  # noqa: BLE001 - the program must never see it
            guard.failed("asyncio tasks", error)

    return add
