"""billiard, in whose processes Celery's prefork workers run.

A child of billiard ends by ``os._exit``: in a pool in the middle of the worker's own method, elsewhere when its work is done.  No exit handler
runs there, so what it left is told right before.  Celery has the kernel end its workers with their starter by itself.
"""

from __future__ import annotations

from leakagent.shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.registry import Registry

    from .patching import Patches


class Billiard:
    """Sees children of billiard come to their end."""

    def __init__(self, _registry: Registry, _settings: Settings) -> None:
        """Note nothing."""
        #: Called in a child right before it leaves.
        self.leaves: Callable[[], None] = lambda: None

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch ``billiard.process`` or ``billiard.pool``."""
        if module.__name__ == "billiard.process":
            patches.replace(module.BaseProcess, interpreter.BOOTSTRAP, self._make_bootstrap)
        else:
            patches.replace(module.Worker, "_do_exit", self._make_exit)

    def _make_bootstrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def _bootstrap(process: Any) -> Any:  # noqa: ANN401
            try:
                return original(process)
            finally:
                self.leaves()

        return _bootstrap

    def _make_exit(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def _do_exit(worker: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self.leaves()
            return original(worker, *args, **kwargs)

        return _do_exit
