"""The last resort: ends the process when its end does not come to an end.

It is armed while the agent itself does something at the end of the program, and from the moment that a signal asks for the end, but
never while Python waits for the program's own threads and children at a normal end.  A thread of the C level interface, not of `threading`: it is no thread of the program's, and the fork
warning of 3.12 and newer must not be caused by us, so it is started at the end only.  Where a thread can't be started any more
(3.12 refuses it once the main thread has ended), the one of `leakagent.shutdown.noticer` is borrowed.  Where that is not there either,
and in case that the last words hang, ``faulthandler`` watches in C; it can only end the process with status 1.
"""

from __future__ import annotations

import _thread
import os
import sys
import time

from leakagent import guard

from .closing import in_time
from .noticer import noticer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class End(Protocol):
        """What a forced end needs to know of the process; the first two are given `LAST_WORDS_SECONDS`."""

        def what(self) -> str:
            """Say what takes too long; empty if nothing is to be shown."""

        def last_words(self) -> None:
            """Tell what can still be told."""

        def forced(self) -> None:
            """End the process."""


#: Seconds for the stacks and the report of a process that is ended by force.
LAST_WORDS_SECONDS = 1.0


class Watchdog:
    """Forces the end when it is not disarmed in time."""

    def __init__(self, end: End) -> None:
        """Start unarmed; ``end`` knows what has to be said and done when it comes to that."""
        self._end = end
        self._armed: _thread.LockType | None = None
        self._faulthandler = False

    def arm(self, seconds: float, spent: float = 0.0) -> None:
        """Force the end of the process in ``seconds``, of which some are ``spent``, unless `disarm` is called before."""
        if self._armed is not None:
            return
        self._armed = lock = _thread.allocate_lock()
        lock.acquire()
        try:
            _thread.start_new_thread(guard.call, ("watchdog", self._watch, lock, seconds, max(0.0, seconds - spent)))
        except RuntimeError:
            is_watched = noticer.lend(lambda: self._watch(lock, seconds, max(0.0, seconds - spent)))
            self._watch_in_c(max(0.1, seconds - spent) + (LAST_WORDS_SECONDS if is_watched else 0.0))

    def _watch_in_c(self, seconds: float) -> None:
        import faulthandler

        try:
            faulthandler.dump_traceback_later(seconds, exit=True)
            self._faulthandler = True
        except (RuntimeError, ValueError, AttributeError, OSError):
            return  # no usable stderr

    def disarm(self) -> None:
        """Call the watchdog off."""
        if self._faulthandler:
            import faulthandler

            faulthandler.cancel_dump_traceback_later()
            self._faulthandler = False
        if self._armed is not None:
            self._armed.release()
            self._armed = None

    def _watch(self, lock: _thread.LockType, seconds: float, left: float) -> None:
        if not lock.acquire(timeout=left):
            self._force(seconds)

    def watch(self, seconds: float, spent: float = 0.0) -> None:
        """Force the end of the process in ``seconds``, of which some are ``spent``, waited for in this thread; nothing calls it off."""
        time.sleep(max(0.0, seconds - spent))
        self._force(seconds)

    def _force(self, seconds: float) -> None:
        try:
            in_time(LAST_WORDS_SECONDS, lambda: self._say(seconds))
        finally:
            self._end.forced()

    def _say(self, seconds: float) -> None:
        # One after the other, since each can fail: the error output may be closed, a stream's lock taken for ever.
        what = self._end.what()
        line = f"leakagent: {what} took longer than {seconds:g} s and is cut off here:\n"
        show = (lambda: os.write(2, line.encode()), _dump_stacks) if what else ()
        for step in (*show, self._end.last_words, _flush):
            try:
                step()
            except Exception:  # noqa: BLE001, S112 - the next one is to be tried whatever happens; contextlib is not loaded for it
                continue


def _dump_stacks() -> None:
    import faulthandler

    faulthandler.dump_traceback(file=2, all_threads=True)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
