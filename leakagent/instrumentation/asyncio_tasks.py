"""Tasks: none is lost, nothing is kept past done, every task's creation site is known, and loops end in time.

What is patched: ``asyncio.create_task``, ``TaskGroup.create_task``, ``ensure_future`` and ``BaseEventLoop.create_task`` (and
``uvloop.Loop.create_task``), through which every public way of making a task goes (`leakagent.instrumentation.task_creation`); asyncio's registry, into which every task puts itself
(`leakagent.instrumentation.task_registry`); ``asyncio.runners._cancel_all_tasks``, where ``asyncio.run`` meets what is left over;
``BaseEventLoop.close``; ``BaseEventLoop.call_exception_handler``, by which failed tasks that nobody looked at are told
(`leakagent.instrumentation.task_errors`).  How tasks are kept alive and lost ones are found: `leakagent.instrumentation.task_window`.

What is still open.  In 3.14 and newer, and in free-threaded builds, a direct ``asyncio.Task(...)`` is found by a sweep only
(`leakagent.instrumentation.task_sweep`).
"""

from __future__ import annotations

import sys
import time
from functools import partial
from itertools import islice

from leakagent import guard
from leakagent.core.records import TASK, Record
from leakagent.detect.lost import is_lost
from leakagent.shutdown import interpreter
from leakagent.shutdown.signals import state

from . import task_registry
from .patching import hide_frames
from .task_creation import Creation
from .task_errors import Errors
from .task_notes import Observation, awaiting, cheapest_first, first_line, is_helper, pending_tasks, running_task, without_site
from .task_sweep import Sweep
from .task_table import TaskTable
from .task_window import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType, ModuleType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.registry import Registry

    from .patching import Patches
    from .task_errors import Failure
    from .task_notes import TaskEntry

#: Seconds for the proofs at the end of a loop and of the program: with ten thousand tasks that wait for one event, where each
#: proof meets all the others, they took 140 s.
END_PROOF_SECONDS = 0.5


#: Tasks that the agent's own thread looks at before it lets others have their turn, and the seconds that it rests.
AT_ONCE, REST = 200, 0.0005

#: Have a copy of what ``asyncio.run`` does, for Python 3.10.
_COPIES = {"uvicorn._compat", "taskgroup.runners"}


