"""How tasks are created: `asyncio.create_task` and `BaseEventLoop.create_task`, with the creating code noted.

The problem.  A wrapper around ``loop.create_task`` costs a call with ``**kwargs``, 8 to 15 % of a task, before it has done
anything.  ``asyncio.create_task`` calls that method in turn: two Python calls for one task.

What we do.  Where the function of this interpreter is one whose code is known (`leakagent.shutdown.interpreter.create_task_form`),
it is replaced by one that does the same in the same order, and notes the creating frame.  ``asyncio.create_task`` creates the
task itself if the loop is asyncio's own and has no task factory; in all other cases, and where the code is not known (a new patch
release, uvloop), the original is called, and the task noted after it.

Where asyncio's registry is taken (`leakagent.instrumentation.task_registry`) the task is in the table already, usually as the last
one: only code and offset are filled in.

What is still open.  A name that was imported from ``asyncio`` before the agent was installed is the original, which calls the
method.
"""

from __future__ import annotations

import sys
import time

from leakagent import guard
from leakagent.core.sites import BEFORE_THE_CODE, capture_stack, passes_on
from leakagent.shutdown import interpreter

from .patching import hide_frames
from .task_notes import TaskEntry, code_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Callable
    from types import CodeType, FrameType, ModuleType
    from typing import Any

    from .task_table import TaskTable

    _Note = Callable[[Task[Any], Any], None]


#: Releases of uvloop whose ``create_task`` does with a plain coroutine what asyncio's does (read in their ``loop.pyx``).
_UVLOOPS = frozenset({"0.21.0", "0.22.1", "0.23.0"})

#: Code objects that are remembered as passing creations on, or not.
KNOWN_CODES = 1_024


class Creation:
    """Makes the functions that create tasks."""

    def __init__(self, table: TaskTable, level: str) -> None:
        """Note tasks in ``table``, and of their creation what ``level`` says."""
        self.table = table
        self.level = level
        #: The methods of asyncio's own loops and of uvloop's while they are ours.
        self.plain: object = None
        #: What ``plain`` stands in for.
        self.original: Any = None
        self.uvloop: object = None
        #: The last code that created a task with a loop's method, and the last three that only passed it on.
        self.own: CodeType | None = None
        self.first: CodeType | None = None
        self.second: CodeType | None = None
        self.third: CodeType | None = None
        self._note = self._make_note()

    def of_module(self, original: Callable[..., Task[Any]], tasks: ModuleType) -> Callable[..., Task[Any]]:
        """Make ``asyncio.tasks.create_task``; the original itself where its form is not known."""
        form = interpreter.create_task_form(original)
        make = _FUNCTIONS.get(form) if self.level == "site" else None
        return original if make is None else make(original, tasks, self, self._note)

    def of_loop(self, original: Callable[..., Task[Any]], tasks: ModuleType) -> Callable[..., Task[Any]]:
        """Make ``BaseEventLoop.create_task``."""
        form = interpreter.create_task_form(original)
        make = _METHODS.get(form)
        self.original = original
        self.plain = made = self.around(original) if make is None else make(original, tasks, self, self._note_of_method())
        return made

    def of_uvloop(self, original: Callable[..., Task[Any]]) -> Callable[..., Task[Any]]:
        """Make ``uvloop.Loop.create_task``."""
        made = self.around(original)
        if getattr(sys.modules.get("uvloop"), "__version__", "") in _UVLOOPS:
            self.uvloop = made
        return made

    def around(self, original: Callable[..., Task[Any]]) -> Callable[..., Task[Any]]:
        """Make a method around one that is not known."""
        note, frame_of = self._note_of_method(), interpreter.frame_of

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

    def _note_of_method(self) -> _Note:
        """Make what notes a task for a method: asyncio itself may be the caller (``TaskGroup``, ``ensure_future``)."""
        young, note = self.table.young, self._note
        if self.level == "count":
            return self._note_done if self.table.taken else note
        passes: dict[int, tuple[bool, CodeType]] = {}
        # Which line made a task that the loop itself makes (a server for a connection, ``run_coroutine_threadsafe``) nobody knows.
        turn = interpreter.loop_turn() if self.level == "site" else None

        def note_caller(task: Task[Any], frame: Any) -> None:  # noqa: ANN401 - a frame
            try:
                code = frame.f_code
                while (passes.get(id(code)) or _look(passes, frame))[0] and frame.f_back is not None:
                    if code is turn:
                        frame = _FirstLine(task)
                        break
                    if code is not self.first and code is not self.second and code is not self.third:
                        self.first, self.second, self.third = code, self.first, self.second
                    frame = frame.f_back
                    code = frame.f_code
                if fills_in and code is not turn:
                    self.own = code
                entry = young[-1] if young else None
                if fills_in and entry is not None and entry() is task:
                    entry.place = frame.f_code
                    entry.lasti = frame.f_lasti
                    return
            except Exception as error:  # noqa: BLE001 - the program must never see it
                guard.failed("asyncio tasks", error)
            note(task, frame)

        fills_in = self.level == "site" and self.table.taken
        return note_caller

    def _make_note(self) -> _Note:
        if self.level != "site":
            return self._note_stack
        return _make_fill_in(self.table) if self.table.taken else _make_append(self.table)

    def _note_done(self, task: Task[Any], _frame: FrameType) -> None:
        """Count an eager task that is done already: asyncio has not registered it."""
        try:
            if task.done():
                self.table.place(task, None, 0)
        except Exception as error:  # noqa: BLE001 - the program must never see it
            guard.failed("asyncio tasks", error)

    def _note_stack(self, task: Task[Any], frame: FrameType) -> None:
        try:
            self.table.place(task, None if self.level == "count" else capture_stack(frame), 0)
        except Exception as error:  # noqa: BLE001 - the program must never see it
            guard.failed("asyncio tasks", error)


