"""posthog: its exit handler waits for the thread that sends, however long that takes.

The problem.  chromadb up to 1.5.2 reports its use by posthog, whose exit handler joins the sending thread without a timeout: 6 to 7 s
without a network, and more than 60 s where the other end accepts and never answers (measured with 1.0.20 and 1.4.1).  Newer
releases of posthog have a deadline of their own.

What we do.  That one join gets a deadline, and the thread is told if it has not ended by then.  In the middle of a program, and with a
network that works, everything is as it was.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread
    from types import ModuleType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.registry import Registry

    from .patching import Patches

#: Most seconds that its exit handler may wait, and the share of the budget that it may take.
SECONDS = 2.0
SHARE = 0.25


class Posthog:
    """Bounds the join of posthog's threads at the end of the program."""

    def __init__(self, _registry: Registry, settings: Settings) -> None:
        """Bound nothing yet."""
        self._seconds = min(SECONDS, settings.budget * SHARE)
        #: Threads that had not ended in time.
        self.given_up: list[Thread] = []

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch ``posthog.consumer``."""
        patches.override(module.Consumer, "join", self._make_join)

    def _make_join(self, original: Callable[..., None]) -> Callable[..., None]:
        def join(thread: Any, timeout: float | None = None) -> None:  # noqa: ANN401
            if timeout is not None or sys.modules["threading"].main_thread().is_alive():
                original(thread, timeout)
                return
            original(thread, self._seconds)
            if thread.is_alive():
                self.given_up.append(thread)

        return join
