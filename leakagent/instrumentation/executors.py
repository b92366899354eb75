"""Executors: who made them, whether they were shut down, and what they still have to do.

``concurrent.futures`` frees an executor that is dropped, and its workers then run what is queued and end: so the agent keeps
executors weakly and lets the library do that.  Nothing is done per job.

Two ends are bounded, in which a program hangs although it was asked to end.  ``with ThreadPoolExecutor()`` that is left by Ctrl+C runs the
whole queue first: what has not begun is cancelled, what runs gets the grace.  An event loop at its end waits for its default
executor (``_do_shutdown`` in a thread of its own, in asyncio as in uvloop): after a signal, or Ctrl+C, for the grace, else as long as its
workers aren't proven stuck.

`multiprocessing.pool.ThreadPool` and `Pool` are neither subclass nor user of ``concurrent.futures``: they are noted at their
own constructor, and ended by ``terminate``, ``close`` or ``with``.
"""

from __future__ import annotations

import sys
import time
import weakref

from leakagent import guard
from leakagent.core.records import PROCESS_POOL, THREAD_POOL
from leakagent.core.sites import outside_of_constructors
from leakagent.shutdown import interpreter
from leakagent.shutdown.closing import GIVEN_UP, QUIET_SHARE, wait_like_python
from leakagent.shutdown.signals import state
from leakagent.watcher import watcher

from .patching import hide_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread
    from types import FrameType, ModuleType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.records import Record
    from leakagent.core.registry import Registry

    from .patching import Patches


#: `multiprocessing` has pools of its own: leaving ``with`` ends them at once, whatever is queued.
_FIX = "pool.close() and pool.join() when all jobs are handed in (leaving `with pool:` drops those that have not ended)"


