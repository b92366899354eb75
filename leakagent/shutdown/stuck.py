"""Is a thread stuck for ever, or does it work?  Only what is certain counts.

The problem.  At a normal end Python waits for non-daemon threads and for the workers of executors.  A thread that waits for a
lock that nobody will ever release keeps the process for ever; a server in a non-daemon thread does the same on purpose, and
a job that takes ten minutes looks, from outside, like one that hangs.

What does not work.  A time limit: it kills servers and long jobs.  The Python frame alone: a thread that sleeps, serves or
computes in C stands on one line as well.

What we do.  A thread is called stuck when, for the whole quiet time, *every* thread of the process has waited for a lock without
waking once.  The kernel tells both: the system call a thread is in (``/proc/self/task/TID/syscall``, proc(5)) and how often it
gave up the processor (``voluntary_ctxt_switches``).  A thread in ``select``, ``accept``, ``sleep`` or computing is a sign of life,
so a server, a scheduler or a long request is waited for exactly as Python does.  So is one that waits for a lock for a limited
time (``threading.Timer``): it may be the one that lets the others go.  Only a library's daemon thread that waits so is not: a
telemetry exporter does it once a minute for ever.

What is still open.  Where the kernel does not tell (macOS, Windows, a hidden ``/proc``), nothing is ever called stuck.
"""

from __future__ import annotations

import os
import sys

from leakagent.core.sites import LIBRARY, is_installed, owner_of
from leakagent.watcher import own_threads

from . import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Thread

#: The system's numbers of threads that look: each of them wakes all the time, and none of them is a sign of life.
_LOOKING: set[int] = set()

_FUTEX = {"x86_64": "202", "aarch64": "98", "i686": "240", "armv7l": "240", "riscv64": "98", "ppc64le": "221", "s390x": "238"}


def read(path: str) -> str:
    """Return the text of a file of the kernel's, empty if there is none."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


class Watch:
    """Looks at the process again and again, and says whether it has been silent all the time.

    ``futex`` is the number of the system call by which threads wait for locks here; None where it is not known.
    """

    def __init__(self, waiting: int = 0) -> None:
        """Start looking; the calling thread, and the one with the system's number ``waiting`` while it sleeps, are no signs of life."""
        self.waiting = waiting
        self.futex = _FUTEX.get(os.uname().machine) if sys.platform == "linux" else None
        self._seen: dict[str, str] = {}
        _LOOKING.add(_own_id())

    def close(self) -> None:
        """Stop looking."""
        _LOOKING.discard(_own_id())

    def silent(self) -> bool:
        """Say whether every other thread waits for a lock and none of them has woken since the last call."""
        if self.futex is None:
            return False
        now: dict[str, str] = {}
        silent = True
        mine, own = _threads_of_the_program(), own_threads()
        try:
            names = os.listdir("/proc/self/task")
        except OSError:
            return False
        for name in names:
            if int(name) in _LOOKING or int(name) in own:
                continue
            call = read(f"/proc/self/task/{name}/syscall").split()
            if int(name) != self.waiting and (not call or call[0] != self.futex or (name in mine and _for_limited_time(call))):
                silent = False
            now[name] = _switches(name)
        unchanged = now == self._seen
        self._seen = now
        return silent and unchanged


def _own_id() -> int:
    return sys.modules["threading"].get_native_id()  # type: ignore[no-any-return]


def _for_limited_time(call: list[str]) -> bool:
    # futex(2): the fourth argument is the address of the time, or null.
    return len(call) > 4 and int(call[4], 16) != 0  # noqa: PLR2004


def _threads_of_the_program() -> set[str]:
    """Return the system's numbers of Python's threads, without a library's daemon threads that run no code of the program."""
    threads = sys.modules["threading"].enumerate()
    return {str(thread.native_id) for thread in threads if not (thread.daemon and _is_a_librarys(thread))}


def _is_a_librarys(thread: Thread) -> bool:
    frame = interpreter.thread_frame(thread)
    paths = set()
    while frame is not None:
        paths.add(frame.f_code.co_filename)
        frame = frame.f_back
    return any(is_installed(path) for path in paths) and all(owner_of(path) == LIBRARY for path in paths)


def _switches(name: str) -> str:
    status = read(f"/proc/self/task/{name}/status")
    return next((line for line in status.splitlines() if line.startswith("voluntary_ctxt_switches")), "")
