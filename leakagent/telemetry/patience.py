"""How long telemetry may delay the end of the program: one allowance for all that the main thread waits for, and for what comes after.

The problem.  The end waits twice, for the SDK to be imported and for the last report to be sent, and once more without knowing:
Python takes down what was imported.  Each is short on an idle machine and long on a busy one.

What was measured.  An interpreter that has imported the SDK and its exporters takes a fifth of the time of that import longer to
finalize (CPython 3.11, grpc 45 of 190 ms, http 40 of 205 ms), and up to a half where the machine has become busier in the meantime.

What we do.  Whoever waits takes from what is left, and half of the time that the import took is put aside for the teardown, half of
the allowance at most.  Where the process ends without one (``os._exit``) nothing is put aside.  `benchmarks/exit_otel.py` measures it.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType

#: Time of the teardown, as a share of that of the import; and the most that is put aside for it, as a share of the allowance.
TEARDOWN = 1 / 2
MOST = 1 / 2


class Patience:
    """The allowance of one process."""

    __slots__ = ("_import_began", "_import_seconds", "_imported", "_left", "_seconds")

    def __init__(self, seconds: float, import_seconds: float = 0.0) -> None:
        """Start with all of it.

        Args:
            seconds: How long the end of the program may be delayed.
            import_seconds: How long the imports took that the parent of this process has made.

        """
        self._seconds = self._left = seconds
        self._import_seconds = import_seconds
        self._import_began: float | None = None
        self._imported = False

    def renewed(self) -> Patience:
        """Return the one of a forked child."""
        return Patience(self._seconds, self._import_seconds)

    def import_begins(self) -> None:
        """Note that the SDK is being imported from now on, in another thread."""
        self._import_began = time.monotonic()

    def import_ends(self) -> None:
        """Note that it has ended."""
        if self._import_began is not None:
            self._import_seconds += time.monotonic() - self._import_began
        self._import_began = None
        self._imported = True

    @property
    def left(self) -> float:
        """Return the seconds that are left, with those that were put aside."""
        return max(0.0, self._left)

    def wait(self, lock: LockType, *, teardown: bool = True) -> bool:
        """Wait for a lock as long as there is patience left.

        Args:
            lock: What another thread releases.
            teardown: Whether Python takes down what was imported afterwards.

        Returns:
            Whether it was released; it is held now.

        """
        began = time.monotonic()
        try:
            return lock.acquire(timeout=self._share(began) if teardown else self.left)
        finally:
            self._left -= time.monotonic() - began

    def _share(self, now: float) -> float:
        """Return the seconds that may be waited now, so that the teardown has its part."""
        began = self._import_began
        share = self._left - TEARDOWN * (self._import_seconds + (0.0 if began is None else now - began))
        if not self._imported:  # which costs more with each second of waiting
            share /= 1 + TEARDOWN
        return max(0.0, share, self._left - MOST * self._seconds)
