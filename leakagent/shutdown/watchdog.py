"""The last resort: ends the process when the agent's own clean-up does not come to its end.

It is armed only while the agent itself does something at the end of the program, never while Python waits for the program's
own threads and children.  A thread of the C level interface, not of `threading`: it is no thread of the program's, and the fork
warning of 3.12 and newer must not be caused by us, so it is started at the end only.  Where a thread can't be started any more
(3.12 refuses it once the main thread has ended), ``faulthandler`` watches in C; it can only end the process with status 1.
"""

from __future__ import annotations

import _thread
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Watchdog:
    """Forces the end when it is not disarmed in time."""

    def __init__(self, status: Callable[[], int | None]) -> None:
        """Start unarmed; ``status`` tells the exit status that the program has, if it is known."""
        self._status = status
        self._armed: _thread.LockType | None = None
        self._faulthandler = False

    def arm(self, seconds: float) -> None:
        """Force the end of the process in ``seconds`` unless `disarm` is called before."""
        if self._armed is not None:
            return
        self._armed = lock = _thread.allocate_lock()
        lock.acquire()
        try:
            _thread.start_new_thread(self._watch, (lock, seconds))
        except RuntimeError:
            import faulthandler

            try:
                faulthandler.dump_traceback_later(seconds, exit=True)
                self._faulthandler = True
            except (RuntimeError, ValueError, AttributeError, OSError):
                return  # no usable stderr: nothing is left to force the end with

    def disarm(self) -> None:
        """Call the watchdog off."""
        if self._faulthandler:
            import faulthandler

            faulthandler.cancel_dump_traceback_later()
            self._faulthandler = False
        if self._armed is not None:
            self._armed.release()
            self._armed = None

    def _watch(self, lock: _thread.LockType, seconds: float) -> None:
        if lock.acquire(timeout=seconds):
            return
        try:
            os.write(2, f"leakagent: its own clean-up took longer than {seconds:g} s and is cut off here:\n".encode())
            import faulthandler

            faulthandler.dump_traceback(file=2, all_threads=True)
        except Exception:  # noqa: BLE001, S110 - without an error output it ends all the same
            pass
        try:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        finally:
            os._exit(self._status() or 0)
