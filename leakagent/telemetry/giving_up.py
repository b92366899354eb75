"""A thread that is given up, at the end of a program, in the middle of an import or of a line for the terminal.

The problem.  Python stops such a thread where it is when it finalizes, with all that it has locked: an import has the lock of its module,
and while it looks for one that of the import system (``_find_spec`` in importlib._bootstrap).  Finalization takes both: for a module that
a ``__del__`` imports, and for a reference to a module's lock that dies (``_get_module_lock``).  The process then hangs for ever: one in
hundreds of short programs whose exporters were still being imported (CPython 3.15).  A buffered stream is locked while it is written to;
Python, which flushes the standard ones at its end, waits a second for that, and then aborts (``_enter_buffered_busy`` in bufferedio.c).

What does not work.  An exception from outside (``PyThreadState_SetAsyncExc``) can come between taking a lock and the ``try`` that
releases it.

What we do.  A finder in front of ``sys.meta_path`` raises in that thread when it looks for its next module, where the import system expects
that a finder raises.  Everything on the way out releases its locks, and takes what was half imported out of `sys.modules`.  The main
thread waits for that with what is left of the allowance.  In the end it takes the import system's lock and keeps it, so that nobody can be
stopped while having it; the agent's exit handler is the last one, and threads that a program could wait for have ended.  Console exporters
write through an `Outlet`, which is shut in the same way.

What is still open.  A thread that does not come to its next module in time (in C code for long) keeps the locks of its modules, and one
that does not come out of a finder the import system's.  That lock can't be taken with a deadline: who takes it between the main thread's look and
its own call is waited for.
"""

from __future__ import annotations

import _thread
import sys

from leakagent.shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable
    from typing import TextIO, TypeVar

    T = TypeVar("T")

#: Seconds that a thread gets at least to come to its next module and out of the import.
LEAST = 0.05

#: Seconds that the import system's lock, and the one of the outlets, are waited for: who has one releases it soon, and else the process may hang
#: or abort.
LOCK_SECONDS = 1.0

#: Whoever has it may write to the terminal; the main thread keeps it in the end.
_may_write = _thread.allocate_lock()
_shut: list[bool] = []


class GivenUpError(BaseException):
    """Nobody waits for this thread any more; no `Exception`, which what is imported may catch."""


class Outlet:
    """What console exporters write to: a text stream, which is not left locked."""

    def __init__(self, stream: TextIO) -> None:
        """Write to a stream."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, as `io.TextIOBase.write`."""
        return self._do(self._stream.write, text)

    def flush(self) -> None:
        """Write what is buffered."""
        self._do(self._stream.flush)

    def _do(self, method: Callable[..., T], *args: str) -> T:
        with _may_write:
            if _shut:
                message = "the program ends"
                raise GivenUpError(message)
            return method(*args)


def forked() -> None:
    """Start afresh in a forked child, where nobody will release what the parent's thread had, and another thread may have its identity."""
    global _may_write  # noqa: PLW0603 - one of the process
    _may_write = _thread.allocate_lock()
    _shut.clear()
    for finder in [one for one in sys.meta_path if isinstance(one, _Refuses)]:
        sys.meta_path.remove(finder)


class _Refuses:
    """A finder that lets one thread import nothing more."""

    def __init__(self, ident: int) -> None:
        self._ident = ident

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """Find nothing, or raise (``importlib.abc.MetaPathFinder``)."""
        if _thread.get_ident() == self._ident:
            message = f"the program ends while {name} is imported"
            raise GivenUpError(message)


def give_up(ident: int, ended: LockType, seconds: float) -> None:
    """See to it that a thread that goes on is not stopped where the end of Python needs what it has.

    Args:
        ident: The thread's identity, as of `threading.get_ident`.
        ended: What it releases at its end.
        seconds: How long that may be waited for.

    """
    refuses = _Refuses(ident)
    sys.meta_path.insert(0, refuses)
    _shut.append(True)
    if interpreter.imports(ident) and ended.acquire(timeout=max(seconds, LEAST)):
        sys.meta_path.remove(refuses)  # another thread may get its identity
    interpreter.keep_import_lock(LOCK_SECONDS)
    _may_write.acquire(timeout=LOCK_SECONDS)
