"""SIGTERM and SIGHUP: the program ends as if it had handled them itself, and still dies by the signal.

The problem.  The default action of SIGTERM ends Python at once: no ``finally``, no exit handler, no report; children stay behind.
``docker stop``, systemd and every supervisor end programs so.

What does not work.  Taking SIGINT as well: ``asyncio.Runner`` cancels the main task only if it finds Python's own handler.  Doing
the clean-up in the handler: it runs between any two instructions of the main thread, which may hold any lock.  ``sys.exit(143)``
in the end: a shell shows the same, but a supervisor sees that the program did not die by the signal.  A thread that waits
for signals from the start on: every later ``os.fork`` of a program that has one thread only would warn (3.12 and newer).

What we do.  Where the default action is in force when the agent starts, a handler is set that raises `SystemExit` in the main
thread, once: ``with``, ``finally`` and the ends of event loops do their work (in a loop's own code the loop raises it), then the ends that `leakagent.ending` runs anyway, within
the budget; after all of that, the default action is restored and the signal sent again, so that the status is the signal's.  In a finalizer, a callback of a reference or
a hook of a fork Python ignores the exception, and a function of `CATCH_ALL` catches it; there the signal comes again a moment later.  A second signal
ends the process at once.  From the moment that the main thread has ended nothing is raised any more, since that would cut off
somebody's exit handler: the signal is noted, and shortens the waiting.  The watchdog is started by the signal and ends the process
when the budget is over, whatever it hangs in.  A signal that was ignored stays ignored, and a handler that the program sets is the program's, also one that a library sets past Python.  Who puts back
what was found puts ours back, and who calls it calls ours; event loops do neither (`leakagent.instrumentation.loop_signals`).

A forked child gets the default action back, as it has without the agent, and so do children that `multiprocessing` starts: their
parent ends them by SIGTERM, and ``Process.terminate`` means at once.

A main thread that is in C code runs no handler; `leakagent.shutdown.noticer` has the budget begin all the same.

What is still open.  The handler loads `ctypes`, to see whether a library has put a handler of its own in front.  A program that sets `sys.unraisablehook`
while it ends, and loses the exception then, is ended by the watchdog.
Windows has no SIGHUP and never sends SIGTERM; its SIGBREAK is taken, and was never run there.  In `trio`, the exception is raised inside its run loop.
"""

from __future__ import annotations

import _thread
import os
import sys
import time

from leakagent import guard

from . import interpreter
from .noticer import noticer

#: Not what telemetry puts in its place: that one delivers first.
_exit_now = os._exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any


#: Seconds that may lie between the end of one wait and the next one.
_BETWEEN = 1.0

_CALLBACKS = {
    ("leakagent.instrumentation.task_window", "_on_collection"),
    ("leakagent.core.registry", "__call__"),
    ("leakagent.watcher", "_on_collection"),
    ("leakagent.agent", "_before_fork"),
    ("leakagent.agent", "_after_fork_in_parent"),
    *interpreter.FORK_HOOKS,
}

#: Functions, by module and name, that catch all that comes up in them and go on as if nothing were, with their work half done.  The
#: instrumentation of a library that has one adds it.
CATCH_ALL: set[tuple[str, str]] = set()


class State:
    """What the parts of the agent have to know: which signal ends this process, and since when.

    ``number`` is 0 as long as there is none, ``since`` is on the clock of `time.monotonic`.
    """

    number = 0
    since = 0.0
    #: Whether the program has sent it itself, when it had ended everything (`signal.raise_signal`, as uvicorn does).
    raised = False
    #: Whether the exception is still to be raised, by the event loop.
    postponed = False
    #: The signal that a server has handled itself, since when it has ended, and until when the end of the program counts as its
    #: consequence: the status is the program's own, and nobody expects the whole queue any more.
    asked = 0
    asked_since = 0.0
    _asked_until = 0.0
    #: When the agent has first and last waited for something on the way out of Ctrl+C.
    _interrupted = (0.0, 0.0)

    def interrupted(self, grace: float) -> None:
        """Note that somebody waits, for the grace at most, on the way out of Ctrl+C; waits that follow on one another belong to one end."""
        first, last = self._interrupted
        now = time.monotonic()
        self._interrupted = (first if now - last <= grace + _BETWEEN else now), now

    def spent(self, grace: float) -> float:
        """Return how many seconds the end has taken already that has come by Ctrl+C."""
        first, last = self._interrupted
        now = time.monotonic()
        return now - first if self.number == interpreter.CTRL_C and now - last <= grace + _BETWEEN else 0.0

    def set(self, number: int) -> None:
        """Note the signal that ends the process; the first one counts."""
        if number and not self.number:
            self.number, self.since = number, time.monotonic()

    def clear(self) -> None:
        """Forget it: this is a forked child."""
        self.number, self.since, self.raised, self.postponed = 0, 0.0, False, False
        self.asked, self.asked_since, self._asked_until = 0, 0.0, 0.0
        self._interrupted = (0.0, 0.0)

    def ask(self, number: int, seconds: float, since: float = 0.0) -> None:
        """Note that a server has ended since it was told to by a signal.

        Args:
            number: The signal.
            seconds: How long the end of the program counts as its consequence.
            since: When the grace of what is left began, on the clock of `time.monotonic`; now by default.

        """
        now = time.monotonic()
        self.asked, self.asked_since, self._asked_until = number, since or now, now + seconds

    @property
    def is_asked(self) -> bool:
        """Whether a server has ended a moment ago because of a signal, and the program may be ending because of that."""
        return self.asked > 0 and time.monotonic() < self._asked_until

    def raise_postponed(self) -> None:
        """Raise the exception that a signal stands for, once."""
        if self.postponed:
            self.postponed = False
            raise SystemExit(128 + self.number)

    def is_behind(self, error: object) -> bool:
        """Say whether an exception is the one by which the signal ends the program."""
        return self.number > 0 and isinstance(error, SystemExit) and error.code == 128 + self.number

    @property
    def interrupts(self) -> bool:
        """Whether a signal has come in the middle of the program's work: nothing has outlived its scope then."""
        return self.number > 0 and not self.raised

    def deadline(self, grace: float) -> float | None:
        """Return when the grace ends that everything gets after a signal, or None if none has come."""
        if self.number:
            return self.since + grace
        return self.asked_since + grace if self.is_asked else None


