"""Copies of asyncio's functions that create tasks, which note the code that called them.

Each is named after a form of the original (`leakagent.shutdown.interpreter.create_task_form`) and does what that one does, in the same
order.  They stand side by side and are not made of parts: a call costs 350 instructions, as much as all that is noted here.
Arguments that are None are not passed on: a keyword costs a call of a C class as much as three lines.

A function that creates the task itself, past ``loop.create_task``, has to be sure that nobody has put another method in its place,
on the class or on the loop, that there is no task factory, and that the loop is not in its debug mode, which notes the stack.

A task factory may have started the task at once (``eager_task_factory``).  If the task is done by then, and nobody has to be told of its
exception, there is nothing to note but that it was there, which matters: such a task costs a bare program half of what others do.

Up to 3.13 the constructor registers the task.  Meanwhile the registry's ``add`` is ``append`` of a list (`TaskTable.born`), from which
the task is taken again.  If it is not the last one there (another thread, a finalizer or a signal handler has created one as well, or
the registry is not ours), or if there is none, `Creation.sort_out` notes all of them; so does `Creation.interrupted` if a signal handler
has raised an exception before the task was noted.
"""

from __future__ import annotations

import time
from weakref import ref

from leakagent import guard
from leakagent.shutdown import interpreter

from .patching import hide_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .task_creation import Creation

#: What the names of leakagent's own files begin with that make tasks.
_OURS = __file__.rpartition("functions")[0]


