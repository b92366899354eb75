"""blockbuster: its detector of blocking calls lets the agent's own pass.

The problem.  blockbuster (the suites of starlette, anyio, langgraph) has blocking calls that are made in an event loop raise.  Where the agent notes
a new child or a fork it reads a file of the kernel's or takes a lock, for some microseconds; the exception would switch that part off.

What we do.  What is called by `leakagent.guard.call` is allowed to block, by blockbuster's own means: ``can_block_in`` of each of its functions.
"""

from __future__ import annotations

from leakagent import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.registry import Registry

    from .patching import Patches

_ALLOWED = "leakagent/guard.py"


class Blockbuster:
    """Has blockbuster let the agent pass."""

    def __init__(self, _registry: Registry, _settings: Settings) -> None:
        """Change nothing yet."""

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch ``blockbuster.blockbuster``."""
        patches.replace(module.BlockBusterFunction, "__init__", self._make_init)

    def _make_init(self, original: Callable[..., None]) -> Callable[..., None]:
        def __init__(function: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, N807 - blockbuster's object
            original(function, *args, **kwargs)
            guard.call("blockbuster", function.can_block_in, _ALLOWED, {guard.call.__name__})

        return __init__
