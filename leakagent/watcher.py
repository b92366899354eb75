"""The agent's own thread: looks at the running program now and then, from outside.

The problem.  A program that hangs does not come to its end, so what is found there is never told; somebody has to look while
it hangs.  An event loop that is blocked runs no timer, so it can't be asked to look at itself.

What does not work.  A `threading.Thread`: the program sees it in ``threading.enumerate``, and its thread checks call it a leak.
A thread from the start on: most programs need none, and ``os.fork`` in a process of more than one thread warns on 3.12 and
newer (it counts what the kernel counts, after the parent's fork handlers have run).

What we do.  One thread of the C level interface, started when the first event loop or executor is made.  It sleeps on a lock
with a timeout, a quarter of the threshold but never less than `SHORTEST` seconds, and refers to nothing of the program in the meantime.

A fork must not copy what the thread holds while it looks.  On 3.10 and 3.11 the fork waits until it has looked, and keeps it from looking
meanwhile (`Watcher.gate`).  From 3.12 on it would warn: there the thread is ended, and waited for until the kernel has forgotten it; it is
started again by the next event loop, executor or garbage collection.  In the child it is not there, and starts when it is needed.

No garbage is collected while it looks (`gc.disable`, for some milliseconds), since a collection runs the program's finalizers in
the thread that starts it.

What is still open.  What the program drops in the very moment in which this thread looks at it is finalized here; and a ``gc.disable()`` of
the program's own in such a moment is undone.  Where there is no ``/proc`` (macOS), the thread is waited for until it has left Python, not the kernel.
"""

from __future__ import annotations

import _thread
import os
import sys
import time

from leakagent import guard
from leakagent.shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Shortest time between two looks, in seconds.
SHORTEST = 0.25

#: Looks per threshold.
SHARE = 4

#: Part of its pace after which a look has its turn: the thread's own rests are not exact.
ON_TIME = 0.9

#: Seconds that a fork waits for the thread to end; it is in the middle of a look, or asleep.
END_SECONDS = 1.0

#: Seconds that a fork waits for the thread to have looked, before it ends it.
GATE_SECONDS = 0.1


class Turn:
    """One run of the thread: ``bell`` is kept locked and released to end it, ``ended`` is released by it."""

    __slots__ = ("bell", "ended", "native_id")

    def __init__(self) -> None:
        self.bell = _thread.allocate_lock()
        self.ended = _thread.allocate_lock()
        self.bell.acquire()
        self.ended.acquire()
        self.native_id = 0


class Pause:
    """Keeps the collector off while any of the agent's threads looks."""

    def __init__(self) -> None:
        """Start with none that looks."""
        self._lock = _thread.allocate_lock()
        self._looking = 0
        self._was_on = False

    def begin(self) -> None:
        """Switch the collector off, if it is on and no other thread has done so."""
        import gc

        with self._lock:
            if not self._looking:
                self._was_on = gc.isenabled()
                if self._was_on:
                    gc.disable()
            self._looking += 1

    def end(self) -> None:
        """Switch it on again, unless another thread still looks."""
        with self._lock:
            # In a child that a look has forked, `forked` has begun anew.
            self._looking = max(self._looking - 1, 0)
            if not self._looking:
                self._resume()

    def forked(self) -> None:
        """Begin anew in a child, where no other thread looks."""
        self._lock = _thread.allocate_lock()
        self._looking = 0
        self._resume()

    def _resume(self) -> None:
        if self._was_on:
            import gc

            self._was_on = False
            gc.enable()


#: Of this process.
pause = Pause()

_ALL: list[Watcher] = []


def own_threads() -> set[int]:
    """Return the system's numbers of the agent's threads that look or answer: they are no sign of the program's life."""
    return {one.native_id for one in _ALL} - {0}