class _FirstLine:
    """In place of a frame: the first line of a task's coroutine."""

    __slots__ = ("f_code", "f_lasti")

    def __init__(self, task: Task[Any]) -> None:
        self.f_code = code_of(interpreter.coroutine_of(task))
        self.f_lasti = BEFORE_THE_CODE


def _look(passes: dict[int, tuple[bool, CodeType]], frame: FrameType) -> tuple[bool, CodeType]:
    """Note whether code only passes a creation on; the code object is kept, since its identity is the key."""
    if len(passes) > KNOWN_CODES:
        passes.clear()
    found = passes[id(frame.f_code)] = (passes_on(frame), frame.f_code)
    return found


def _make_fill_in(table: TaskTable) -> _Note:
    young, place = table.young, table.place

    def fill_in(task: Task[Any], frame: Any) -> None:  # noqa: ANN401 - a frame
        try:
            entry = young[-1] if young else None
            if entry is not None and entry() is task:
                entry.place = frame.f_code
                entry.lasti = frame.f_lasti
            else:
                place(task, frame.f_code, frame.f_lasti)
        except Exception as error:  # noqa: BLE001 - the program must never see it
            guard.failed("asyncio tasks", error)

    return fill_in


def _make_append(table: TaskTable) -> _Note:
    young, now = table.young, time.monotonic

    def append(task: Task[Any], frame: Any) -> None:  # noqa: ANN401 - a frame
        try:
            entry = TaskEntry(task)
            entry.created = now()
            entry.place = frame.f_code
            entry.lasti = frame.f_lasti
            young.append(entry)
            if len(young) > table.limit:
                table.sweep_soon()
        except Exception as error:  # noqa: BLE001 - the program must never see it
            guard.failed("asyncio tasks", error)

    return append


# -- the functions, as in the interpreters that `leakagent.shutdown.interpreter.create_task_form` names -------------------
#
# Arguments that are None are not passed on: a keyword costs a call of a C class as much as three lines here.