#: Of this process.
state = State()


class Signals:
    """Takes the signals whose default action would end the process without any clean-up."""

    def __init__(self, watch: Callable[[], None], arm: Callable[[], None]) -> None:
        """Take none yet; each of the two forces the end when the budget is over: ``watch`` waits for that, ``arm`` has it waited for."""
        self._watch, self._arm = watch, arm
        #: Whether a thread waits.
        self.is_watched = False
        self._taken: list[int] = []
        self._lent: set[int] = set()
        self._blocked: dict[int, set[int]] = {}
        #: When the signal came that ends this process, on the clock of `time.monotonic`.
        self.came_at = 0.0
        #: Set when the main thread has ended: nothing is raised any more.
        self.main_has_ended = False
        #: Whether the exception was raised where Python ignores it, and the signal is to come again.
        self._is_lost = False
        self._unraisable: Callable[[sys.UnraisableHookArgs], object] = sys.__unraisablehook__
        #: The asyncio task that the signal came in, which is given the exception.
        self.interrupted: Any = None

    def take(self) -> None:
        """Take SIGTERM and SIGHUP where their default action is in force; only the main thread can."""
        if interpreter.is_started_by_multiprocessing():
            return
        for number in interpreter.ending_signals():
            if interpreter.has_default_action(number) and interpreter.set_handler(number, self._came):
                self._taken.append(number)

    def take_for_server(self) -> bool:
        """Take SIGTERM in a worker that `multiprocessing` or a server has started, for as long as its server has a handler in front.

        Returns:
            Whether it was taken, and is to be given back.

        """
        number = interpreter.ending_signals()[0]
        if number in self._taken or not interpreter.has_default_action(number):
            return False
        if not interpreter.in_main_thread() or not interpreter.set_handler(number, self._came):
            return False
        self._taken.append(number)
        return True

    def give_back(self) -> None:
        """Restore the default action where nobody has set another handler since."""
        for number in self._taken:
            if interpreter.handler_of(number) == self._came:
                interpreter.set_handler(number, None)
        self._taken.clear()
        self._lent.clear()

    def lend(self, number: int) -> None:
        """Note that an event loop is about to handle a signal in our place."""
        if self.has_taken(number):
            self._lent.add(number)

    def take_back(self) -> None:
        """Take the signals again that event loops have handed back, as asyncio (default action) or as uvloop does (still there)."""
        for number in list(self._lent):
            loop: Any = getattr(interpreter.handler_of(number), "__self__", None)
            left = hasattr(loop, "is_closed") and loop.is_closed()
            if (left or interpreter.has_default_action(number)) and interpreter.set_handler(number, self._came):
                self._lent.discard(number)

    def has_taken(self, number: int) -> bool:
        """Say whether a signal is ours."""
        return number in self._taken and interpreter.handler_of(number) == self._came

    def offer_noticer(self, budget: float, cut_off: Callable[[], None]) -> None:
        """Have a signal noticed that comes while the main thread is in C code.

        Args:
            budget: Seconds that it has to come back.
            cut_off: Ends the process by force when it has not.

        """

        def overdue(number: int) -> None:
            state.set(number)
            cut_off()

        if self._taken:
            noticer.is_ours, noticer.cut_off, noticer.die = self.has_taken, overdue, die_by
            noticer.offer(budget)

    def _came(self, number: int, frame: FrameType | None) -> None:
        noticer.handled_at = time.monotonic()
        if guard.call("signals", interpreter.is_handled_by_python, number) is False:
            return
        if state.number and not self._is_lost:
            die_by(number)
        if not self.main_has_ended and is_in_a_callback(frame):
            _thread.start_new_thread(_send_again, (number,))
            return
        if not self.main_has_ended and is_caught(frame):
            self._begin(number)
            self._is_lost = True
            _thread.start_new_thread(_send_again, (number,))
            return
        self.end(number, frame)

    def end(self, number: int, frame: FrameType | None) -> None:
        """Have the program end as if ``number`` had come; called in the main thread, in the middle of whatever it does.

        Raises:
            SystemExit: This is what ends it.

        """
        self._begin(number)
        if self.main_has_ended:
            return
        loop = _loop_that_runs(frame)
        if loop is not None:
            state.postponed = True
            loop.call_soon_threadsafe(state.raise_postponed)
            return
        self.interrupted = _current_task()
        self._listen()
        raise SystemExit(128 + number)

    def _begin(self, number: int) -> None:
        """Note the signal and have the budget begin, unless it comes again."""
        if self._is_lost:
            self._is_lost = False
            return
        state.set(number)
        self.came_at = noticer.since or time.monotonic()
        self._have_watched()

    def _have_watched(self) -> None:
        # In a thread, since it loads modules, and the main thread may be in the middle of that.
        try:
            _thread.start_new_thread(guard.call, ("watchdog", self._watch))
            self.is_watched = True
        except RuntimeError:  # 3.12 starts none when the main thread has ended
            guard.call("watchdog", self._arm)

    def _listen(self) -> None:
        if sys.unraisablehook != self._on_unraisable:
            self._unraisable, sys.unraisablehook = sys.unraisablehook, self._on_unraisable

    def _on_unraisable(self, unraisable: sys.UnraisableHookArgs, /) -> None:
        is_ours = state.is_behind(unraisable.exc_value)
        # What watches the parent of this process asks again by itself.
        if is_ours and self.has_taken(state.number) and not self.main_has_ended and interpreter.in_main_thread():
            self._is_lost = True
            _thread.start_new_thread(_send_again, (state.number,))
        else:
            self._unraisable(unraisable)

    def before_fork(self) -> None:
        """Have signals wait: one that came to a child while it has our handler still would be lost, and `terminate` with it."""
        if self._taken:
            self._blocked[_thread.get_ident()] = interpreter.block(self._taken)

    def after_fork(self) -> None:
        """Let them come, in the parent at once, in a child after `forked`."""
        before = self._blocked.pop(_thread.get_ident(), None)
        if before is not None:
            interpreter.set_blocked(before)

    def forked(self) -> None:
        """Give the signals back in a forked child."""
        state.clear()
        self.main_has_ended = self.is_watched = self._is_lost = False
        self.came_at = 0.0
        self.interrupted = None
        if sys.unraisablehook == self._on_unraisable:
            sys.unraisablehook = self._unraisable
        self.give_back()

    def settle(self) -> None:
        """Keep asyncio from complaining that nobody looked at the exception which the signal raised in a task."""
        task, self.interrupted = self.interrupted, None
        if task is not None and task.done() and not task.cancelled():
            task.exception()


