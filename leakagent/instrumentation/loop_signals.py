"""Signals that an event loop has handled: when it hands them back, they are handled by the agent again.

``loop.add_signal_handler(SIGTERM, ...)`` replaces the agent's handler, and is in force instead of it: the program's own wins.  When it is
removed, by the program or by the loop's end, asyncio does not restore what it found, but the default action; uvloop restores nothing, and the
method of a closed loop stays the handler.  The program's own clean-up comes after that, and would be killed in the middle by the next
SIGTERM.
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
    from leakagent.shutdown.signals import Signals

    from .patching import Patches


class LoopSignals:
    """Sees event loops take signals and give them back."""

    signals: Signals

    def __init__(self, _registry: Registry, _settings: Settings) -> None:
        """Know of no loop."""

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch the loops of `asyncio.unix_events` or uvloop; each removes its handlers when it is closed."""
        is_uvloop = module.__name__ == "uvloop"
        loop, put = (module.Loop, patches.override) if is_uvloop else (module.SelectorEventLoop, patches.replace)
        put(loop, "add_signal_handler", self._make_add)
        put(loop, "remove_signal_handler", self._make_remove)

    def _make_add(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def add_signal_handler(loop: Any, sig: int, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            guard.call("loop signals", self.signals.lend, sig)
            return original(loop, sig, *args, **kwargs)

        return add_signal_handler

    def _make_remove(self, original: Callable[..., bool]) -> Callable[..., bool]:
        def remove_signal_handler(loop: Any, *args: Any, **kwargs: Any) -> bool:  # noqa: ANN401
            removed = original(loop, *args, **kwargs)
            guard.call("loop signals", self.signals.take_back)
            return removed

        return remove_signal_handler
