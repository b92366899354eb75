"""Tasks that were made past every method of a loop, by ``asyncio.Task(...)`` itself.

The problem.  The constructor is written in C and can't be patched, and a class in place of it would break ``isinstance``.  Such a task
would not be held and not be told.

What we do.  When a collection starts, asyncio's own list of tasks is compared with the notes.  That is work per task that is
alive, so it is done at every collection only where few are; where many are, it gets a share of the running time, and only the older generations are
worth it.  Which tasks are new is asked of the task: a note refers to it weakly, so one to which nobody but asyncio refers weakly has none.

What is still open.  Who made the task is not known: the line told is that of its coroutine.  With many tasks alive, one that is dropped
right away can be collected before the next sweep; from 3.14 on also one of a loop in another thread, as long as that thread
itself has made no task and seen no collection.
"""

from __future__ import annotations

import time
import weakref

from leakagent.shutdown import interpreter

from .task_notes import is_helper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

#: Tasks up to which every collection looks at all of them: about ten microseconds.
FEW = 64

#: Share of the running time that looking at more of them may take.
SHARE = 0.02

_FULL = 2


class Sweep:
    """Finds tasks that nobody has noted."""

    def __init__(self) -> None:
        """Start without loops."""
        self._loops: weakref.WeakSet[Any] = weakref.WeakSet()
        #: Loops of the parent of a forked child.
        self.foreign: weakref.WeakSet[Any] = weakref.WeakSet()
        self._count = 0
        self._next = 0.0

    def forked(self, noted: Iterable[Any]) -> None:
        """Leave alone, in a forked child, the loops of its parent, whose tasks it has copies of; ``noted`` are weak references to them."""
        tasks = [*(interpreter.tasks_of_all_loops() or ()), *(task for known in noted if (task := known()) is not None)]
        self.foreign.update(self._loops)
        self.foreign.update(task.get_loop() for task in tasks)
        self._loops.clear()
        self._count, self._next = 0, 0.0

    def new(self, generation: int, newest: Any, known: Callable[[], Iterable[Any]]) -> list[Any]:  # noqa: ANN401
        """Return pending tasks of which nothing is noted.

        Args:
            generation: The oldest generation that is being collected.
            newest: The newest task with a note, or None: its loop is remembered.
            known: Returns weak references to all tasks with a note; called only if there is a suspect.

        """
        begin = time.perf_counter()
        if self._count > FEW and (generation == 0 or begin < self._next):
            return []
        tasks = self._tasks(newest)
        self._count = len(tasks)
        base = interpreter.references_of_asyncio()
        if generation < _FULL:
            tasks = [task for task in tasks if weakref.getweakrefcount(task) <= base]
        made: list[Any] = []
        if tasks:
            noted = {*map(id, map(interpreter.call, known()))}
            for task in tasks:
                # One that has not begun is in its loop's queue, and may be about to be noted by `create_task`.
                if id(task) in noted or task.done() or interpreter.waiter_of(task) is None:
                    continue
                if not is_helper(task) and task.get_loop() not in self.foreign:
                    made.append(task)
        end = time.perf_counter()
        self._next = end + (end - begin) / SHARE
        return made

    def _tasks(self, newest: Any) -> list[Any]:  # noqa: ANN401 - see `new`
        found = interpreter.tasks_of_all_loops()
        if found is not None:
            return found
        loop = interpreter.running_loop()
        for one in (loop, None if newest is None else newest.get_loop()):
            if one is not None:
                self._loops.add(one)
        return [task for loop in list(self._loops) for task in interpreter.tasks_of(loop)]
