"""What is noted about a task, and what can be read from one without touching it."""

from __future__ import annotations

import gc
import sys
import time
import weakref

from leakagent.core.sites import BEFORE_THE_CODE
from leakagent.core.tracing import span_of_task
from leakagent.shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from types import CodeType
    from typing import Any


#: In place of code, as long as nobody has said where a task was created.
NOWHERE: Any = ()

#: Written in C: they have no code object.
#: Coroutines of uvloop's own end, and anyio's, that waits for the end of the loop to end the workers of `anyio.to_process`.
_HELPERS = {"Loop.shutdown_asyncgens", "Loop.shutdown_default_executor", "_shutdown_process_pool_on_exit"}


class TaskEntry(weakref.ref):  # type: ignore[type-arg]
    """The note of a task as an object, for those who keep it: a weak reference that knows where and when it was created.

    Of most tasks there is none, but what `leakagent.instrumentation.task_table` notes.
    """

    __slots__ = ("created", "lasti", "marks", "place")

    #: On the clock of `time.monotonic`.
    created: float
    #: The creating code, at level ``stack`` the whole stack, or None; not set as long as it is not known.
    place: Any
    lasti: int
    marks: frozenset[str] | None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - what is not set
        """Return what stands for a slot that nobody has set."""
        if name in {"marks", "place"}:
            return None
        if name in {"created", "lasti"}:
            return 0
        raise AttributeError(name)

    def ref(self) -> Any:  # noqa: ANN401 - a task
        """Return the task, or None if it is gone."""
        return self()

    @property
    def direct(self) -> bool:
        """Whether nobody saw its creation: in place of the site it has the first line of its coroutine."""
        return self.lasti == BEFORE_THE_CODE

    @property
    def placed(self) -> bool:
        """Whether something was noted of its creation."""
        try:
            _PLACE.__get__(self, TaskEntry)
        except AttributeError:
            return False
        return True

    @property
    def stack(self) -> list[tuple[CodeType, int]] | None:
        """The stack of its creation, innermost first."""
        return self.place if isinstance(self.place, list) else None

    @property
    def site(self) -> tuple[CodeType | None, int]:
        """Code and offset of its creation."""
        return site_of(self.place, self.lasti)

    @property
    def lost(self) -> bool:
        """Whether it was proven lost."""
        return "lost" in (self.marks or ())

    @lost.setter
    def lost(self, value: bool) -> None:
        self._mark("lost", value)

    @property
    def told(self) -> bool:
        """Whether it is told as left over."""
        return "told" in (self.marks or ())

    @told.setter
    def told(self, value: bool) -> None:
        self._mark("told", value)

    def _mark(self, mark: str, value: bool) -> None:  # noqa: FBT001
        marks = set(self.marks or ()) - {mark}
        self.marks = frozenset(marks | {mark} if value else marks)


def site_of(place: Any, lasti: int) -> tuple[CodeType | None, int]:  # noqa: ANN401 - code or a stack
    """Return code and offset of what is noted of a creation."""
    if isinstance(place, list):
        return place[0] if place else (None, 0)
    return (None, 0) if place is NOWHERE else (place, lasti)


_PLACE = TaskEntry.__dict__["place"]


class Observation:
    """A task that a finding will be made of: lost while the program ran, or left over at the end of its loop."""

    __slots__ = ("age", "entry", "evidence", "loop_runs", "name", "reason", "refused", "span", "waits")

    def __init__(self, entry: TaskEntry, name: str, waits: list[tuple[str, int, str]]) -> None:
        self.entry = entry
        self.name = name
        self.waits = waits
        self.age = time.monotonic() - entry.created
        self.refused = False
        self.loop_runs = False
        #: Why it is pending, and how that is known, where there is more to say than that it is left over.
        self.reason = ""
        self.evidence: list[str] = []
        #: The span that the task works in, where the program uses OpenTelemetry.
        self.span = span_of_task(entry())


def without_site(task: Any, entry: TaskEntry | None = None) -> TaskEntry:  # noqa: ANN401 - a task
    """Return the note of a task whose creation nobody saw, made now if there is none: it gets its coroutine's first line."""
    if entry is None:
        entry = TaskEntry(task)
        entry.created = time.monotonic()
    entry.place = code_of(interpreter.coroutine_of(task))
    entry.lasti = BEFORE_THE_CODE
    return entry