class Tasks:
    """Sees every task of every loop."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Start without tasks; ``settings.grace`` is how many seconds the tasks of an ending loop get."""
        self.registry = registry
        self.grace = settings.grace
        self.cancelling: list[float] = []
        self.lost: list[Observation] = []
        self.left: list[Observation] = []
        #: Fills in why a task is pending that is left over: `leakagent.instrumentation.stalls`.
        self.judge: Callable[..., None] | None = None
        #: Called when Ctrl+C comes while an ending loop waits for its tasks.
        self.interrupted: Callable[[], None] = lambda: None
        self.table = TaskTable(lambda: registry.count(TASK), lambda: registry.scoped is not None or registry.owned is not None)
        self.errors = Errors(self.table.search)
        self.table.failed = self.errors.note
        self.direct = Sweep()
        self.window = Window(self.table, self.lost, self.direct)
        self.creation = Creation(self.table, registry.level)
        self._functions: list[tuple[object, object]] = []
        registry.settle = self.settle

    # -- patches -----------------------------------------------------------------------------------------------------

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch a module of `leakagent.instrumentation.TARGETS`."""
        if module.__name__ == "asyncio.tasks":
            self._patch_tasks(module, patches)
        elif module.__name__ == "asyncio.base_events":
            self._patch_loops(module, patches)
        elif module.__name__ == "asyncio.taskgroups":
            if self.creation.knows(module.TaskGroup.create_task):
                patches.replace(module.TaskGroup, "create_task", partial(self.creation.of_module, tasks=module.tasks))
        elif module.__name__ == "asyncio.runners":
            self._patch_runners(module, patches)
        elif module.__name__ in _COPIES:
            if "_cancel_all_tasks" in vars(module):
                patches.replace(module, "_cancel_all_tasks", self._make_cancel_all)
        else:
            self._patch_uvloop(module, patches)

    def stop(self) -> None:
        """Leave the collector and asyncio's registry alone again."""
        self.window.close()
        self.creation.stop()
        task_registry.give_back()
        for original, made in self._functions:
            _rename(made, original)

    def forget(self) -> None:
        """Drop all that is known; a forked child has no part in its parent's tasks."""
        guard.call("asyncio sweep", self.direct.forked, self.table.noted())
        task_registry.give_back()
        self.table.forget()
        self.window.forget()
        self.errors.forget()
        self.lost.clear()
        self.left.clear()

    def _patch_tasks(self, module: ModuleType, patches: Patches) -> None:
        task_registry.take(self.table)
        self.creation = Creation(self.table, self.registry.level)
        for name in interpreter.creating_functions():
            original = getattr(module, name)
            if self.creation.knows(original):
                patches.replace(module, name, partial(self.creation.of_module, tasks=module))
                made = getattr(module, name)
                self._functions.append((original, made))
                _rename(original, made)

    def _patch_loops(self, module: ModuleType, patches: Patches) -> None:
        patches.replace(module.BaseEventLoop, "create_task", lambda original: self.creation.of_loop(original, module.tasks))
        patches.replace(module.BaseEventLoop, "close", self._make_close)
        patches.replace(module.BaseEventLoop, "call_exception_handler", self.errors.make_handler)
        self.window.open()

    def _patch_uvloop(self, module: ModuleType, patches: Patches) -> None:
        # uvloop.Loop inherits create_task from a C class: what is put on the Python class is taken away again.
        owner = next(base for base in module.Loop.__mro__ if "create_task" in vars(base))
        if owner is module.Loop:
            patches.replace(owner, "create_task", self.creation.of_uvloop)
        else:
            patches.override(module.Loop, "create_task", self.creation.of_uvloop)
            patches.override(module.Loop, "close", self._make_close)
            patches.override(module.Loop, "call_exception_handler", self.errors.make_handler)

    def _patch_runners(self, module: ModuleType, patches: Patches) -> None:
        owner = interpreter.cancel_all_tasks_owner()
        if owner is not None and owner[0] is module:
            patches.replace(*owner, self._make_cancel_all)

    def _make_close(self, original: Callable[[AbstractEventLoop], None]) -> Callable[[AbstractEventLoop], None]:
        def close(loop: AbstractEventLoop) -> None:
            # A loop that nobody closed is closed by its finalizer, when the report is written and the modules are gone.
            if not sys.is_finalizing() and not loop.is_running() and not loop.is_closed():
                guard.call("asyncio loops", self._observe_loop, loop)
            try:
                original(loop)
                state.raise_postponed()
            except BaseException as error:
                hide_frames(error)
                raise

        return close

    def _make_cancel_all(self, original: Callable[[AbstractEventLoop], None]) -> Callable[[AbstractEventLoop], None]:
        def _cancel_all_tasks(loop: AbstractEventLoop) -> None:
            seen = guard.call("asyncio loops", self._observe_ending, loop, interpreter.frame_of(1)) or []
            try:
                self._bounded(original, loop, seen)
            except BaseException as error:
                hide_frames(error)
                raise

        return _cancel_all_tasks

    def _bounded(self, original: Callable[[AbstractEventLoop], None], loop: AbstractEventLoop, seen: list[Observation]) -> None:
        """Let asyncio cancel and await the tasks, but for no longer than the grace."""
        late: list[bool] = []

        def give_up() -> None:
            late.append(True)
            loop.stop()

        if isinstance(sys.exc_info()[1], KeyboardInterrupt):
            guard.call("asyncio loops", state.interrupted, self.grace)
        begin = time.monotonic()
        timer = loop.call_later(self.grace, give_up)
        try:
            original(loop)
        except KeyboardInterrupt:
            guard.call("why", self.interrupted)
            raise
        except RuntimeError:
            # "Event loop stopped before Future completed" (asyncio.base_events.BaseEventLoop.run_until_complete).
            if not late:
                raise
            self._note_refusals(loop, seen)
        finally:
            timer.cancel()
            if seen:
                self.cancelling.append(time.monotonic() - begin)

    def _note_refusals(self, loop: AbstractEventLoop, seen: list[Observation]) -> None:
        for observation in seen:
            task = observation.entry.ref()
            if task is not None and not task.done():
                observation.refused = True
                if observation not in self.left and observation not in self.lost:
                    self.left.append(observation)
        for task in pending_tasks(loop):
            interpreter.silence_destroyed(task)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _observe_ending(self, loop: AbstractEventLoop, runner: FrameType | None) -> list[Observation]:
        return self._observe_loop(loop, _main_coroutines(runner))

    def _observe_loop(self, loop: AbstractEventLoop, mains: Sequence[object] = ()) -> list[Observation]:
        """Note what is pending when a loop ends.

        The loop's own helpers are left out.  If a signal ends the program, or the main coroutine itself was interrupted (Ctrl+C),
        nothing has outlived it: only lost tasks are told then.
        """
        if loop in self.direct.foreign:
            return []
        entries = {id(task): entry for entry in self.entries() if (task := entry.ref()) is not None}
        task = None
        seen: list[Observation] = []
        waiting = pending_tasks(loop)
        interrupted = state.interrupts or any(one is task or one is task.get_coro() for one in mains for task in waiting)
        # Referred to weakly: a list of tasks would vouch for those that wait for each other.
        pending = cheapest_first(waiting)
        self.table.let_go()
        deadline = time.perf_counter() + END_PROOF_SECONDS
        for reference in pending:
            # Another thread's collection must neither hold the task during the proof nor prove it at the same time.
            with self.window.locking(deadline) as alone:
                box = [reference()]
                if box[0] is None:
                    continue
                entry = entries.get(id(box[0])) or without_site(box[0])
                if entry.told:
                    continue
                entry.told = True
                # Noted by a collection in another thread, before `told` kept it from doing so?
                known = not self.window.claim(entry) or entry.lost
                observation = Observation(entry, box[0].get_name(), awaiting(box[0]))
                seen.append(observation)
                if not known:
                    entry.lost = alone and time.perf_counter() < deadline and is_lost(box)
                    if entry.lost:
                        self.lost.append(observation)
                    elif self._judged(observation, interrupted, alone and time.perf_counter() < deadline) or not interrupted:
                        self.left.append(observation)
                box.clear()
        return seen

    def observe_rest(self, *, final: bool) -> list[Observation]:
        """Note what is still pending in loops that nobody closed, and return it; ``final`` says that the program ends now.

        A task that ends the program itself (it raises a signal) has not outlived it; the others of its loop have if it is the
        main one, else the main one is interrupted (`_observe_loop`).
        """
        seen = []
        deadline = time.perf_counter() + END_PROOF_SECONDS
        entries = self.entries()
        self.table.let_go()
        current, interrupted = running_task(entries)
        interrupted = interrupted or state.interrupts
        for entry in entries:
            box = [entry.ref()]
            if entry.told or entry.lost or box[0] is None or box[0].done() or box[0] is current or is_helper(box[0]):
                continue
            if not self.window.claim(entry):
                continue
            entry.told = True
            here = current is not None and box[0].get_loop() is current.get_loop()
            observation = Observation(entry, box[0].get_name(), awaiting(box[0]))
            observation.loop_runs = box[0].get_loop().is_running()
            seen.append(observation)
            if time.perf_counter() < deadline and is_lost(box):
                self.lost.append(observation)
            else:
                innocent = interrupted and final and (here or state.interrupts)
                if self._judged(observation, innocent, time.perf_counter() < deadline) or not innocent:
                    self.left.append(observation)
        return seen

    def _judged(self, observation: Observation, interrupted: bool, may_prove: bool) -> bool:  # noqa: FBT001
        if self.judge is not None:
            self.judge(observation, interrupted=interrupted, may_prove=may_prove)
        return bool(observation.reason)

    def take_back(self, observations: list[Observation]) -> None:
        """Take observations back: the program goes on, and these tasks with it."""
        for observation in observations:
            observation.entry.told = False
            self.window.give_up(observation.entry)
        for known in (self.lost, self.left):
            known[:] = [one for one in known if one not in observations]

    def entries(self) -> list[TaskEntry]:
        """Return what is known of all pending tasks."""
        self.settle()
        return self.table.entries()

    def oldest(self, most: int) -> Iterator[TaskEntry]:
        """Return what is known of the oldest pending tasks, for the agent's own thread: others get their turn in between."""
        for number, entry in enumerate(islice(self.table.pending(), most), 1):
            if not number % AT_ONCE:
                time.sleep(REST)
            yield entry

    def age_of(self, task: Any) -> float:  # noqa: ANN401 - a task
        """Return how old a task is, in seconds; 0 if it was not noted."""
        entry = self.table.search(task)
        return time.monotonic() - entry.created if entry is not None and entry.created else 0.0

    def running_loops(self) -> list[AbstractEventLoop]:
        """Return the loops of the pending tasks that run."""
        tasks = [task for entry in self.entries() if (task := entry.ref()) is not None]
        return [loop for loop in {task.get_loop() for task in tasks} if loop.is_running()]

    def adopt(self, loops: list[AbstractEventLoop]) -> int:
        """Note the pending tasks of loops that were there before the agent, and return how many there are."""
        with self.window.locking(time.perf_counter() + END_PROOF_SECONDS):
            tasks = [task for loop in loops for task in pending_tasks(loop)]
            # A collection may have found some of them in the meantime.
            known = {id(one()) for one in self.table.noted()}
            for task in tasks:
                if id(task) not in known:
                    self.table.young.extend(first_line(task))
        return len(tasks)

    def settle(self) -> None:
        """Bring the counts up to date: collections and sweeps, which do it else, can be long ago."""
        guard.call("asyncio sweep", self._settle)

    def _settle(self) -> None:
        deadline = time.perf_counter() + END_PROOF_SECONDS
        with self.window.locking(deadline) as alone:
            if alone:
                self.table.sweep_young()
        for block in [*self.table.old]:
            # The lock is what a collection in another thread waits for: it is not kept from block to block.
            with self.window.locking(deadline) as alone:
                if not alone:
                    return
                self.table.sweep_this(block)

    def record(self, observation: Observation) -> Record:
        """Return an observation as a record."""
        record = self._record(observation.entry, observation.name)
        record.detail["span"] = observation.span
        return record

    def record_of_failure(self, failure: Failure) -> Record:
        """Return an exception that nobody looked at as a record of its task."""
        record = self._record(failure.entry, failure.name)
        record.detail["span"] = failure.span
        return record

    def _record(self, entry: TaskEntry | None, name: str) -> Record:
        if entry is None:
            return Record(0, TASK, None, 0, time.monotonic(), self.registry.pid, name=name)
        code, lasti = (None, 0) if self.registry.level == "count" else entry.site
        made = Record(0, TASK, code, lasti, entry.created, self.registry.pid, name=name)
        made.stack = entry.stack
        return made

    def look_at_failed(self) -> None:
        """Note the exceptions that nobody has looked at when the program ends."""
        self.errors.look(self.entries())