class Executors:
    """Sees thread and process pools."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Start without executors."""
        self.registry = registry
        self.grace = settings.grace
        self.quiet = settings.budget * QUIET_SHARE
        #: Has the event loops that run in some threads end, after a signal (`leakagent.ending`).
        self.end_loops: Callable[[list[Thread]], None] = lambda _threads: None
        #: Workers that an event loop of the main thread waits for at its end.
        self.main_waits_for: list[Thread] = []
        self._cancelling = False
        self._bases: list[type] = []
        #: Workers of thread pools that were shut down: a job that never ends keeps the process from ending all the same.
        self._of_shut_down: weakref.WeakKeyDictionary[Thread, Record] = weakref.WeakKeyDictionary()

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch a module of `leakagent.instrumentation.TARGETS`."""
        ends: tuple[str, ...]
        if module.__name__ == "multiprocessing.pool":
            # ThreadPool is a subclass of Pool and calls its constructor.
            pool, kind, ends = module.Pool, PROCESS_POOL, ("close", "terminate")
        elif module.__name__ == "concurrent.futures.process":
            pool, kind, ends = module.ProcessPoolExecutor, PROCESS_POOL, ("shutdown",)
        else:
            pool, kind, ends = module.ThreadPoolExecutor, THREAD_POOL, ("shutdown",)
        patches.replace(pool, "__init__", lambda original: self._make_init(original, kind))
        for name in ends:
            patches.replace(pool, name, self._make_end)
        base = interpreter.executor_base()
        if base is not None and issubclass(pool, base) and base not in self._bases:
            self._bases.append(base)
            patches.replace(base, "__exit__", self._make_exit)

    def _make_init(self, original: Callable[..., None], kind: str) -> Callable[..., None]:
        def __init__(pool: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, N807 - takes the place of the method
            try:
                original(pool, *args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            guard.call("executors", self._note, pool, kind, interpreter.caller(1))

        return __init__

    def _make_end(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def end(pool: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if not self._cancelling:
                guard.call("executors", self._ended, pool)
            loop_thread = guard.call("executors", interpreter.closing_loop, interpreter.caller(1))
            if loop_thread and guard.call("executors", self._end_with_loop, original, pool, loop_thread):
                return None
            try:
                return original(pool, *args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise

        return end

    def _end_with_loop(self, original: Callable[..., None], pool: Any, loop_thread: int) -> bool:  # noqa: ANN401
        original(pool, wait=False)
        threads = interpreter.pool_threads(pool)

        begin = time.monotonic()

        def deadline() -> float | None:
            end = state.deadline(self.grace)
            if end is None and interpreter.is_interrupted(loop_thread):
                state.interrupted(self.grace)
                end = begin + self.grace
            if end is not None:
                self.end_loops(threads)
            return end

        of_main = loop_thread == sys.modules["threading"].main_thread().native_id
        self.main_waits_for = threads if of_main else []
        try:
            left = wait_like_python(
                lambda: [thread for thread in threads if thread.is_alive()], self.quiet, deadline, waiting=loop_thread
            )
        finally:
            self.main_waits_for = []
        GIVEN_UP.update(left)
        return True

    def _make_exit(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def __exit__(pool: Any, exc_type: Any, exc_val: Any, exc_tb: Any) -> Any:  # noqa: ANN401, N807 - takes the place of the method
            if guard.call("executors", self._may_leave, pool, exc_type) is False:
                return False
            try:
                return original(pool, exc_type, exc_val, exc_tb)
            except BaseException as error:
                hide_frames(error)
                raise

        return __exit__

    def _may_leave(self, pool: Any, exc_type: Any) -> bool:  # noqa: ANN401
        return not _asked_to_end(exc_type) or self._leave(pool)

    def _leave(self, pool: Any) -> bool:  # noqa: ANN401
        """Cancel what has not begun, and return whether the rest ended within the grace."""
        threads = interpreter.pool_waits_for(pool)
        if not threads:
            return True
        pool.shutdown(wait=False, cancel_futures=True)
        end = time.monotonic() + self.grace
        state.interrupted(self.grace)
        try:
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))
        finally:
            # At the end of the program they don't get it a second time, nor after a second Ctrl+C.
            GIVEN_UP.update(thread for thread in interpreter.pool_threads(pool) if thread.is_alive())
        return not any(thread.is_alive() for thread in threads)

    def _note(self, pool: Any, kind: str, frame: FrameType | None) -> None:  # noqa: ANN401
        if self.registry.is_own(outside_of_constructors(frame, pool)):
            return
        if type(pool).__name__ == "ThreadPool":
            kind = THREAD_POOL
        name = interpreter.pool_name(pool) if kind == THREAD_POOL else ""
        record = self.registry.add(kind, pool, outside_of_constructors(frame, pool), name=name)
        if not hasattr(pool, "shutdown"):
            record.detail["fix"] = _FIX
        if kind == THREAD_POOL:
            watcher.needed()

    def adopt(self, pools: list[tuple[Any, str]]) -> int:
        """Note open pools that were made before the agent, each with what the program calls it, and return how many there are."""
        known = {id(record.resource()) for record in self.left_over()}
        new = [(pool, name) for pool, name in pools if id(pool) not in known]
        for pool, name in new:
            is_threads = interpreter.is_thread_pool(pool)
            record = self.registry.adopt(THREAD_POOL if is_threads else PROCESS_POOL, pool, None, name=name)
            if not hasattr(pool, "shutdown"):
                record.detail["fix"] = _FIX
        if new:
            watcher.needed()
        return len(new)

    def _ended(self, pool: Any) -> None:  # noqa: ANN401
        record = self.record_of(pool)
        if record is not None:
            self.registry.finish(record)
            for thread in interpreter.pool_threads(pool):
                self._of_shut_down[thread] = record

    def shut_down_pool_of(self, thread: Thread) -> Record | None:
        """Return the record of the pool that was shut down and whose worker this thread is, or None."""
        return self._of_shut_down.get(thread)

    def record_of(self, pool: Any) -> Record | None:  # noqa: ANN401
        """Return the record of a pool that was not ended."""
        for record in self.registry.of_kind(THREAD_POOL, PROCESS_POOL):
            if record.resource() is pool:
                return record
        return None

    def cancel(self, pool: Any) -> None:  # noqa: ANN401
        """Cancel what a process pool has not begun; it stays a finding that nobody else has shut it down."""
        self._cancelling = True
        try:
            pool.shutdown(wait=False, cancel_futures=True)
        finally:
            self._cancelling = False

    def left_over(self) -> list[Record]:
        """Return the records of pools whose ``shutdown`` (``close``, ``terminate``) was not called, alive or dropped.

        The pool itself can't be asked: workers that end with the interpreter mark it as shut down.
        """
        return self.registry.of_kind(THREAD_POOL, PROCESS_POOL)


def _asked_to_end(exc_type: Any) -> bool:  # noqa: ANN401
    return exc_type is not None and issubclass(exc_type, (KeyboardInterrupt, *([SystemExit] if state.number else [])))
