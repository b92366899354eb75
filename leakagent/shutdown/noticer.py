"""A signal that comes while the main thread is in C code: it is noticed all the same.

The problem.  Python runs the handler of a signal in its main thread, between two instructions.  A main thread that is in C code for a
minute (a hash, a query, a model that computes) runs none, and SIGTERM, which would have ended the program at once without
the agent, does nothing for a minute: no second signal and no budget could end it, since both begin with the handler.

What does not work.  A thread that waits for signals: they would have to be blocked in all others, children included.  A thread that
asks whether one has come: nothing but the interpreter's own memory knows.

What we do.  Python can write the number of each signal to a descriptor in the very moment in which it comes
(`signal.set_wakeup_fd`).  A thread of ours reads it from a pipe.  Normally the handler has run by then, and that was all.  If it has
not run when the budget is over, the process is ended by force; a second signal in the meantime ends it at once.

The descriptor is taken only where it is free, and given up to whoever asks for it: asyncio takes it for ``add_signal_handler``, trio for
each run, without looking.  They are told that it was free (trio warns otherwise), and when they give it back, ours is set again.

A program that closes all descriptors would get the byte into a file of its own, if that had the same number.  So ours has one of
the highest that the process may have: the program would have to have that many files open.

The thread is there where a program has background work already (an event loop, a pool, a thread), or has loaded a library
that computes for long (`COMPUTING`): nothing changes for a small script, which can have threads as few as it wants, and a fork does
with the thread what it does with `leakagent.watcher`'s.

What is still open.  C code that holds the interpreter's lock keeps this thread from running as well.  uvloop has the descriptor for itself while it runs.
Elsewhere than on POSIX a descriptor has to be a socket; nothing is done there.
"""

from __future__ import annotations

import _thread
import os
import time

from leakagent import guard
from leakagent.watcher import Watcher

from . import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from leakagent.watcher import Turn

#: Modules whose calls may take long in C code, and let other threads run meanwhile.
COMPUTING = (
    *("hashlib", "sqlite3", "numpy", "torch", "pyarrow", "duckdb", "ctypes", "cffi"),
    *("onnxruntime", "tokenizers", "llama_cpp", "chromadb_rust_bindings", "lancedb", "grpc", "psycopg2"),
)

#: Seconds that a handler gets to run before a second signal ends the process without it.
MOMENT = 0.5

#: Seconds between two looks whether the handler has run.
_POLL = 0.05

#: Seconds before a byte is read, in which the handler may have run because of the same signal.
_EARLIER = 1.0

#: Descriptors are looked for below this number.
_HIGHEST = 1024