def _rename(old: object, new: object) -> None:
    """Have the package's own names follow those of ``asyncio.tasks``."""
    package: Any = sys.modules["asyncio"]
    for name in ("create_task", "ensure_future"):
        if getattr(package, name, None) is old:
            setattr(package, name, new)


#: Function of asyncio -> its variable with what it runs.
_RUN_WITH = {"run": "coro", "run_until_complete": "future"}


def _main_coroutines(frame: FrameType | None) -> list[object]:
    """Return what the loop was run with, coroutines or tasks: still pending if it was interrupted (on 3.11 and newer not by the first Ctrl+C).

    That is the argument of ``asyncio.run``, and what the exception that ends the loop has passed through: ``anyio.run`` and others use
    ``asyncio.Runner`` itself.
    """
    found = []
    for _ in range(6):
        if frame is None:
            break
        if frame.f_code.co_name in {"run", "asyncio_run"} and "main" in frame.f_locals:
            found.append(frame.f_locals["main"])
        frame = frame.f_back
    error = sys.exc_info()[1]
    trace = None if error is None else error.__traceback__
    while trace is not None:
        name = _RUN_WITH.get(trace.tb_frame.f_code.co_name)
        if name is not None and trace.tb_frame.f_globals.get("__name__") in {
            "asyncio.runners",
            "asyncio.base_events",
            "taskgroup.runners",
        }:
            found.append(trace.tb_frame.f_locals.get(name))
        trace = trace.tb_next
    return [one for one in found if one is not None]
