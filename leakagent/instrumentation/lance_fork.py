"""A forked child that uses a lancedb which is not fork-safe: told before it hangs.

Up to some release of 2026 lancedb has no hook that gives a forked child a background loop and a native runtime of its own (measured: 0.14.0,
0.19.0 and 0.24.0 hang in the child's first call, 0.40.0 does not).  That call is told with its line; it is not changed.
"""

from __future__ import annotations

import sys

from .lance_loop import background_loop, is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: The hook that newer releases have.
_SAFE = "_reset_after_fork"

#: What a child calls: with the background loop in versions that have it, else directly.
_CLASSES = (("lancedb.db", "AsyncConnection"), ("lancedb.table", "AsyncTable"))
_EARLY_CLASSES = (*_CLASSES, ("lancedb.db", "LanceDBConnection"), ("lancedb.table", "LanceTable"))


def watch(tell: Callable[[], object]) -> None:
    """Have the first call in this forked child told.

    Args:
        tell: Called once, by that call, before it is made.

    """
    module = sys.modules.get("lancedb.background_loop")
    if _SAFE in vars(module or object):
        return
    told: list[bool] = []

    def once() -> None:
        if not told:
            told.append(True)
            tell()

    background = background_loop()
    if background is not None:
        _watch_loop(background, once)
    for name, owner in _CLASSES if background is not None else _EARLY_CLASSES:
        found = getattr(sys.modules.get(name), owner, None)
        if found is not None:
            _watch_class(found, once)


def _watch_loop(background: Any, tell: Callable[[], object]) -> None:  # noqa: ANN401 - lancedb's object
    before = background.run

    def run(future: Any) -> Any:  # noqa: ANN401
        if not is_alive(background):
            tell()
        return before(future)

    background.run = run


def _watch_class(owner: type, tell: Callable[[], object]) -> None:
    if "__getattribute__" in vars(owner):
        return
    before: Any = owner.__getattribute__

    def __getattribute__(instance: object, name: str) -> Any:  # noqa: ANN401, N807 - takes the place of the method
        # A public method is asked for in order to call it.
        if not name.startswith("_") and callable(getattr(owner, name, None)):
            del owner.__getattribute__
            tell()
        return before(instance, name)

    owner.__getattribute__ = __getattribute__  # type: ignore[method-assign, assignment]
