"""loky's executors, which `joblib.Parallel` runs its jobs in; joblib brings a copy of loky.

The executor that loky itself keeps for everybody (``get_reusable_executor``, and so every ``Parallel``) ends its workers when they are
idle or the program ends: it is no leak.  One that the program makes by itself is noted as those of ``concurrent.futures`` are.

At the end of the program loky waits for all jobs, in an exit handler of its own that it registers with the first job and that runs
before those registered earlier.  After a signal nobody would end the workers in the meantime, so ours is registered right after it.
"""

from __future__ import annotations

from leakagent import guard
from leakagent.core.records import PROCESS_POOL
from leakagent.core.sites import outside_of_constructors
from leakagent.shutdown import interpreter

from .patching import hide_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.registry import Registry

    from .patching import Patches


class Loky:
    """Sees executors of loky."""

    def __init__(self, registry: Registry, _settings: Settings) -> None:
        """Start without executors."""
        self.registry = registry
        #: Called when the main thread has ended, before loky waits for its jobs.
        self.main_has_ended: Callable[[], None] = lambda: None
        self._registered: set[str] = set()

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch loky's module, or joblib's copy of it."""
        patches.replace(module.ProcessPoolExecutor, "__init__", self._make_init)
        patches.replace(module.ProcessPoolExecutor, "shutdown", self._make_shutdown)
        patches.replace(module.ProcessPoolExecutor, "submit", lambda original: self._make_submit(original, module.__name__))

    def _make_init(self, original: Callable[..., None]) -> Callable[..., None]:
        def __init__(pool: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, N807 - takes the place of the method
            try:
                original(pool, *args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            guard.call("loky", self._note, pool, interpreter.caller(1))

        return __init__

    def _make_shutdown(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def shutdown(pool: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            guard.call("loky", self._ended, pool)
            try:
                return original(pool, *args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise

        return shutdown

    def _make_submit(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        def submit(pool: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            try:
                future = original(pool, *args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            if name not in self._registered:
                guard.call("loky", self._register, name)
            return future

        return submit

    def _register(self, name: str) -> None:
        self._registered.add(name)
        interpreter.register_before_join(self.main_has_ended)

    def _note(self, pool: Any, frame: FrameType | None) -> None:  # noqa: ANN401
        if type(pool).__name__ != interpreter.LOKY_KEPT:
            self.registry.add(PROCESS_POOL, pool, outside_of_constructors(frame, pool))

    def _ended(self, pool: Any) -> None:  # noqa: ANN401
        for record in self.registry.of_kind(PROCESS_POOL):
            if record.resource() is pool:
                self.registry.finish(record)

    def forked(self) -> None:
        """Note in a forked child that its loky registers a handler anew."""
        self._registered.clear()