def _while_debugging(original: Any, coro: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    """Have asyncio make a task in its debug mode, and keep leakagent out of the stack that it notes for its messages."""
    task = original(coro, **kwargs)
    trace = task._source_traceback
    if trace:
        trace[:] = [step for step in trace if not step.filename.startswith(__file__)]
    try:
        return task
    finally:
        del task


def _function_with_name(original: Any, tasks: Any, creation: Creation, note: _Note) -> Any:  # noqa: ANN401
    running, frame_of = tasks.events.get_running_loop, interpreter.frame_of

    def create_task(coro: Any, *, name: Any = None) -> Any:  # noqa: ANN401
        loop, method = running(), None
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                special = loop._task_factory is not None or loop._debug
            else:
                special = method is not creation.uvloop or loop.get_task_factory() is not None
        except AttributeError:
            special = True
        if special and method is creation.plain and loop._debug:
            return _while_debugging(original, coro, name=name)
        if special:
            return original(coro, name=name)
        task = tasks.Task(coro, loop=loop)
        if name is not None:
            task.set_name(name)
        note(task, frame_of(1))
        return task

    return create_task


def _function_with_late_name(original: Any, tasks: Any, creation: Creation, note: _Note) -> Any:  # noqa: ANN401
    running, frame_of, young = tasks.events.get_running_loop, interpreter.frame_of, creation.table.young

    def create_task(coro: Any, *, name: Any = None, context: Any = None) -> Any:  # noqa: ANN401
        loop, method = running(), None
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                special = loop._task_factory is not None or loop._debug
            else:
                special = method is not creation.uvloop or loop.get_task_factory() is not None
        except AttributeError:
            special = True
        if special and method is creation.plain:
            make = creation.original
            try:
                if loop._debug:
                    return _while_debugging(original, coro, name=name, context=context)
                task = make(loop, coro) if context is None else make(loop, coro, context=context)
            except BaseException as error:
                hide_frames(error)
                raise
            if name is not None:
                tasks._set_task_name(task, name)
            note(task, frame_of(1))
            try:
                return task
            finally:
                del task
        if special:
            try:
                return original(coro, name=name, context=context)
            except BaseException as error:
                hide_frames(error)
                raise
        try:
            task = tasks.Task(coro, loop=loop) if context is None else tasks.Task(coro, loop=loop, context=context)
        except BaseException as error:
            hide_frames(error)
            raise
        if name is not None:
            task.set_name(name)
        frame = frame_of(1)
        entry = young[-1] if young else None
        if entry is not None and entry() is task:
            entry.place = frame.f_code
            entry.lasti = frame.f_lasti
        else:
            note(task, frame)
        return task

    return create_task


def _function_with_context(original: Any, tasks: Any, creation: Creation, note: _Note) -> Any:  # noqa: ANN401
    running, frame_of, young = tasks.events.get_running_loop, interpreter.frame_of, creation.table.young

    def create_task(coro: Any, *, name: Any = None, context: Any = None) -> Any:  # noqa: ANN401
        loop, method = running(), None
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                special = loop._task_factory is not None or loop._debug
            else:
                special = method is not creation.uvloop or loop.get_task_factory() is not None
        except AttributeError:
            special = True
        if special and method is creation.plain:
            try:
                if loop._debug:
                    return _while_debugging(original, coro, name=name, context=context)
                task = creation.original(loop, coro, name=name, context=context)
            except BaseException as error:
                hide_frames(error)
                raise
            note(task, frame_of(1))
            try:
                return task
            finally:
                del task
        if special:
            try:
                return original(coro, name=name, context=context)
            except BaseException as error:
                hide_frames(error)
                raise
        try:
            if name is None and context is None:
                task = tasks.Task(coro, loop=loop)
            else:
                task = tasks.Task(coro, loop=loop, name=name, context=context)
        except BaseException as error:
            hide_frames(error)
            raise
        frame = frame_of(1)
        entry = young[-1] if young else None
        if entry is not None and entry() is task:
            entry.place = frame.f_code
            entry.lasti = frame.f_lasti
        else:
            note(task, frame)
        return task

    return create_task


def _function_with_any(original: Any, tasks: Any, creation: Creation, note: _Note) -> Any:  # noqa: ANN401
    running, frame_of = tasks.events.get_running_loop, interpreter.frame_of

    def create_task(coro: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        loop, method = running(), None
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                special = loop._task_factory is not None or loop._debug
            else:
                special = method is not creation.uvloop or loop.get_task_factory() is not None
        except AttributeError:
            special = True
        if special and method is creation.plain:
            try:
                if loop._debug:
                    return _while_debugging(original, coro, **kwargs)
                task = creation.original(loop, coro, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            note(task, frame_of(1))
            try:
                return task
            finally:
                del task
        if special:
            try:
                return original(coro, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
        try:
            task = tasks.Task(coro, loop=loop, **kwargs)
        except BaseException as error:
            hide_frames(error)
            raise
        note(task, frame_of(1))
        try:
            return task
        finally:
            del task  # as asyncio does: an eager task's traceback leads here

    return create_task


def _method_with_name(original: Any, tasks: Any, creation: Creation, note: _Note) -> Any:  # noqa: ANN401
    frame_of, young = interpreter.frame_of, creation.table.young

    def create_task(self: Any, coro: Any, *, name: Any = None) -> Any:  # noqa: ANN401
        if self._task_factory is not None:
            task = original(self, coro, name=name)
        else:
            if self._closed:
                self._check_closed()
            task = tasks.Task(coro, loop=self) if name is None else tasks.Task(coro, loop=self, name=name)
            if self._debug and task._source_traceback:
                del task._source_traceback[-1]
        frame: Any = frame_of(1)
        code = frame.f_code
        while code is creation.first or code is creation.second or code is creation.third:
            if frame.f_back is None:
                break
            frame = frame.f_back
            code = frame.f_code
        entry = young[-1] if young else None
        if code is creation.own and entry is not None and entry() is task:
            entry.place = code
            entry.lasti = frame.f_lasti
        else:
            note(task, frame)
        return task

    return create_task


def _method_with_context(original: Any, tasks: Any, creation: Creation, note: _Note) -> Any:  # noqa: ANN401
    frame_of, young = interpreter.frame_of, creation.table.young

    def create_task(self: Any, coro: Any, *, name: Any = None, context: Any = None) -> Any:  # noqa: ANN401
        if self._task_factory is not None:
            try:
                task = original(self, coro, name=name, context=context)
            except BaseException as error:
                hide_frames(error)
                raise
        else:
            try:
                if self._closed:
                    self._check_closed()
                if name is None and context is None:
                    task = tasks.Task(coro, loop=self)
                else:
                    task = tasks.Task(coro, loop=self, name=name, context=context)
            except BaseException as error:
                hide_frames(error)
                raise
            if self._debug and task._source_traceback:
                del task._source_traceback[-1]
        frame: Any = frame_of(1)
        code = frame.f_code
        while code is creation.first or code is creation.second or code is creation.third:
            if frame.f_back is None:
                break
            frame = frame.f_back
            code = frame.f_code
        entry = young[-1] if young else None
        if code is creation.own and entry is not None and entry() is task:
            entry.place = code
            entry.lasti = frame.f_lasti
        else:
            note(task, frame)
        return task

    return create_task


def _method_with_any(original: Any, tasks: Any, creation: Creation, note: _Note) -> Any:  # noqa: ANN401
    frame_of, young = interpreter.frame_of, creation.table.young

    def create_task(self: Any, coro: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if self._task_factory is not None:
            try:
                task = original(self, coro, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
        else:
            try:
                if self._closed:
                    self._check_closed()
                task = tasks.Task(coro, loop=self, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            if self._debug and task._source_traceback:
                del task._source_traceback[-1]
        frame: Any = frame_of(1)
        code = frame.f_code
        while code is creation.first or code is creation.second or code is creation.third:
            if frame.f_back is None:
                break
            frame = frame.f_back
            code = frame.f_code
        entry = young[-1] if young else None
        if code is creation.own and entry is not None and entry() is task:
            entry.place = code
            entry.lasti = frame.f_lasti
        else:
            note(task, frame)
        try:
            return task
        finally:
            del task  # as asyncio does: an eager task's traceback leads here

    return create_task


_FUNCTIONS = {
    "name, set later": _function_with_name,
    "context, name set later": _function_with_late_name,
    "context": _function_with_context,
    "any": _function_with_any,
}
_METHODS = {"name": _method_with_name, "context": _method_with_context, "any": _method_with_any}