def is_in_a_callback(frame: FrameType | None) -> bool:
    """Say whether the signal came in a callback of the agent's own, out of which no exception gets: of the collector, a reference, a fork."""
    return _is_in(_CALLBACKS, frame)


def is_caught(frame: FrameType | None) -> bool:
    """Say whether the signal came in a function of `CATCH_ALL`."""
    return bool(CATCH_ALL) and _is_in(CATCH_ALL, frame)


def _is_in(places: set[tuple[str, str]], frame: FrameType | None) -> bool:
    while frame is not None:
        if (str(frame.f_globals.get("__name__")), frame.f_code.co_name) in places:
            return True
        frame = frame.f_back
    return False


def _send_again(number: int) -> None:
    time.sleep(0.005)
    os.kill(os.getpid(), number)


def _loop_that_runs(frame: FrameType | None) -> Any:  # noqa: ANN401 - an event loop
    """Return the event loop in whose own code, and not the program's, the signal came; None if there is none.

    An exception between two lines of the loop can lose the call that it was about to make, and its task for ever.
    """
    name = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    if name.partition(".")[0] not in {"asyncio", "selectors"}:
        return None
    try:
        return sys.modules["asyncio"].get_running_loop()
    except (RuntimeError, AttributeError, KeyError):  # no loop runs here, or asyncio is not all there
        return None


def _current_task() -> Any:  # noqa: ANN401 - a task
    asyncio = sys.modules.get("asyncio")
    try:
        return None if asyncio is None else asyncio.current_task()
    except (RuntimeError, AttributeError):  # no loop runs here, or asyncio is not all there
        return None


def die_by(number: int) -> None:
    """End the process by a signal's default action, here and now; with a status where that has none (process 1)."""
    status = interpreter.status_by(number)
    if status is not None:
        _exit_now(status)
    interpreter.restore_default_action(number)
    os.kill(os.getpid(), number)
    interpreter.take_pending(number)
    _exit_now(128 + number)