class Noticer(Watcher):
    """Reads which signals have come.

    Attributes:
        is_ours: Says whether a signal is one that the agent handles.
        handled_at: When the agent's handler has run last, on the clock of `time.monotonic`.
        since: When a signal came that the handler has not run for yet, else 0.
        cut_off: Ends the process by force, since the handler of this signal has not run for the whole budget.
        die: Ends the process at once, by this signal.

    """

    part = "signals in C code"

    def __init__(self) -> None:
        """Take nothing."""
        super().__init__()
        self.is_ours: Callable[[int], bool]
        self.cut_off: Callable[[int], None]
        self.die: Callable[[int], None]
        self.handled_at = 0.0
        self.since = 0.0
        self._budget = 0.0
        self._reading = self._writing = -1
        self._errand: Callable[[], None] | None = None

    def lend(self, errand: Callable[[], None]) -> bool:
        """Have this thread do something else from now on, where no new one can be started.

        Args:
            errand: What it does; signals are read again when that has ended.

        Returns:
            False if there is no such thread, or it is lent already.

        """
        if self._turn is None or self._errand is not None:
            return False
        self._errand = errand
        self.wake()
        return True

    def offer(self, budget: float) -> None:
        """Let it be started when it is needed; a handler has ``budget`` seconds to run."""
        if os.name == "posix":
            self._budget = budget
            self.looks = [lambda: None]
            self.enable(0)
            _make_room()

    def needed(self) -> None:
        """Start the thread, if the descriptor is free; only the main thread can."""
        if self._turn is None and self._enabled and interpreter.in_main_thread() and (self._writing >= 0 or self._open()):
            super().needed()

    def make_set(self, original: Callable[..., int]) -> Callable[..., int]:
        """Make the function that takes the place of `signal.set_wakeup_fd`: ours is not seen, and is set again when nobody else's is."""

        def set_wakeup_fd(*args: Any, **kwargs: Any) -> int:  # noqa: ANN401
            previous = original(*args, **kwargs)
            if self._writing < 0:
                return previous
            if args and args[0] == -1:
                try:  # noqa: SIM105 - contextlib brings functools and collections with it
                    original(self._writing, warn_on_full_buffer=False)
                except (OSError, ValueError):  # the program has closed it
                    pass
            return -1 if previous == self._writing else previous

        return set_wakeup_fd

    def _open(self) -> bool:
        reading = writing = -1
        try:
            reading, writing = map(_moved_up, os.pipe())
            os.set_blocking(writing, False)
            if interpreter.take_wakeup(writing):
                self._reading, self._writing = reading, writing
                return True
        except (OSError, ValueError):
            pass
        # No descriptor is left, or somebody else has it.
        self._enabled = False
        for descriptor in (reading, writing):
            if descriptor >= 0:
                os.close(descriptor)
        return False

    def _run(self, turn: Turn) -> None:
        turn.native_id = _thread.get_native_id()
        interpreter.block_all()
        while self._turn is turn and self.part not in guard.disabled:
            try:
                numbers = os.read(self._reading, 64)
            except OSError:  # the program has closed it
                return
            if self._errand is not None:
                guard.call(self.part, self._errand)
                self._errand = None
                continue
            with self.gate:
                if not numbers or self._await_handler(turn, numbers):
                    return

    def _await_handler(self, turn: Turn, numbers: bytes) -> bool:
        """Wait until the handler has run; return whether the thread is to end."""
        begin = time.monotonic()
        came = [number for number in numbers if number and self.is_ours(number)]
        if not came:
            # Others can come a thousand times a second (a profiler's): they are read all at once.
            return self._ends(turn)
        self.since = begin
        os.set_blocking(self._reading, False)
        try:
            while self.handled_at < begin - _EARLIER and self.is_ours(came[0]) and self._errand is None:
                waited = time.monotonic() - begin
                if waited > self._budget or (len(came) > 1 and waited > MOMENT):
                    (self.cut_off if waited > self._budget else self.die)(came[-1])
                if self._ends(turn):
                    return True
                came += [number for number in self._more() if number and self.is_ours(number)]
            return False
        finally:
            self.since = 0.0
            os.set_blocking(self._reading, True)

    def _ends(self, turn: Turn) -> bool:
        """Wait a moment, in which a fork is possible; return whether the thread is to end."""
        self.gate.release()
        try:
            return turn.bell.acquire(timeout=_POLL)
        finally:
            self.gate.acquire()

    def _more(self) -> bytes:
        try:
            return os.read(self._reading, 64)
        except BlockingIOError:
            return b""

    def wake(self) -> None:
        """Get the thread out of its ``read``."""
        if self._writing >= 0:
            try:  # noqa: SIM105 - contextlib brings functools and collections with it
                os.write(self._writing, b"\0")
            except OSError:  # the program has closed it
                pass

    def end(self) -> None:
        """End the thread for good, if it is not lent, and give the descriptor back."""
        if self._errand is None:
            super().end()
        self._close()

    def forked(self) -> None:
        """Give the parent's descriptor back in a child."""
        super().forked()
        self._enabled = False
        self._errand = None
        self.since = self.handled_at = 0.0
        self._close()

    def _close(self) -> None:
        reading, writing = self._reading, self._writing
        if writing < 0 or not interpreter.give_wakeup_back(writing):
            return
        self._reading = self._writing = -1
        for descriptor in (reading, writing):
            try:  # noqa: SIM105 - contextlib brings functools and collections with it
                os.close(descriptor)
            except OSError:  # the program was first
                pass


def _make_room() -> None:
    """Have the kernel make its table of descriptors as long as the numbers that are taken later need it.

    Linux makes it longer in microseconds while a process has one thread, and in ten milliseconds when it has several
    (``expand_fdtable`` in ``fs/file.c`` waits for all processors); it is never made shorter.
    """
    try:
        for descriptor in os.pipe():
            os.close(_moved_up(descriptor))
    except OSError:  # none is left now; `Noticer.needed` tries again
        pass


def _moved_up(descriptor: int) -> int:
    """Return a duplicate with the highest number that is free, in place of a descriptor."""
    number = min(int(os.sysconf("SC_OPEN_MAX")), _HIGHEST)
    for wanted in range(number - 1, descriptor, -1):
        try:
            os.fstat(wanted)
        except OSError:
            os.dup2(descriptor, wanted, inheritable=False)
            os.close(descriptor)
            return wanted
    return descriptor


#: Of this process.
noticer = Noticer()
