"""Ends a child when the process that started it is gone.

The problem.  A child of `multiprocessing` serves its starter and nobody else, yet it stays when that is killed, crashes or calls
``os._exit``: `multiprocessing` ends its children in an exit handler, and none runs then.

What does not work.  ``PR_SET_PDEATHSIG``: it comes when the *thread* ends that started the child.  The sentinel of
``multiprocessing.parent_process()``: under fork every sibling holds the other end of its pipe, and one that does not watch keeps it
open.  Asking for the parent's pid: a child of a fork server has another parent; and somebody would have to ask, again and again.

What we do.  A thread of the child waits in ``poll`` for a pidfd of the starter, without waking up until the starter ends.  It is
opened by pid, so the process behind it has to be proven: it is older than the child, or the child's own parent.  Then the child ends as
if its author had handled it: by the program's own handler of SIGTERM where there is one, else by `SystemExit` in the main thread, so that
``finally`` and exit handlers run; it is raised again where it was swallowed (a worker of ``concurrent.futures`` takes it for the result of
its job), but not in the middle of a clean-up.  A child that has not come to its end after the grace is killed.

A thread of the C level interface, not of `threading`.  Python 3.12 and newer count the threads of the system when a program forks,
and warn if there are several: so ours ends before a fork and is started again after it.  3.13.0 counts when the hooks after a fork have
run, so there it is started by a pending call of the interpreter a moment later.

A child that has left the session of its starter (``os.setsid``, as daemons do) is left alone, and so is a process that a child forks
by itself.

What is still open.  A main thread that holds the interpreter in C code keeps our thread from running: ``leakagent reap`` finds such
a child.  The ways for other systems than Linux (kqueue on BSD and macOS, the handle of the parent on Windows) were never run
there, only against a stand-in (``tests/unit/shutdown/test_macos.py``); there is no real-time signal there, and the child gets its SIGTERM.
"""

from __future__ import annotations

import _thread
import os
import sys
import time
from contextlib import suppress

from leakagent import guard
from leakagent.shutdown import interpreter
from leakagent.shutdown.signals import is_caught, is_in_a_callback, state

from .identity import is_gone, look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from leakagent.shutdown.signals import Signals

#: Seconds between two looks where nothing tells that a process ends.
_LOOK_EVERY = 1.0

#: Seconds between two requests to end, at first; then twice as long each time.
_ASK_AGAIN = 0.1

#: Seconds that the thread gets to end before a fork.
_STOP_SECONDS = 1.0

_COUNTS_AFTER_HOOKS = interpreter.FORK_COUNTS_THREADS and sys.version_info < (3, 14)

_KILL, _TERM = 9, 15