class Watcher:
    """The thread, and what it calls.

    Attributes:
        looks: Called one after the other each time it wakes up.
        pause: Seconds between two looks.
        on_need: Called whenever this one is needed.
        gate: Locked while the thread does anything but wait, and during a fork.

    """

    #: What is switched off if it breaks.
    part = "watcher"

    def __init__(self) -> None:
        """Start nothing."""
        self.looks: list[Callable[[], None]] = []
        self.pause = float("inf")
        self.on_need: Callable[[], None] | None = None
        #: Looks with a pace of their own, in seconds, and when each look has its next turn.
        self._paces: dict[Callable[[], None], float] = {}
        self._next: dict[Callable[[], None], float] = {}
        self.gate = _thread.allocate_lock()
        #: The thread that keeps the gate shut while it forks.
        self._gatekeeper = 0
        self._enabled = False
        self._forking = False
        self._again = False
        self._turn: Turn | None = None
        self._collector: Any = None
        _ALL.append(self)

    def look_every(self, seconds: float, look: Callable[[], None]) -> None:
        """Have a look called at a pace of its own, once the thread is needed.

        Args:
            seconds: Between two calls.
            look: What is called.

        """
        if look not in self.looks:
            self._paces[look] = seconds
            self.looks.append(look)
            self._enabled = True

    @property
    def native_id(self) -> int:
        """The system's number of the thread, 0 if there is none."""
        turn = self._turn
        return 0 if turn is None else turn.native_id

    def enable(self, threshold: float) -> None:
        """Let it be started when it is needed.

        Args:
            threshold: Seconds after which stalled work is told.

        """
        self.pause = max(threshold / SHARE, SHORTEST)
        self._enabled = True

    def needed(self) -> None:
        """Start the thread if it does not run: something to look at was made."""
        if self.on_need is not None:
            self.on_need()
        if self._turn is not None or not self._enabled or self._forking or not self.looks:
            return
        self._again = False
        self._turn = turn = Turn()
        try:
            _thread.start_new_thread(guard.call, (self.part, self._start, turn))
        except RuntimeError:  # 3.12 starts none when the main thread has ended; or there are too many
            self._turn = None

    def _start(self, turn: Turn) -> None:
        try:
            self._run(turn)
        finally:
            turn.ended.release()

    def _run(self, turn: Turn) -> None:
        turn.native_id = _thread.get_native_id()
        # A signal is for the main thread, whose system call it has to interrupt.
        interpreter.block_all()
        while not turn.bell.acquire(timeout=self._rest()) and self.part not in guard.disabled:
            with self.gate:
                self._look(self._due())

    def _rest(self) -> float:
        return min([self.pause, *list(self._paces.values())])

    def _due(self) -> list[Callable[[], None]]:
        """Return the looks whose turn it is."""
        now = time.monotonic()
        due = [look for look in list(self.looks) if now >= self._next.get(look, 0.0)]
        for look in due:
            self._next[look] = now + ON_TIME * self._paces.get(look, self.pause)
        return due

    def _look(self, looks: list[Callable[[], None]] | None = None) -> None:
        # No collection in this thread: it would run the program's finalizers here, and some of them (tkinter's) must run in their own.
        pause.begin()
        try:
            for look in list(self.looks) if looks is None else looks:
                guard.call(self.part, look)
        finally:
            pause.end()

    def wake(self) -> None:
        """Get the thread out of what it waits for besides its bell."""

    def stop(self, *, uncounted: bool = True) -> None:
        """End the thread and wait until it has ended, and is ``uncounted`` by the kernel as well."""
        turn, self._turn = self._turn, None
        if turn is None:
            return
        turn.bell.release()
        self.wake()
        if turn.native_id == _thread.get_native_id():
            return  # a look itself forks
        end = time.monotonic() + END_SECONDS
        if turn.ended.acquire(timeout=END_SECONDS) and uncounted:
            # It has left Python, and is not yet gone from what the kernel counts.
            while os.path.exists(f"/proc/self/task/{turn.native_id}") and time.monotonic() < end:
                time.sleep(0.0002)

    def end(self) -> None:
        """End the thread for good: the program ends, or the agent is taken out."""
        self._enabled = False
        self.stop(uncounted=False)
        self.looks.clear()
        self._paces.clear()
        self._next.clear()
        self.on_need = None
        if self._collector is not None and self._on_collection in self._collector.callbacks:
            self._collector.callbacks.remove(self._on_collection)

    # -- fork --------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Keep the thread from looking, or end it, so that the fork neither copies what it holds nor warns because of it."""
        self._forking = True
        if self._turn is not None and not self._is_shut_out(self._turn):
            self._again = True
            self.stop()
            import gc

            self._collector = gc
            if self._on_collection not in gc.callbacks:
                gc.callbacks.append(self._on_collection)

    def _is_shut_out(self, turn: Turn) -> bool:
        """Shut the gate for a fork; False where the thread has to be ended."""
        here = _thread.get_ident()
        if (
            interpreter.FORK_COUNTS_THREADS
            or turn.native_id == _thread.get_native_id()
            or not self.gate.acquire(timeout=GATE_SECONDS)
        ):
            return False
        self._gatekeeper = here
        return True

    def after_fork(self) -> None:
        """Let it look again in the parent, or be started again, but not yet: the threads are counted right after this."""
        self._forking = False
        if self._gatekeeper == _thread.get_ident():
            self._gatekeeper = 0
            self.gate.release()

    def forked(self) -> None:
        """Forget the parent's thread in a child."""
        self._forking = self._again = False
        self.gate, self._gatekeeper = _thread.allocate_lock(), 0
        self._turn = None
        pause.forked()

    def _on_collection(self, phase: str, _info: dict[str, int]) -> None:
        try:
            if self._again and phase == "stop" and not sys.is_finalizing():
                self.needed()
        except Exception as error:  # noqa: BLE001 - called in the middle of the program
            guard.failed(self.part, error)


#: Of this process.
watcher = Watcher()