def first_line(task: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a task
    """Return what `leakagent.instrumentation.task_table` notes of a task whose creation nobody saw."""
    return weakref.ref(task), code_of(interpreter.coroutine_of(task)), BEFORE_THE_CODE, time.monotonic()


def code_of(coro: object) -> CodeType | None:
    """Return the code of a coroutine or generator; None if it has none of Python's."""
    return next((code for name in ("cr_code", "gi_code", "ag_code") if (code := getattr(coro, name, None)) is not None), None)


def is_incremental() -> bool:
    """Say whether every collection visits a part of the oldest generation (Python 3.14.0): there is no third threshold."""
    return gc.get_threshold()[2] == 0


#: References to a task that may be lost: of a list, of the call that counts, of its waiter's callback, and one that is part of
#: the cycle (``self.task = ...`` in an object that only the task keeps).
FEW = 4


def only_its_waiter_refers_to(box: list[Any]) -> bool:
    """Say whether the task in the box may be lost: a cheap filter in front of the proof.

    A task that waits for nothing is ready to run, and in the loop's queue.
    """
    return interpreter.waiter_of(box[0]) is not None and sys.getrefcount(box[0]) <= FEW


def cheapest_first(tasks: list[Any]) -> list[weakref.ref[Any]]:
    """Return weak references: first to tasks whose proof is short, since their waiter is all that refers to them."""
    quick: list[weakref.ref[Any]] = []
    slow: list[weakref.ref[Any]] = []
    while tasks:
        box = [tasks.pop()]
        (quick if only_its_waiter_refers_to(box) else slow).append(weakref.ref(box[0]))
    return quick + slow


def pending_tasks(loop: AbstractEventLoop) -> list[Any]:
    """Return the loop's pending tasks; the caller's list is the only reference that stays.

    Without those that asyncio makes itself: for the end of a loop (``shutdown_asyncgens``, ``shutdown_default_executor``), and to
    close a generator that was left half-way.
    """
    tasks = sys.modules["asyncio"].all_tasks(loop)
    return [task for task in tasks if not task.done() and not is_helper(task)]


def calling_task() -> Any:  # noqa: ANN401 - a task
    """Return the task that runs in this thread, or None."""
    try:
        return sys.modules["asyncio"].current_task()
    except (RuntimeError, AttributeError, KeyError):  # no loop runs here, or asyncio is not all there
        return None


def is_helper(task: Any) -> bool:  # noqa: ANN401 - a task
    """Say whether a loop's own machinery made a task, for its end or that of a generator."""
    coro = task.get_coro()
    if type(coro).__name__ == "async_generator_athrow":
        return True
    if getattr(coro, "__qualname__", "") in _HELPERS:
        return True
    code = getattr(coro, "cr_code", None)
    return code is not None and code.co_filename == sys.modules["asyncio.base_events"].__file__


def running_task(entries: list[TaskEntry]) -> tuple[Any, bool]:
    """Return the task that this thread runs now, or None, and whether it is another one than the main task of its loop."""
    current = calling_task()
    if current is None:
        return None, False
    loop = current.get_loop()
    first = None
    for entry in sorted(entries, key=lambda entry: entry.created):
        task = entry.ref()
        if task is not None and not task.done() and task.get_loop() is loop:
            first = task
            break
    return current, first is not None and first is not current


def awaiting(task: Any) -> list[tuple[str, int, str]]:  # noqa: ANN401 - a task
    """Return the await chain of a task as path, line and function, outermost first, at most twelve.

    The last entry has no path: it is the type of what the task waits for.
    """
    chain: list[tuple[str, int, str]] = []
    step = task.get_coro()
    while step is not None and len(chain) < 12:  # noqa: PLR2004
        frame = _first(step, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            chain.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        step = _first(step, "cr_await", "gi_yieldfrom", "ag_await")
    waiter = interpreter.waiter_of(task)
    if waiter is not None:
        chain.append(("", 0, f"{type(waiter).__module__}.{type(waiter).__qualname__}"))
    return chain


def _first(owner: object, *names: str) -> Any:  # noqa: ANN401 - a frame or an awaitable
    return next((found for name in names if (found := getattr(owner, name, None)) is not None), None)
