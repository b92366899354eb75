"""How tasks are created: the functions that make them, with the creating code noted.

The problem.  A wrapper around ``loop.create_task`` costs a call with ``**kwargs``, 8 to 15 % of a task, before it has done
anything; ``asyncio.create_task`` calls that method in turn: two Python calls for one task.  And the frame that created a task, asked
for in the method, is asked for once more per function that has only passed the creation on (``TaskGroup``, ``gather``): a frame
object is made for each and dropped again (500 instructions).

What we do.  Where the function of this interpreter is one whose code is known (`leakagent.shutdown.interpreter.create_task_form`),
it is replaced by one that does the same in the same order, and notes the frame that called it
(`leakagent.instrumentation.task_functions`): ``asyncio.create_task``, ``TaskGroup.create_task``, ``ensure_future`` (for ``gather``)
and ``BaseEventLoop.create_task``.  The first three create the task themselves if the loop is asyncio's own or uvloop's, its
method is ours, and it has no task factory; in all other cases, and where the code is not known (a new patch release), the
original is called, and the task noted by the loop's method, which walks over frames of asyncio then.

What is still open.  A name that was imported from ``asyncio`` before the agent was installed is the original, which calls the
method.
"""

from __future__ import annotations

import sys

from leakagent import guard
from leakagent.core.sites import BEFORE_THE_CODE, capture_stack, passes_on
from leakagent.shutdown import interpreter

from . import task_functions
from .patching import hide_frames
from .task_notes import code_of
from .task_table import ONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Callable
    from types import CodeType, FrameType, ModuleType
    from typing import Any

    from .task_table import TaskTable


#: Releases of uvloop whose ``create_task`` does with a plain coroutine what asyncio's does (read in their ``loop.pyx``).
_UVLOOPS = frozenset({"0.21.0", "0.22.1", "0.23.0"})

#: Code objects that are remembered as passing creations on, or not.
KNOWN_CODES = 1_024


