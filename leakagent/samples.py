"""How many resources of each kind were open, and how much memory the process had, over its life: the timeline of the report.

Only for programs that asked for a report that shows it (``html:PATH``, ``json:PATH``): a thread of its own looks
(`leakagent.watcher.Watcher`), first four times a second, then ever less often.  When `MOST` samples are there, every other one is dropped
and the pause doubled, so that a second and a week get the same picture, and the looks in all grow with the logarithm of the time.
"""

from __future__ import annotations

import _thread
import os
import time

from leakagent import guard
from leakagent.shutdown import interpreter
from leakagent.watcher import Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leakagent.core.registry import Registry
    from leakagent.watcher import Turn

#: Samples that are kept at most.
MOST = 120

#: Seconds between the first looks.
FIRST_PAUSE = 0.25


class Samples(Watcher):
    """The thread, and what it has seen.

    Attributes:
        taken: Samples, oldest first: ``time.time()``, bytes of resident memory (0 if unknown), and the live count of each kind.

    """

    part = "timeline"

    def __init__(self) -> None:
        """Take none yet."""
        super().__init__()
        self.taken: list[tuple[float, int, dict[str, int]]] = []
        self._registry: Registry | None = None

    def offer(self, registry: Registry) -> None:
        """Let it be started when it is needed."""
        self._registry = registry
        self.taken = []
        self.looks = [self.take]
        self.enable(0)
        self.pause = FIRST_PAUSE

    def _run(self, turn: Turn) -> None:
        # Unlike the other watcher it looks at once: a short program has a timeline as well.
        turn.native_id = _thread.get_native_id()
        interpreter.block_all()
        with self.gate:
            self._look()
        while not turn.bell.acquire(timeout=self.pause) and self.part not in guard.disabled:
            with self.gate:
                self._look()

    def take(self) -> None:
        """Take one sample."""
        if self._registry is None:
            return
        live = {kind: counts["live"] for kind, counts in self._registry.totals().items()}
        self.taken.append((time.time(), resident_bytes(), live))
        if len(self.taken) >= MOST:
            self.taken = self.taken[::2]
            self.pause *= 2

    def forked(self) -> None:
        """Forget the parent's samples in a child."""
        super().forked()
        self.taken = []
        self.pause = FIRST_PAUSE


def resident_bytes() -> int:
    """Return how much of this process's memory is resident (proc(5), second field of ``statm``), 0 where it is not told."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError, AttributeError):
        return 0


#: Of this process.
samples = Samples()