class ParentWatch:
    """Watches the process that started this one."""

    def __init__(self, signals: Signals, grace: float, prepare: Callable[[], None]) -> None:
        """Watch nothing yet.

        Args:
            signals: How a program is told to end.
            grace: Seconds that it gets.
            prepare: Called when the program's own work is over and before its own children are waited for.

        """
        self._signals, self._grace, self._prepare = signals, grace, prepare
        self.starter = 0
        self._start = ""
        self._session = 0
        self._main = 0
        self._spare = 0
        self._told = False
        self._parent = 0
        self._thread = self._pid = 0
        self._runs = self._stopping = False
        self._wake = _thread.allocate_lock()
        self._descriptors: list[int] = []
        self._links: list[str] = []
        self._pipe: tuple[int, ...] = ()
        #: Seconds since the epoch when the starter was found gone, 0 as long as it is there.
        self.gone_since = 0.0

    def start(self, starter: int) -> None:
        """Watch the process that started this one; called in the main thread.

        Args:
            starter: Its pid.

        """
        if self.starter or starter <= 1 or starter == os.getpid():
            return
        self.starter, self._parent, self._main = starter, os.getppid(), _thread.get_ident()
        self._session = os.getsid(0) if hasattr(os, "getsid") else 0
        seen = look(starter)
        self._start = seen.start if seen is not None else ""
        self._spare = interpreter.take_spare_signal(self._asked)
        self._run()

    def _run(self) -> None:
        self._stopping, self._runs, self._pid = False, True, os.getpid()
        self._wake = _thread.allocate_lock()
        self._wake.acquire()
        if not self._are_ours():
            self._open()
        else:
            with suppress(BlockingIOError):  # the program's own copy of it may have been read
                os.eventfd_read(self._descriptors[1])  # it was woken by this
        try:
            _thread.start_new_thread(guard.call, ("parent watch", self._watch))
        except RuntimeError:  # 3.12 starts none when the main thread has ended
            self._runs = False

    def _open(self) -> None:
        """Open a descriptor of the starter and one that wakes the thread, where the system has such things."""
        self._descriptors, self._links = [], []
        if not (hasattr(os, "pidfd_open") and hasattr(os, "eventfd")):
            return
        try:
            self._descriptors.append(os.pidfd_open(self.starter))
            self._descriptors.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
            self._links = [os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in self._descriptors]
        except OSError:  # it is gone; an old kernel, a container that does not allow it, too many open files
            for descriptor in self._descriptors:
                os.close(descriptor)
            self._descriptors = []

    def _are_ours(self) -> bool:
        """Say whether the descriptors are what they were: a program that closes all closes ours, and uses their numbers again."""
        try:
            return bool(self._descriptors) and self._links == [os.readlink(f"/proc/self/fd/{one}") for one in self._descriptors]
        except OSError:
            return False

    # -- a fork of this process --------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Take the thread away where Python counts threads when a program forks."""
        if not (interpreter.FORK_COUNTS_THREADS and self._runs) or self.gone_since or self._stopping:
            return
        if self._descriptors:
            if not self._are_ours():
                return  # nothing wakes it any more
            self._stopping = True
            os.eventfd_write(self._descriptors[1], 1)
        self._stopping = True
        self._wake.release()
        for descriptor in self._pipe[1:]:
            with suppress(OSError):  # the thread has closed it in this moment
                os.write(descriptor, b"\0")
        end = time.monotonic() + _STOP_SECONDS
        while self._runs and time.monotonic() < end:
            time.sleep(0.0005)
        while os.path.exists(f"/proc/self/task/{self._thread}") and time.monotonic() < end:
            time.sleep(0.0005)

    def after_fork(self) -> None:
        """Start it again in the parent."""
        frame = interpreter.caller(3)  # the program's, which forks: hooks, `guard.call` and this are above it
        if not self._stopping:
            return
        lasti = -1 if frame is None else frame.f_lasti
        if not (_COUNTS_AFTER_HOOKS and interpreter.call_after(self._start_again, frame, lasti)):
            self._start_again()

    def _start_again(self) -> None:
        # A program that forks twice at once: the pending call is in the child as well, and runs there before the hooks.
        if self._stopping and self._pid == os.getpid():
            guard.call("parent watch", self._run)

    def forked(self) -> None:
        """Forget everything in a forked child: its own starter is another one, if anybody watches it at all."""
        for descriptor in self._descriptors if self._are_ours() else ():
            os.close(descriptor)
        for descriptor in self._pipe:
            os.close(descriptor)
        if self._spare and interpreter.handler_of(self._spare) == self._asked:
            interpreter.set_handler(self._spare, None)
        ParentWatch.__init__(self, self._signals, self._grace, self._prepare)

    # -- the thread --------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._thread = _thread.get_native_id()
        try:
            if not (self._wait() if self._descriptors else self._wait_elsewhere()):
                return
        finally:
            self._runs = False
        if self._session and os.getsid(0) != self._session:
            return  # it is a daemon of its own by now
        self._end()

    def _wait(self) -> bool:
        """Return True when the starter is gone, False when the thread has to end."""
        import select

        waiting = select.poll()
        for descriptor in self._descriptors:
            waiting.register(descriptor, select.POLLIN)
        while not self._stopping:
            if self._is_gone():
                return True
            waiting.poll()
            if not self._stopping and not (self._are_ours() and self._is_gone()):
                return self._look_again_and_again()
        return False

    def _wait_elsewhere(self) -> bool:
        """Wait without a pidfd."""
        import select

        if sys.platform != "linux" and hasattr(select, "kqueue"):
            return self._wait_in_a_queue(select)
        if os.name == "nt":
            parent = sys.modules["multiprocessing.process"].parent_process()
            parent.join()
            return True
        return self._look_again_and_again()

    def _wait_in_a_queue(self, select: Any) -> bool:  # noqa: ANN401 - its names for kqueue(2) are not there on Linux
        self._pipe = os.pipe()
        queue = select.kqueue()
        try:
            gone = select.kevent(self.starter, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
            queue.control([gone, select.kevent(self._pipe[0], select.KQ_FILTER_READ, select.KQ_EV_ADD)], 0)
            while not self._stopping:
                if any(event.filter == select.KQ_FILTER_PROC for event in queue.control(None, 2)):
                    return True
        except OSError:  # it is gone, or can't be watched
            return self._look_again_and_again()
        finally:
            queue.close()
            pipe, self._pipe = self._pipe, ()
            for descriptor in pipe:
                os.close(descriptor)
        return False

    def _look_again_and_again(self) -> bool:
        while not self._stopping:
            if self._is_gone():
                return True
            self._wake.acquire(timeout=_LOOK_EVERY)
        return False

    def _is_gone(self) -> bool:
        """Say whether it is proven that the starter has ended."""
        if os.getppid() == self.starter:
            return False
        own = look(os.getpid())
        if own is None and sys.platform == "linux":
            return False  # the program closes all descriptors at this very moment, the one that is read from among them
        if own is None:  # a child of a fork server has another parent from the start
            return self._parent == self.starter or not sys.modules["multiprocessing.process"].parent_process().is_alive()
        if own.parent == 0:  # the starter has no pid in the namespace of this process
            return False
        # A younger process has got its pid; or it was gone before it could be looked at.
        return (self._start != "" and int(self._start) > int(own.start)) or is_gone(self.starter, self._start)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Ask this process to end, again and again, and kill it when the grace is over."""
        self.gone_since = time.time()
        end, pause = time.monotonic() + self._grace, _ASK_AGAIN
        self._ask(first=True)
        while time.monotonic() < end:
            time.sleep(min(pause, max(0.0, end - time.monotonic())))
            if self._told and self._signals.main_has_ended:
                return  # the rest has deadlines of its own
            self._ask(first=False)
            pause *= 2
        if not (self._told and self._signals.main_has_ended):
            os.kill(os.getpid(), _KILL)

    def _ask(self, *, first: bool) -> None:
        if callable(interpreter.handler_of(_TERM)):
            # The program's own way to end; a second one often means at once.
            if first:
                os.kill(os.getpid(), _TERM)
        elif self._spare and interpreter.handler_of(self._spare) == self._asked:
            interpreter.interrupt(self._main, self._spare)
        elif first:
            os.kill(os.getpid(), _TERM)

    def _asked(self, _number: int, frame: FrameType | None) -> None:
        """Run in the main thread, in the middle of whatever it does."""
        if not self._told:
            if is_in_a_callback(frame) or is_caught(frame) or _is_ending():
                return
            self._told = True
            guard.call("parent watch", interpreter.before_multiprocessing_ends, self._prepare)
            self._signals.end(_TERM, frame)
        elif not (self._signals.main_has_ended or is_in_a_callback(frame) or is_caught(frame) or state.postponed or _is_ending()):
            raise SystemExit(128 + _TERM)


def _is_ending() -> bool:
    """Say whether the exception that ends the program is on its way: a clean-up must not be cut off."""
    error = sys.exc_info()[1]
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, SystemExit):
            return True
        seen.add(id(error))
        error = error.__context__
    return False