class Creation:
    """Makes the functions that create tasks.

    Attributes:
        plain: The method of asyncio's own loops while it is ours.
        uvloop: The method of uvloop's loops while it is ours.
        original: What ``plain`` stands in for.
        form: Which of the known forms that has (`leakagent.shutdown.interpreter.create_task_form`): what it does with a task factory.
        own: The last code that has created a task with a loop's method.
        first, second, third: The last three that only passed such a creation on.
        look: Returns what is noted of a caller: a frame, or what has the attributes of one.

    """

    def __init__(self, table: TaskTable, level: str) -> None:
        """Note tasks in ``table``, and of their creation what ``level`` says."""
        self.table = table
        self.level = level
        # A method in C, which knows no frame, costs less than a frame.
        looks: dict[str, Callable[[int], Any]] = {"count": dict.fromkeys((1, 2), _Seen(None)).__getitem__, "stack": self._stack}
        self.look = looks.get(level, interpreter.frame_of)
        self.plain: object = None
        self.original: Any = None
        self.form = ""
        self.uvloop: object = None
        self.own: CodeType | None = None
        self.first: CodeType | None = None
        self.second: CodeType | None = None
        self.third: CodeType | None = None
        self._stopped = False
        # Which line made a task that the loop itself makes (a server for a connection, ``run_coroutine_threadsafe``) nobody knows.
        self._turn = interpreter.loop_turn() if level == "site" else None
        self._passes: dict[int, tuple[bool, CodeType]] = {}

    def stop(self) -> None:
        """Note nothing more, whoever keeps one of the functions."""
        self.plain = self.uvloop = self.own = None
        self._stopped = True

    def knows(self, original: object) -> bool:
        """Say whether `of_module` can be called with a function."""
        return interpreter.create_task_form(original) in task_functions.FUNCTIONS

    def of_module(self, original: Callable[..., Any], tasks: ModuleType) -> Callable[..., Any]:
        """Make a function of `asyncio.tasks`, or the method of ``TaskGroup``."""
        made: Callable[..., Any] = task_functions.FUNCTIONS[interpreter.create_task_form(original)](original, tasks, self)
        return made

    def of_loop(self, original: Callable[..., Task[Any]], tasks: ModuleType) -> Callable[..., Task[Any]]:
        """Make ``BaseEventLoop.create_task``."""
        self.original, self.form = original, interpreter.create_task_form(original)
        make = task_functions.METHODS.get(self.form)
        self.plain = made = self.around(original) if make is None else make(original, tasks, self)
        return made

    def of_uvloop(self, original: Callable[..., Task[Any]]) -> Callable[..., Task[Any]]:
        """Make ``uvloop.Loop.create_task``."""
        made = self.around(original)
        if getattr(sys.modules.get("uvloop"), "__version__", "") in _UVLOOPS:
            self.uvloop = made
        return made

    def around(self, original: Callable[..., Task[Any]]) -> Callable[..., Task[Any]]:
        """Make a method around one that is not known."""
        note, frame_of = self.note, interpreter.frame_of

        def create_task(loop: AbstractEventLoop, coro: Any, **kwargs: Any) -> Task[Any]:  # noqa: ANN401
            try:
                task = original(loop, coro, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            note(task, frame_of(1))
            try:
                return task
            finally:
                del task

        return create_task

    # -- what the functions call when it is not the usual case ----------------------------------------------------------

    def note(self, task: Any, frame: Any) -> None:  # noqa: ANN401 - a task and a frame
        """Note a task, or where it was created if it has been noted already; ``frame`` may only have passed its creation on."""
        try:
            if self._stopped:
                return
            if self.level == "count":
                place, lasti = None, 0
            else:
                frame = self._creating(task, frame)
                place, lasti = (frame.f_code, frame.f_lasti) if self.level == "site" else (capture_stack(frame), 0)
            young = self.table.young
            known = young[-ONE] if young else None
            if known is None or known() is not task:
                self.table.place(task, place, lasti)
            # No call from here on: neither a collection nor another thread comes in between.
            elif young and young[-ONE] is known:
                young[1 - ONE] = place
                young[2 - ONE] = lasti
            else:
                self.table.place(task, place, lasti)
        except Exception as error:  # noqa: BLE001 - the program must never see it
            guard.failed("asyncio tasks", error)

    def _creating(self, task: Any, frame: Any) -> Any:  # noqa: ANN401 - a task, frames
        """Return the first frame that does not only pass a creation on."""
        code = frame.f_code
        passes = self._passes
        while (passes.get(id(code)) or self._look_at(frame))[0] and frame.f_back is not None:
            if code is self._turn:
                return _FirstLine(task)
            if code is not self.first and code is not self.second and code is not self.third:
                self.first, self.second, self.third = code, self.first, self.second
            frame = frame.f_back
            code = frame.f_code
        if self.level == "site" and code is not self._turn:
            self.own = code
        return frame

    def _stack(self, depth: int) -> _Seen:
        """Return the stack of a caller."""
        return _Seen(capture_stack(self._creating(None, interpreter.frame_of(depth + 1))))

    def _look_at(self, frame: FrameType) -> tuple[bool, CodeType]:
        """Note whether code only passes a creation on; the code object is kept, since its identity is the key."""
        if len(self._passes) > KNOWN_CODES:
            self._passes.clear()
        found = self._passes[id(frame.f_code)] = (passes_on(frame), frame.f_code)
        return found

    def sort_out(self, task: Any, frame: Any, last: Any) -> None:  # noqa: ANN401 - tasks and a frame
        """Note a task that was not alone in asyncio's registration, or whose creator is not the one of the last.

        Args:
            task: The task.
            frame: Where it was created.
            last: What was taken out of the list in its place.

        """
        try:
            if last is task:
                self.table.add(task)
                self.table.drain_rest()
            else:
                self.table.born.append(last)
                self.table.drain()
        except Exception as error:  # noqa: BLE001 - the program must never see it
            guard.failed("asyncio tasks", error)
        finally:
            self.note(task, frame)

    def failed(self, error: BaseException) -> None:
        """Have asyncio's registration as it is between two creations: the constructor has raised ``error``."""
        try:
            self.table.slot["add"] = self.table.add
            self.table.drain()
        except Exception as ours:  # noqa: BLE001 - the program must never see it
            guard.failed("asyncio tasks", ours)
        finally:
            hide_frames(error)

    def interrupted(self, task: Any, frame: Any, error: BaseException) -> None:  # noqa: ANN401 - a task and a frame
        """Note a task whose creator was interrupted by ``error`` before it had noted the task itself, or right after."""
        try:
            self.table.drain()
        except Exception as ours:  # noqa: BLE001 - the program must never see it
            guard.failed("asyncio tasks", ours)
        finally:
            self.note(task, frame)
            hide_frames(error)


class _FirstLine:
    """In place of a frame: the first line of a task's coroutine."""

    __slots__ = ("f_code", "f_lasti")

    def __init__(self, task: Any) -> None:  # noqa: ANN401 - a task
        self.f_code = code_of(interpreter.coroutine_of(task))
        self.f_lasti = BEFORE_THE_CODE


class _Seen:
    """In place of a frame: what is noted of it."""

    __slots__ = ("f_back", "f_code", "f_lasti")

    def __init__(self, place: object) -> None:
        self.f_back = None
        self.f_code = place
        self.f_lasti = 0
