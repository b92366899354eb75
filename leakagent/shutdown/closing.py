"""The end of a program, in two parts, each once per process.

The problem.  What a program left behind has to be looked at before Python waits for it (a stuck worker would be waited for, for
ever), and closed after everybody else is done with it (the program's own exit handlers may still use a client).  No single
hook is both.

What we do.  `before_join` runs when the main thread has ended and before other threads are joined
(``threading._register_atexit``, see `leakagent.shutdown.interpreter`): it notes what keeps the process alive, and lets threads go
that are proven stuck.  `last` runs as the last exit handler, because the agent registers the first one: everything that the
program, its libraries and multiprocessing close themselves is closed by then, and only what is left is ours to close and to tell.

A forked child of `multiprocessing` ends without exit handlers, so there the second part follows the first at once.

Waiting here must not change what the others see.  Python tells its worker threads to end *before* it waits for them, and marks the
main thread as ended before it waits for the program's own threads; jobs that submit themselves again (streamlit's file watcher)
and threads that look at ``main_thread().is_alive()`` end because of that.  So both are waited for in the same state of things: the
workers in `before_join` after they were told, the other threads in a hook right before Python joins them.

A daemon thread runs on while the clients that it uses are closed.  Without the agent it would never learn of that end: Python stops
it for good at its next step.  `stop_if_daemon` does the same a moment earlier, in place of an exception in the thread's next call.

After a signal, Ctrl+C included, nobody expects the whole queue any more: what has not begun is cancelled, children are asked to end
and then killed, and threads are waited for until the grace is over (`leakagent.shutdown.signals`).  At a normal end none of this happens.

What is still open.  With ``leakagent.install()`` in the middle of a program, exit handlers that were registered before it run after
ours.
"""

from __future__ import annotations

import time
import weakref

from leakagent import guard
from leakagent.core.findings import KILLED, TERMINATED, StageReceipt

from .stuck import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread
    from typing import Any

#: Part of the budget for which a process must have been silent before its threads are called stuck: workers, then the others.
QUIET_SHARE = 0.45

#: Threads that were waited for long enough; who comes next does not wait for them again.
GIVEN_UP: weakref.WeakSet[Thread] = weakref.WeakSet()

#: Seconds after which the state of threads that are waited for is looked at.
LOOK_AFTER = 0.05

#: Seconds that children get to end when they are asked to, after a signal.
CHILD_SECONDS = 2.0

#: Seconds that clients get to close, and lancedb's loop to stop.
CLIENT_SECONDS = 1.0


class Stages:
    """Runs stages one after the other and keeps the receipt."""

    def __init__(self, budget: float, interrupted: Callable[[], None] = lambda: None) -> None:
        """Start with an empty receipt; ``budget`` is the number of seconds for all stages, ``interrupted`` is called at Ctrl+C."""
        self.budget = budget
        self._interrupted = interrupted
        self.receipt: list[StageReceipt] = []

    def run(self, name: str, deadline: float, work: Callable[[float], tuple[int, int]]) -> None:
        """Run one stage.

        Args:
            name: Its name on the receipt.
            deadline: Seconds it may take.
            work: Called with the deadline; returns how many resources were asked to end and how many were forced.

        Raises:
            KeyboardInterrupt: The user pressed Ctrl+C; the stage is on the receipt as far as it came.

        """
        deadline = min(deadline, self.budget)
        begin = time.monotonic()
        asked, forced = 0, 0
        try:
            asked, forced = work(deadline)
        except KeyboardInterrupt:
            guard.call("why", self._interrupted)
            raise
        except Exception as error:  # noqa: BLE001 - one stage must not cost the others
            guard.failed(f"shutdown stage {name}", error)
        finally:
            self.receipt.append(StageReceipt(name, time.monotonic() - begin, asked, forced, deadline))


def wait_like_python(
    threads: Callable[[], list[Thread]], quiet: float, deadline: Callable[[], float | None] = lambda: None, waiting: int = 0
) -> list[Thread]:
    """Wait for threads as Python does, but not for those that are proven stuck, nor longer than until a deadline.

    Args:
        threads: Returns the threads that are still waited for.
        quiet: Seconds of complete silence of the process after which they are called stuck (`leakagent.shutdown.stuck`).
        deadline: Returns when the waiting ends, on the clock of `time.monotonic`, or None.
        waiting: The system's number of a thread that waits for the same, and does not count as life.

    Returns:
        The threads that are left.

    """
    watch = Watch(waiting)
    try:
        return _wait(threads, quiet, deadline, watch)
    finally:
        watch.close()


def _wait(threads: Callable[[], list[Thread]], quiet: float, deadline: Callable[[], float | None], watch: Watch) -> list[Thread]:
    begin = silent_since = time.monotonic()
    pause = 0.002
    while left := threads():
        if GIVEN_UP.issuperset(left):
            return left
        end = deadline()
        if end is not None and time.monotonic() >= end:
            return left
        # Most are gone after a moment, and nobody needs to look.
        if time.monotonic() - begin < LOOK_AFTER or not watch.silent():
            silent_since = time.monotonic()
        elif time.monotonic() - silent_since >= quiet:
            return left
        left[0].join(pause)
        pause = min(pause * 1.5, 0.2)
    return []


def end_processes(processes: list[Any], seconds: float) -> dict[int, tuple[str, float]]:
    """End children of `multiprocessing`: ask, wait, kill.

    Args:
        processes: The process objects; those that have ended are left alone.
        seconds: How long they have until they are killed.

    Returns:
        For each pid what ended it, an action of `leakagent.core.findings`, and after how many seconds.

    """
    begin = time.monotonic()
    asked = [process for process in processes if process.is_alive()]
    ended: dict[int, tuple[str, float]] = {}
    for process in asked:
        process.terminate()
    left = asked
    while left and time.monotonic() - begin < seconds:
        left[0].join(0.01)
        ended.update({process.pid: (TERMINATED, time.monotonic() - begin) for process in left if not process.is_alive()})
        left = [process for process in left if process.pid not in ended]
    for process in left:
        process.kill()
        process.join(1.0)
        ended[process.pid] = KILLED, time.monotonic() - begin
    return ended


def in_time(seconds: float, work: Callable[[], None]) -> bool:
    """Run ``work`` for at most ``seconds``: on a thread of its own where one can still be started, else here.

    Returns:
        False if it was not done in time; it goes on in its daemon thread then.

    """
    import _thread

    done = _thread.allocate_lock()
    done.acquire()

    def run() -> None:
        try:
            work()
        finally:
            done.release()

    try:
        _thread.start_new_thread(guard.call, ("closing", run))
    except RuntimeError:  # "can't create new thread at interpreter shutdown"
        work()
        return True
    return done.acquire(timeout=seconds)


def stop_if_daemon() -> None:
    """Stop the calling thread for good if it is a daemon, as the interpreter is about to do anyway."""
    import _thread
    import threading

    thread = threading.current_thread()
    if thread.daemon and thread is not threading.main_thread():
        lock = _thread.allocate_lock()
        lock.acquire()
        lock.acquire()
