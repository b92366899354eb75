"""Executors: who made them, whether they were shut down, and what they still have to do.

``concurrent.futures`` frees an executor that is dropped, and its workers then run what is queued and end: so the agent keeps
executors weakly and lets the library do that.  Nothing is done per job.

`multiprocessing.pool.ThreadPool` and `Pool` are neither subclass nor user of ``concurrent.futures``: they are noted at their
own constructor, and ended by ``terminate``, ``close`` or ``with``.
"""

from __future__ import annotations

from leakagent import guard
from leakagent.core.records import PROCESS_POOL, THREAD_POOL
from leakagent.shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.records import Record
    from leakagent.core.registry import Registry

    from .patching import Patches


class Executors:
    """Sees thread and process pools."""

    def __init__(self, registry: Registry, _settings: Settings) -> None:
        """Start without executors."""
        self.registry = registry

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

    def _make_init(self, original: Callable[..., None], kind: str) -> Callable[..., None]:
        def __init__(pool: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, N807 - takes the place of the method
            original(pool, *args, **kwargs)
            guard.call("executors", self._note, pool, kind, interpreter.caller(1))

        return __init__

    def _make_end(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def end(pool: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            guard.call("executors", self._ended, pool)
            return original(pool, *args, **kwargs)

        return end

    def _note(self, pool: Any, kind: str, frame: FrameType | None) -> None:  # noqa: ANN401
        if type(pool).__name__ == "ThreadPool":
            kind = THREAD_POOL
        name = getattr(pool, "_thread_name_prefix", "") if kind == THREAD_POOL else ""
        self.registry.add(kind, pool, outside_of_constructors(frame, pool), name=name)

    def _ended(self, pool: Any) -> None:  # noqa: ANN401
        record = self.record_of(pool)
        if record is not None:
            self.registry.finish(record)

    def record_of(self, pool: Any) -> Record | None:  # noqa: ANN401
        """Return the record of a pool that was not ended."""
        for record in self.registry.of_kind(THREAD_POOL, PROCESS_POOL):
            if record.resource() is pool:
                return record
        return None

    def left_over(self) -> list[Record]:
        """Return the records of pools whose ``shutdown`` (``close``, ``terminate``) was not called, alive or dropped.

        The pool itself can't be asked: workers that end with the interpreter mark it as shut down.
        """
        return self.registry.of_kind(THREAD_POOL, PROCESS_POOL)


def outside_of_constructors(frame: FrameType | None, resource: object) -> FrameType | None:
    """Walk over the constructors of subclasses: the site is where the object was asked for."""
    while frame is not None and frame.f_code.co_name == "__init__" and frame.f_code.co_argcount:
        if frame.f_locals.get(frame.f_code.co_varnames[0]) is not resource or frame.f_back is None:
            break
        frame = frame.f_back
    return frame