def _make_around(original: Any) -> Any:  # noqa: ANN401
    """Have asyncio make a task, and keep leakagent out of the stack that its debug mode notes for its messages."""

    def around(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        made = original(*args, **kwargs)
        _trim(made)
        try:
            return made
        finally:
            del made

    return around


def _trim(task: Any) -> None:  # noqa: ANN401
    try:
        trace = interpreter.creation_stack(task)
        if trace:
            trace[:] = [step for step in trace if not step.filename.startswith(_OURS)]
    except Exception as error:  # noqa: BLE001 - the program must never see it
        guard.failed("asyncio tasks", error)


def _create_with_name(original: Any, tasks: Any, creation: Creation) -> Any:  # noqa: ANN401
    running = tasks.events.get_running_loop
    around = _make_around(original)
    table, look, frame_of, now = creation.table, creation.look, interpreter.frame_of, time.monotonic
    young, extend, slot = table.young, table.young.extend, table.slot
    append, pop, add = table.born.append, table.born.pop, table.add

    def create_task(coro: Any, *, name: Any = None) -> Any:  # noqa: ANN401
        loop = running()
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                direct = loop._task_factory is None and not loop._debug
            else:
                direct = method is creation.uvloop and loop.get_task_factory() is None
        except AttributeError:
            direct = False
        if not direct:
            try:
                return around(coro, name=name)
            except BaseException as error:
                hide_frames(error)
                raise
        slot["add"] = append
        try:
            task = tasks.Task(coro, loop=loop)
        except BaseException as error:
            creation.failed(error)
            raise
        slot["add"] = add
        try:
            last = pop()
            if name is not None:
                task.set_name(name)
            if last is task:
                seen = look(1)
                extend((ref(task), seen.f_code, seen.f_lasti, now()))
                if len(young) > table.limit:
                    table.sweep_soon()
            else:
                creation.sort_out(task, frame_of(1), last)
        except BaseException as error:
            creation.interrupted(task, frame_of(1), error)
            raise
        return task

    return create_task


def _create_with_late_name(original: Any, tasks: Any, creation: Creation) -> Any:  # noqa: ANN401
    running = tasks.events.get_running_loop
    around = _make_around(original)
    table, look, frame_of, now = creation.table, creation.look, interpreter.frame_of, time.monotonic
    young, extend, slot = table.young, table.young.extend, table.slot
    append, pop, add = table.born.append, table.born.pop, table.add
    kind, complains = tasks.Task, interpreter.task_complains

    def create_task(coro: Any, *, name: Any = None, context: Any = None) -> Any:  # noqa: ANN401
        loop = running()
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                direct = loop._task_factory is None and not loop._debug
            else:
                direct = method is creation.uvloop and loop.get_task_factory() is None
        except AttributeError:
            direct, method = False, None
        if not direct and name is None and method is creation.plain and method is not None and not loop._debug:  # a task factory
            try:
                task = creation.original(loop, coro) if context is None else creation.original(loop, coro, context=context)
            except BaseException as error:
                hide_frames(error)
                raise
            if type(task) is kind and task.done() and not complains(task):
                table.finished += 1
            else:
                creation.note(task, frame_of(1))
            return task
        if not direct:
            try:
                return around(coro, name=name, context=context)
            except BaseException as error:
                hide_frames(error)
                raise
        slot["add"] = append
        try:
            task = tasks.Task(coro, loop=loop) if context is None else tasks.Task(coro, loop=loop, context=context)
        except BaseException as error:
            creation.failed(error)
            raise
        slot["add"] = add
        try:
            last = pop()
            if name is not None:
                task.set_name(name)
            if last is task:
                seen = look(1)
                extend((ref(task), seen.f_code, seen.f_lasti, now()))
                if len(young) > table.limit:
                    table.sweep_soon()
            else:
                creation.sort_out(task, frame_of(1), last)
        except BaseException as error:
            creation.interrupted(task, frame_of(1), error)
            raise
        return task

    return create_task


def _create_with_context(original: Any, tasks: Any, creation: Creation) -> Any:  # noqa: ANN401
    running = tasks.events.get_running_loop
    around = _make_around(original)
    table, look, frame_of, now = creation.table, creation.look, interpreter.frame_of, time.monotonic
    young, extend, slot = table.young, table.young.extend, table.slot
    append, pop, add = table.born.append, table.born.pop, table.add
    kind, complains = tasks.Task, interpreter.task_complains

    def create_task(coro: Any, *, name: Any = None, context: Any = None) -> Any:  # noqa: ANN401
        loop = running()
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                direct = loop._task_factory is None and not loop._debug
            else:
                direct = method is creation.uvloop and loop.get_task_factory() is None
        except AttributeError:
            direct, method = False, None
        if not direct and method is creation.plain and method is not None and not loop._debug:  # a task factory
            try:
                if creation.form == "method: context, named by itself":
                    make = loop._task_factory
                    task = make(loop, coro) if context is None else make(loop, coro, context=context)
                    task.set_name(name)
                else:
                    task = creation.original(loop, coro, name=name, context=context)
            except BaseException as error:
                hide_frames(error)
                raise
            if type(task) is kind and task.done() and not complains(task):
                table.finished += 1
            else:
                creation.note(task, frame_of(1))
            try:
                return task
            finally:
                del task
        if not direct:
            try:
                return around(coro, name=name, context=context)
            except BaseException as error:
                hide_frames(error)
                raise
        slot["add"] = append
        try:
            if name is None and context is None:
                task = tasks.Task(coro, loop=loop)
            else:
                task = tasks.Task(coro, loop=loop, name=name, context=context)
        except BaseException as error:
            creation.failed(error)
            raise
        slot["add"] = add
        try:
            last = pop()
            if last is task:
                seen = look(1)
                extend((ref(task), seen.f_code, seen.f_lasti, now()))
                if len(young) > table.limit:
                    table.sweep_soon()
            else:
                creation.sort_out(task, frame_of(1), last)
        except BaseException as error:
            creation.interrupted(task, frame_of(1), error)
            raise
        return task

    return create_task


def _create_with_any(original: Any, tasks: Any, creation: Creation) -> Any:  # noqa: ANN401
    running = tasks.events.get_running_loop
    around = _make_around(original)
    table, look, frame_of, now = creation.table, creation.look, interpreter.frame_of, time.monotonic
    young, extend = table.young, table.young.extend
    kind, complains = tasks.Task, interpreter.task_complains

    def create_task(coro: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        loop = running()
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                direct = loop._task_factory is None and not loop._debug
            else:
                direct = method is creation.uvloop and loop.get_task_factory() is None
        except AttributeError:
            direct, method = False, None
        if not direct and method is creation.plain and method is not None and not loop._debug:  # a task factory
            try:
                make = loop._task_factory if creation.form == "method: any" else creation.original
                task = make(loop, coro, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            if type(task) is kind and task.done() and not complains(task):
                table.finished += 1
            else:
                creation.note(task, frame_of(1))
            try:
                return task
            finally:
                del task
        if not direct:
            try:
                return around(coro, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
        try:
            task = tasks.Task(coro, loop=loop, **kwargs) if kwargs else tasks.Task(coro, loop=loop)
        except BaseException as error:
            hide_frames(error)
            raise
        if kwargs and task.done():  # eager
            creation.note(task, frame_of(1))
        else:
            seen = look(1)
            extend((ref(task), seen.f_code, seen.f_lasti, now()))
            if len(young) > table.limit:
                table.sweep_soon()
        try:
            return task
        finally:
            del task  # as asyncio does: an eager task's traceback leads here

    return create_task


def _group_with_late_name(original: Any, tasks: Any, creation: Creation) -> Any:  # noqa: ANN401
    around = _make_around(original)
    table, look, frame_of, now = creation.table, creation.look, interpreter.frame_of, time.monotonic
    young, extend, slot = table.young, table.young.extend, table.slot
    append, pop, add = table.born.append, table.born.pop, table.add

    def create_task(self: Any, coro: Any, *, name: Any = None, context: Any = None) -> Any:  # noqa: ANN401
        loop = self._loop
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                direct = loop._task_factory is None and not loop._debug
            else:
                direct = method is creation.uvloop and loop.get_task_factory() is None
        except AttributeError:
            direct = False
        if not direct or not self._entered or self._aborting or (self._exiting and not self._tasks):
            try:
                return around(self, coro, name=name, context=context)
            except BaseException as error:
                hide_frames(error)
                raise
        slot["add"] = append
        try:
            task = tasks.Task(coro, loop=loop) if context is None else tasks.Task(coro, loop=loop, context=context)
        except BaseException as error:
            creation.failed(error)
            raise
        slot["add"] = add
        try:
            last = pop()
            if name is not None:
                task.set_name(name)
            task.add_done_callback(self._on_task_done)
            self._tasks.add(task)
            if last is task:
                seen = look(1)
                extend((ref(task), seen.f_code, seen.f_lasti, now()))
                if len(young) > table.limit:
                    table.sweep_soon()
            else:
                creation.sort_out(task, frame_of(1), last)
        except BaseException as error:
            creation.interrupted(task, frame_of(1), error)
            raise
        return task

    return create_task


def _group_with_late_name_eager(original: Any, tasks: Any, creation: Creation) -> Any:  # noqa: ANN401
    around = _make_around(original)
    table, look, frame_of, now = creation.table, creation.look, interpreter.frame_of, time.monotonic
    young, extend, slot = table.young, table.young.extend, table.slot
    append, pop, add = table.born.append, table.born.pop, table.add

    def create_task(self: Any, coro: Any, *, name: Any = None, context: Any = None) -> Any:  # noqa: ANN401
        loop = self._loop
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                direct = loop._task_factory is None and not loop._debug
            else:
                direct = method is creation.uvloop and loop.get_task_factory() is None
        except AttributeError:
            direct = False
        if not direct or not self._entered or self._aborting or (self._exiting and not self._tasks):
            try:
                return around(self, coro, name=name, context=context)
            except BaseException as error:
                hide_frames(error)
                raise
        slot["add"] = append
        try:
            task = tasks.Task(coro, loop=loop) if context is None else tasks.Task(coro, loop=loop, context=context)
        except BaseException as error:
            creation.failed(error)
            raise
        slot["add"] = add
        try:
            last = pop()
            if name is not None:
                task.set_name(name)
            if task.done():
                self._on_task_done(task)
            else:
                self._tasks.add(task)
                task.add_done_callback(self._on_task_done)
            if last is task:
                seen = look(1)
                extend((ref(task), seen.f_code, seen.f_lasti, now()))
                if len(young) > table.limit:
                    table.sweep_soon()
            else:
                creation.sort_out(task, frame_of(1), last)
        except BaseException as error:
            creation.interrupted(task, frame_of(1), error)
            raise
        return task

    return create_task


def _group_with_context(original: Any, tasks: Any, creation: Creation) -> Any:  # noqa: ANN401
    around = _make_around(original)
    table, look, frame_of, now = creation.table, creation.look, interpreter.frame_of, time.monotonic
    young, extend, slot = table.young, table.young.extend, table.slot
    append, pop, add = table.born.append, table.born.pop, table.add

    def create_task(self: Any, coro: Any, *, name: Any = None, context: Any = None) -> Any:  # noqa: ANN401
        loop = self._loop
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                direct = loop._task_factory is None and not loop._debug
            else:
                direct = method is creation.uvloop and loop.get_task_factory() is None
        except AttributeError:
            direct = False
        if not direct or not self._entered or self._aborting or (self._exiting and not self._tasks):
            try:
                return around(self, coro, name=name, context=context)
            except BaseException as error:
                hide_frames(error)
                raise
        slot["add"] = append
        try:
            if name is None and context is None:
                task = tasks.Task(coro, loop=loop)
            else:
                task = tasks.Task(coro, loop=loop, name=name, context=context)
        except BaseException as error:
            creation.failed(error)
            raise
        slot["add"] = add
        try:
            last = pop()
            if task.done():
                self._on_task_done(task)
            else:
                self._tasks.add(task)
                task.add_done_callback(self._on_task_done)
            if last is task:
                seen = look(1)
                extend((ref(task), seen.f_code, seen.f_lasti, now()))
                if len(young) > table.limit:
                    table.sweep_soon()
            else:
                creation.sort_out(task, frame_of(1), last)
        except BaseException as error:
            creation.interrupted(task, frame_of(1), error)
            raise
        return task

    return create_task


def _group_with_any(original: Any, tasks: Any, creation: Creation) -> Any:  # noqa: ANN401
    around = _make_around(original)
    table, look, frame_of, now = creation.table, creation.look, interpreter.frame_of, time.monotonic
    young, extend = table.young, table.young.extend

    def create_task(self: Any, coro: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        loop = self._loop
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                direct = loop._task_factory is None and not loop._debug
            else:
                direct = method is creation.uvloop and loop.get_task_factory() is None
        except AttributeError:
            direct = False
        if not direct or not self._entered or self._aborting or (self._exiting and not self._tasks):
            try:
                return around(self, coro, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
        try:
            task = tasks.Task(coro, loop=loop, **kwargs) if kwargs else tasks.Task(coro, loop=loop)
        except BaseException as error:
            hide_frames(error)
            raise
        tasks.futures.future_add_to_awaited_by(task, self._parent_task)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        if kwargs and task.done():  # eager
            creation.note(task, frame_of(1))
        else:
            seen = look(1)
            extend((ref(task), seen.f_code, seen.f_lasti, now()))
            if len(young) > table.limit:
                table.sweep_soon()
        try:
            return task
        finally:
            del task  # as asyncio does: an eager task's traceback leads here

    return create_task


def _group_with_any_checked(original: Any, tasks: Any, creation: Creation) -> Any:  # noqa: ANN401
    around = _make_around(original)
    table, look, frame_of, now = creation.table, creation.look, interpreter.frame_of, time.monotonic
    young, extend = table.young, table.young.extend

    def create_task(self: Any, coro: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        loop = self._loop
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                direct = loop._task_factory is None and not loop._debug
            else:
                direct = method is creation.uvloop and loop.get_task_factory() is None
        except AttributeError:
            direct = False
        if not direct or not self._entered or self._aborting or (self._exiting and not self._tasks):
            try:
                return around(self, coro, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
        try:
            task = tasks.Task(coro, loop=loop, **kwargs) if kwargs else tasks.Task(coro, loop=loop)
        except BaseException as error:
            hide_frames(error)
            raise
        tasks.futures.future_add_to_awaited_by(task, self._parent_task)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        if self._aborting and not task.done():
            task.cancel()
        if kwargs and task.done():  # eager
            creation.note(task, frame_of(1))
        else:
            seen = look(1)
            extend((ref(task), seen.f_code, seen.f_lasti, now()))
            if len(young) > table.limit:
                table.sweep_soon()
        try:
            return task
        finally:
            del task  # as asyncio does: an eager task's traceback leads here

    return create_task


def _ensure_future(original: Any, tasks: Any, creation: Creation) -> Any:  # noqa: ANN401
    around = _make_around(original)
    table, look, frame_of, now = creation.table, creation.look, interpreter.frame_of, time.monotonic
    young, extend, slot = table.young, table.young.extend, table.slot
    append, pop, add = table.born.append, table.born.pop, table.add
    gather, coroutine = tasks.gather.__code__, interpreter.coroutine_type()

    def ensure_future(coro_or_future: Any, *, loop: Any = None) -> Any:  # noqa: ANN401
        if loop is None or type(coro_or_future) is not coroutine:
            try:
                return around(coro_or_future, loop=loop)
            except BaseException as error:
                hide_frames(error)
                raise
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                direct = loop._task_factory is None and not loop._debug
            else:
                direct = method is creation.uvloop and loop.get_task_factory() is None
        except AttributeError:
            direct = False
        frame: Any = frame_of(1)
        if not direct or frame.f_code is not gather or frame.f_back is None or loop.is_closed():
            try:
                return around(coro_or_future, loop=loop)
            except BaseException as error:
                hide_frames(error)
                raise
        coro: Any = coro_or_future
        slot["add"] = append
        try:
            task = tasks.Task(coro, loop=loop)
        except BaseException as error:
            creation.failed(error)
            if isinstance(error, RuntimeError):
                coro.close()
            raise
        slot["add"] = add
        try:
            last = pop()
            seen = look(2)
            code = seen.f_code
            if last is task and code is creation.own:
                extend((ref(task), code, seen.f_lasti, now()))
                if len(young) > table.limit:
                    table.sweep_soon()
            else:
                creation.sort_out(task, frame.f_back, last)
        except BaseException as error:
            creation.interrupted(task, frame_of(1), error)
            raise
        return task

    return ensure_future


def _ensure_future_unregistered(original: Any, tasks: Any, creation: Creation) -> Any:  # noqa: ANN401
    around = _make_around(original)
    table, look, frame_of, now = creation.table, creation.look, interpreter.frame_of, time.monotonic
    young, extend = table.young, table.young.extend
    gather, coroutine = tasks.gather.__code__, interpreter.coroutine_type()

    def ensure_future(coro_or_future: Any, *, loop: Any = None) -> Any:  # noqa: ANN401
        if loop is None or type(coro_or_future) is not coroutine:
            try:
                return around(coro_or_future, loop=loop)
            except BaseException as error:
                hide_frames(error)
                raise
        try:
            method = loop.create_task.__func__
            if method is creation.plain:
                direct = loop._task_factory is None and not loop._debug
            else:
                direct = method is creation.uvloop and loop.get_task_factory() is None
        except AttributeError:
            direct = False
        frame: Any = frame_of(1)
        if not direct or frame.f_code is not gather or frame.f_back is None or loop.is_closed():
            try:
                return around(coro_or_future, loop=loop)
            except BaseException as error:
                hide_frames(error)
                raise
        coro: Any = coro_or_future
        try:
            task = tasks.Task(coro, loop=loop)
        except BaseException as error:
            hide_frames(error)
            if isinstance(error, RuntimeError):
                coro.close()
            raise
        seen = look(2)
        code = seen.f_code
        if code is creation.own:
            extend((ref(task), code, seen.f_lasti, now()))
            if len(young) > table.limit:
                table.sweep_soon()
        else:
            creation.note(task, frame.f_back)
        return task

    return ensure_future


def _method_with_name(original: Any, tasks: Any, creation: Creation) -> Any:  # noqa: ANN401
    table, look, frame_of, now = creation.table, creation.look, interpreter.frame_of, time.monotonic
    young, extend, slot = table.young, table.young.extend, table.slot
    append, pop, add = table.born.append, table.born.pop, table.add

    def create_task(self: Any, coro: Any, *, name: Any = None) -> Any:  # noqa: ANN401
        if self._task_factory is not None:
            try:
                task = original(self, coro, name=name)
            except BaseException as error:
                hide_frames(error)
                raise
            creation.note(task, frame_of(1))
            try:
                return task
            finally:
                del task
        if self._closed:
            try:
                self._check_closed()
            except BaseException as error:
                hide_frames(error)
                raise
        slot["add"] = append
        try:
            task = tasks.Task(coro, loop=self) if name is None else tasks.Task(coro, loop=self, name=name)
        except BaseException as error:
            creation.failed(error)
            raise
        slot["add"] = add
        try:
            last = pop()
            if self._debug and task._source_traceback:
                del task._source_traceback[-1]
            seen: Any = look(1)
            code = seen.f_code
            if code is not creation.own:
                while code is creation.first or code is creation.second or code is creation.third:
                    if seen.f_back is None:
                        break
                    seen = seen.f_back
                    code = seen.f_code
            if last is task and code is creation.own:
                extend((ref(task), code, seen.f_lasti, now()))
                if len(young) > table.limit:
                    table.sweep_soon()
            else:
                creation.sort_out(task, frame_of(1), last)
        except BaseException as error:
            creation.interrupted(task, frame_of(1), error)
            raise
        return task

    return create_task


def _method_with_context(original: Any, tasks: Any, creation: Creation) -> Any:  # noqa: ANN401
    table, look, frame_of, now = creation.table, creation.look, interpreter.frame_of, time.monotonic
    young, extend, slot = table.young, table.young.extend, table.slot
    append, pop, add = table.born.append, table.born.pop, table.add
    kind, complains = tasks.Task, interpreter.task_complains

    def create_task(self: Any, coro: Any, *, name: Any = None, context: Any = None) -> Any:  # noqa: ANN401
        if self._task_factory is not None:
            try:
                task = original(self, coro, name=name, context=context)
            except BaseException as error:
                hide_frames(error)
                raise
            if type(task) is kind and task.done() and not complains(task):
                table.finished += 1
            else:
                creation.note(task, frame_of(1))
            try:
                return task
            finally:
                del task
        if self._closed:
            try:
                self._check_closed()
            except BaseException as error:
                hide_frames(error)
                raise
        slot["add"] = append
        try:
            if name is None and context is None:
                task = tasks.Task(coro, loop=self)
            else:
                task = tasks.Task(coro, loop=self, name=name, context=context)
        except BaseException as error:
            creation.failed(error)
            raise
        slot["add"] = add
        try:
            last = pop()
            if self._debug and task._source_traceback:
                del task._source_traceback[-1]
            seen: Any = look(1)
            code = seen.f_code
            if code is not creation.own:
                while code is creation.first or code is creation.second or code is creation.third:
                    if seen.f_back is None:
                        break
                    seen = seen.f_back
                    code = seen.f_code
            if last is task and code is creation.own:
                extend((ref(task), code, seen.f_lasti, now()))
                if len(young) > table.limit:
                    table.sweep_soon()
            else:
                creation.sort_out(task, frame_of(1), last)
        except BaseException as error:
            creation.interrupted(task, frame_of(1), error)
            raise
        return task

    return create_task


def _method_with_any(original: Any, tasks: Any, creation: Creation) -> Any:  # noqa: ANN401
    table, look, frame_of, now = creation.table, creation.look, interpreter.frame_of, time.monotonic
    young, extend = table.young, table.young.extend
    kind, complains = tasks.Task, interpreter.task_complains

    def create_task(self: Any, coro: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if self._task_factory is not None:
            try:
                task = original(self, coro, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            if type(task) is kind and task.done() and not complains(task):
                table.finished += 1
            else:
                creation.note(task, frame_of(1))
            try:
                return task
            finally:
                del task
        try:
            if self._closed:
                self._check_closed()
            task = tasks.Task(coro, loop=self, **kwargs) if kwargs else tasks.Task(coro, loop=self)
        except BaseException as error:
            hide_frames(error)
            raise
        if self._debug and task._source_traceback:
            del task._source_traceback[-1]
        seen: Any = look(1)
        code = seen.f_code
        if code is not creation.own:
            while code is creation.first or code is creation.second or code is creation.third:
                if seen.f_back is None:
                    break
                seen = seen.f_back
                code = seen.f_code
        if code is creation.own and not (kwargs and task.done()):  # eager
            extend((ref(task), code, seen.f_lasti, now()))
            if len(young) > table.limit:
                table.sweep_soon()
        else:
            creation.note(task, frame_of(1))
        try:
            return task
        finally:
            del task  # as asyncio does: an eager task's traceback leads here

    return create_task


FUNCTIONS = {
    "name, set later": _create_with_name,
    "context, name set later": _create_with_late_name,
    "context": _create_with_context,
    "any": _create_with_any,
    "group: context, name set later": _group_with_late_name,
    "group: context, name set later, eager": _group_with_late_name_eager,
    "group: context": _group_with_context,
    "group: any": _group_with_any,
    "group: any, cancelled when aborting": _group_with_any_checked,
    "ensure": _ensure_future,
    "ensure, unregistered": _ensure_future_unregistered,
}
METHODS = {
    "method: name": _method_with_name,
    "method: context": _method_with_context,
    "method: context, named by itself": _method_with_context,
    "method: any": _method_with_any,
}
