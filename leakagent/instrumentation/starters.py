"""Where a child learns which process has started it, and serves nobody else: it ends with that one.

`multiprocessing` runs ``BaseProcess._bootstrap`` in every child, whatever started it; uvicorn's and hypercorn's workers and loky's
are such children.  gunicorn forks its workers itself, and werkzeug's reloader starts the program anew by `subprocess`.
"""

from __future__ import annotations

import os

from leakagent import guard
from leakagent.shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from .patching import Patches


def patch(module: ModuleType, patches: Patches, watch: Callable[[int], None]) -> None:
    """Have ``watch(starter's pid)`` called in the children of one of the modules of `STARTERS`, in their main thread."""

    def make_bootstrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def _bootstrap(process: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            guard.call("parent watch", lambda: watch(interpreter.starter_of(process)))
            return original(process, *args, **kwargs)

        return _bootstrap

    def make_init_process(original: Callable[..., Any]) -> Callable[..., Any]:
        def init_process(worker: Any) -> Any:  # noqa: ANN401
            # It does not come back: it runs the worker.
            guard.call("parent watch", _watch_if_known, watch, getattr(worker, "ppid", 0))
            return original(worker)

        return init_process

    def make_run_with_reloader(original: Callable[..., Any]) -> Callable[..., Any]:
        def run_with_reloader(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if os.environ.get("WERKZEUG_RUN_MAIN") == "true":
                guard.call("parent watch", watch, os.getppid())
            return original(*args, **kwargs)

        return run_with_reloader

    if module.__name__ == "multiprocessing.process":
        patches.replace(module.BaseProcess, interpreter.BOOTSTRAP, make_bootstrap)
    elif module.__name__ == "gunicorn.workers.base":
        patches.replace(module.Worker, "init_process", make_init_process)
    else:
        patches.replace(module, "run_with_reloader", make_run_with_reloader)


def _watch_if_known(watch: Callable[[int], None], starter: int) -> None:
    """Watch the starter of a worker; one whose class has an ``__init__`` of its own may not know it."""
    if starter:
        watch(starter)
