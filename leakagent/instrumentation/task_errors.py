"""Exceptions of tasks that nobody has looked at, with the line that made the task.

The problem.  Python says "Task exception was never retrieved" when the task is destroyed, which may be much later, and says
where the exception was raised but not who started the task.  A task that is still referred to at the end of the program is
often never told at all.  To look ourselves (``task.exception()``) would mark the exception as looked at and silence Python.

What we do.  A failed task tells its loop in its finalizer (``Future.__del__``: ``loop.call_exception_handler`` with the keys
``message``, ``exception`` and ``future``; measured on 3.10 to 3.15, for subclasses, uvloop and eager tasks alike): we read that call
and pass it on untouched.  Nothing is kept but the name of the exception's type, the lines it went through, and the note about
the task.  Tasks that are alive at the end of the program are asked for their flag (``_log_traceback``), which changes nothing.

The note has to be found once more when the task is already being destroyed: a collection clears weak references before it
calls finalizers (up to 3.14), so notes about failed tasks are kept by the identity of the task from the start of the collection on.
And a collection may come inside the finalizer, where the flag is gone already: notes about tasks that failed without the flag
are kept as well, and hold for as long as their reference is alive.

What is still open.  A bare future is not told: nobody noted who made it.  Where a hundred thousand tasks are alive and many others
fail, the search for their notes is given up after a share of the running time, and the creation site stays unknown.
"""

from __future__ import annotations

import sys
import time

from leakagent import guard
from leakagent.core.tracing import span_of_task
from leakagent.shutdown import interpreter
from leakagent.shutdown.signals import state

from .patching import hide_frames
from .task_notes import without_site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from leakagent.core.tracing import Span

    from .task_notes import TaskEntry

_MESSAGE = "exception was never retrieved"

#: Different pairs of site and exception that are remembered.
MOST = 1_000

#: Share of the running time that the search for notes may take of the processor's, and seconds that it has in any case.
SEARCH_SHARE = 0.01
SEARCH_SECONDS = 0.1


class Failure:
    """Failed tasks of one site with the same exception: type, the last lines it went through, and how many there were."""

    __slots__ = ("count", "entry", "name", "raised", "span", "type")

    def __init__(self, entry: TaskEntry | None, name: str, error: BaseException) -> None:
        self.entry = entry
        self.name = name
        self.type = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        self.raised = raised_in(error)
        self.count = 0
        #: The span that the first of them worked in, where the program uses OpenTelemetry.
        self.span: Span | None = None

    def key(self) -> tuple[object, ...]:
        """Return what tells two of them apart."""
        entry = self.entry
        place = (None, 0) if entry is None else entry.site
        return (id(place[0]), place[1], self.type, *self.raised[-1:])


class Errors:
    """Sees the exceptions of tasks that nobody has looked at."""

    def __init__(self, find: Callable[[Any], TaskEntry | None]) -> None:
        """Start without; ``find`` returns the note about a task."""
        self.failures: dict[tuple[object, ...], Failure] = {}
        self._find = find
        self._failed: dict[int, TaskEntry] = {}
        #: Somebody has looked at them, or their finalizer runs.
        self._without_flag: dict[int, TaskEntry] = {}
        self._limit = MOST
        self._began = time.monotonic()
        self._searched = 0.0

    def forget(self) -> None:
        """Drop all that is known."""
        self.failures.clear()
        self._failed.clear()
        self._without_flag.clear()

    def note(self, task: Any, entry: TaskEntry) -> None:  # noqa: ANN401 - a task
        """Keep the note about a task that has failed, as long as its finalizer may ask for it."""
        if not interpreter.complains(task):
            if len(self._without_flag) >= MOST:
                self._without_flag.clear()
            self._without_flag[id(task)] = entry
        else:
            self._failed[id(task)] = entry
            if len(self._failed) > self._limit:
                # Twice as many as were left last time: the work per task stays constant.
                self._failed = {key: one for key, one in self._failed.items() if interpreter.complains(one.ref())}
                self._limit = MOST + 2 * len(self._failed)

    def make_handler(self, original: Callable[[Any, dict[str, Any]], None]) -> Callable[[Any, dict[str, Any]], None]:
        """Return what takes the place of ``call_exception_handler`` of a loop."""

        def call_exception_handler(loop: Any, context: dict[str, Any]) -> None:  # noqa: ANN401
            try:
                # Who awaits the task that a signal came in gets its exception as well, when the loop has been left.
                if state.is_behind(context.get("exception")):
                    return
                self._see(context)
            except Exception as error:  # noqa: BLE001 - the program must never see it
                guard.failed("asyncio exceptions", error)
            try:
                original(loop, context)
            except BaseException as error:
                hide_frames(error)
                raise

        return call_exception_handler

    def _see(self, context: dict[str, Any]) -> None:
        task = context.get("future")
        if sys.is_finalizing() or not hasattr(task, "get_coro") or not str(context.get("message")).endswith(_MESSAGE):
            return
        entry = self._failed.pop(id(task), None)
        if entry is None or (entry.ref() is not task and entry.ref() is not None):
            entry = self._search(task)
        self._add(task, entry, context["exception"])

    def _search(self, task: Any) -> TaskEntry | None:  # noqa: ANN401 - a task
        """Return the note about a task in its finalizer, or one made now if it has none; None if that would take too long."""
        if self._searched > SEARCH_SECONDS + SEARCH_SHARE * (time.monotonic() - self._began):
            return None
        begin = time.thread_time()
        try:
            found = self._find(task)
            if found is None:  # looked up last: the collection may come at any moment before
                found = self._without_flag.get(id(task))
            return found if found is not None and found.ref() is task else without_site(task)
        finally:
            self._searched += time.thread_time() - begin

    def _add(self, task: Any, entry: TaskEntry | None, error: BaseException) -> None:  # noqa: ANN401 - a task
        if entry is not None and not entry.placed:
            without_site(task, entry)
        # These two leave the loop as well: whoever runs it sees them.
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            return
        made = Failure(entry, task.get_name(), error)
        known = self.failures.get(made.key())
        if known is None and len(self.failures) < MOST:
            known = self.failures[made.key()] = made
            made.span = span_of_task(task)
        if known is not None:
            known.count += 1

    def look(self, entries: Iterable[TaskEntry]) -> None:
        """Add the failed tasks that are alive at the end of the program: nobody is going to look at them any more.

        Not after a signal, which has interrupted those who would have looked; asyncio does not complain then of its exception either.

        Args:
            entries: Notes about other tasks than those that `note` has kept.

        """
        for entry in {id(one): one for one in (*self._failed.values(), *entries)}.values():
            task = entry.ref()
            if task is None or not interpreter.complains(task):
                continue
            if not state.number:
                self._add(task, entry, interpreter.exception_of(task))
            elif state.is_behind(interpreter.exception_of(task)):
                task.exception()


def raised_in(error: BaseException) -> list[tuple[str, int, str]]:
    """Return the last three lines that an exception went through as path, line and function, outermost first."""
    steps: list[tuple[str, int, str]] = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        steps.append((code.co_filename, traceback.tb_lineno, code.co_name))
        del steps[:-3]
        traceback = traceback.tb_next
    return steps
