"""What all servers need: the end of one is bounded, and what it cut off is named.

The problem.  A server handles SIGTERM and Ctrl+C itself, and then waits: for clients that keep a stream open, for background tasks, for a
lifespan that never comes back, for workers.  uvicorn has no limit for any of them by default, and its second Ctrl+C does not end a
lifespan; the handlers of `leakagent.shutdown.signals` are not in force as long as the server has its own.

What does not work.  A handler in front of the server's: it would be replaced, or keep the server from closing its
sockets.  An exception in the main thread: the server's own end, which tells clients and the application, would be skipped.

What we do.  The server's own end stays in charge, and each of its waits is over when the grace is.  A time that the user gave the server
counts instead.  From the signal on a watchdog runs, for what no wait of an event loop can
bound: a handler that blocks it.  It is called off when the server has ended, since the program may go on.  If the main thread ends within the
budget, the signal is why it does (`State.asked`), although the status is the server's own: queued jobs are cancelled, threads get the grace, as
after every signal.

Each cut becomes a finding: what was cut, and the line of the program's own that it belongs to.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from contextlib import suppress

from leakagent import guard
from leakagent.core.findings import BLOCKS_EXIT
from leakagent.core.records import TASK, Record
from leakagent.core.sites import YOURS, owner_of
from leakagent.shutdown.signals import state
from leakagent.shutdown.watchdog import Watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from threading import Thread
    from types import CodeType, FrameType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.registry import Registry
    from leakagent.shutdown.signals import Signals

#: Seconds after which a bounded wait looks again.
POLL_SECONDS = 0.05

#: Seconds that what was cancelled gets to end.
CANCEL_SECONDS = 1.0

#: What to write where a request kept its server from ending.
FIX_REQUEST = (
    "end it when the client or the server goes: look at `await request.is_disconnected()`, wait with timeouts; "
    "uvicorn --timeout-graceful-shutdown SECONDS bounds it without leakagent"
)

#: What to write where a request is answered in a thread or a process of its own.
FIX_TIMEOUTS = "give the calls of the request a timeout, and keep long work in a queue outside of the server"

#: What to write where the clean-up of an application hangs.
FIX_LIFESPAN = "give every wait after the lifespan's yield a timeout: await asyncio.wait_for(..., timeout=3)"


class Cut:
    """Something that a server was not going to wait for any longer.

    Attributes:
        record: What it was.
        reason: Why it is told.
        evidence: How the agent knows.
        action: What was done about it.
        fix: What to write at the site; empty for the usual text.

    """

    __slots__ = ("action", "evidence", "fix", "reason", "record")

    def __init__(self, record: Record, reason: str, evidence: list[str], action: str, fix: str = "") -> None:
        self.record = record
        self.reason = reason
        self.evidence = evidence
        self.action = action
        self.fix = fix


class Server:
    """A part that knows one server; the parts of single servers are its subclasses.

    Attributes:
        cut: What was cut off, for the report.
        threads: Threads that are told there, and not a second time as what keeps the process.
        ending: Returns what runs the end of this process (`leakagent.ending.Ending`).
        signals: The agent's signals.
        interrupted: Says why the server does not end, once: for the Ctrl+C that comes while it is waited for.
        grace: Seconds that each of the server's waits gets.

    """

    name = ""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Know of no server yet."""
        self.registry = registry
        self.budget = settings.budget
        # Requests, lifespan and leftover tasks come one after the other.
        self.grace = min(settings.grace, settings.budget / 3)
        self.cut: list[Cut] = []
        self.threads: weakref.WeakSet[Thread] = weakref.WeakSet()
        self.ending: Callable[[], Any]
        self.signals: Signals
        self.interrupted: Callable[[], None] = lambda: None
        self._watchdog: Watchdog | None = None
        self._number = 0
        self._told_at = 0.0
        self._word = ""
        self._noted: weakref.WeakSet[Any] = weakref.WeakSet()

    def forked(self) -> None:
        """Forget what the parent's server has cut off: this is a forked child."""
        self.cut.clear()
        self._watchdog = None
        self._number, self._told_at = 0, 0.0

    def told(self, number: int, more: float = 0.0, *, known: bool = True) -> None:
        """Note that the server was told to end, once, and have it ended by force when the budget is over.

        Args:
            number: The signal; called in its handler.  SIGTERM if the server ends itself by it, else that of Ctrl+C.
            more: Seconds that the user gave the server for its own end.
            known: Whether it was this signal.

        """
        if self._number:
            return
        self._number, self._told_at = number, time.monotonic()
        self._word = signal_name(number) if known else "the server was told to end"
        self._watchdog = Watchdog(_ForcedEnd(self.ending(), number, self._word))
        self._watchdog.arm(self.budget + more)

    def is_told(self) -> bool:
        """Say whether the server was told to end."""
        return self._number > 0

    def ended(self) -> None:
        """Note that the server has ended: what follows in the program is not the server's any more."""
        if self._watchdog is not None:
            self._watchdog.disarm()
            self._watchdog = None
        if self._number:
            state.ask(self._number, self.budget)
            self._number = 0

    def is_over(self, begin: float) -> bool:
        """Say whether the grace is over for what began to be waited for at ``begin``, on the clock of `time.monotonic`."""
        return self._number > 0 and time.monotonic() > max(begin, self._told_at) + self.grace

    def seconds(self) -> float:
        """Return the seconds since the server was told to end."""
        return time.monotonic() - self._told_at

    def finish(self) -> None:
        """Do what is left to do when the main thread has ended and nothing has been waited for yet."""

    def add(  # noqa: PLR0913 - what a finding needs
        self,
        kind: str,
        name: str,
        evidence: str,
        action: str,
        *,
        reason: str = BLOCKS_EXIT,
        place: tuple[CodeType | None, int] = (None, 0),
        fix: str = "",
        age: float = 0.0,
    ) -> None:
        """Note something that is cut off, for the report.

        Args:
            kind: Its kind.
            name: What people call it.
            evidence: How the agent knows.
            action: What is done about it.
            reason: Why it is told.
            place: Code and offset of the line that it belongs to.
            fix: What to write there.
            age: Its age in seconds.

        """
        record = Record(0, kind, *place, time.monotonic() - age, os.getpid(), name=name)
        self.cut.append(Cut(record, reason, [evidence], action, fix))

    def since_told(self) -> str:
        """Return in words how long it is since the server was told to end."""
        return f"{self.seconds():.1f} s after {self._word}"

    def add_request(self, task: Any, action: str, place: tuple[CodeType | None, int] | None = None) -> None:  # noqa: ANN401 - a task
        """Note the request that a task of an ASGI server answers.

        Args:
            task: Its coroutine is a method of an object that has the ASGI ``scope``, or gets that as an argument.
            action: What is done about it.
            place: Where it waits, if that can't be seen any more.

        """
        if task in self._noted:
            return
        self._noted.add(task)
        scope = scope_of(task)
        name = request_name(scope)
        evidence = f"{name} was still open {self.since_told()}"
        where = _endpoint(scope) or place or place_of(task)
        self.add(TASK, name, evidence, action, place=where, fix=FIX_REQUEST, age=self.ending().age_of(task))


class _ForcedEnd:
    """What the watchdog does when a server does not end (`leakagent.shutdown.watchdog.End`)."""

    def __init__(self, ending: Any, number: int, word: str) -> None:  # noqa: ANN401 - see `Server.ending`
        self._ending = ending
        self._number = number
        self._word = word

    def what(self) -> str:
        """Say what takes too long; a child says nothing."""
        return f"the server's end after {self._word}" if self._ending.what() else ""

    def last_words(self) -> None:
        """Tell what is still open."""
        self._ending.last_words()

    def forced(self) -> None:
        """End as the server would have done: by SIGTERM, and after Ctrl+C with status 0."""
        import signal  # loaded by the server

        if self._number == signal.SIGTERM:
            state.set(self._number)
        self._ending.forced()


async def bounded(waiting: Coroutine[Any, Any, Any], is_over: Callable[[], bool]) -> bool:
    """Wait for a coroutine until ``is_over()``, which is asked again and again since a signal may come at any time.

    Returns:
        False if it was cut off.

    """
    asyncio = sys.modules["asyncio"]
    task = asyncio.get_running_loop().create_task(waiting)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=POLL_SECONDS)
            if not task.done() and guard.call("servers", is_over):
                return False
        task.result()
    finally:
        task.cancel()
    return True


async def end_tasks(tasks: list[Any]) -> None:
    """Cancel tasks that are not done, and wait for them, but not for long."""
    left = [task for task in tasks if not task.done()]
    for task in left:
        with suppress(RecursionError):  # a task that waits for itself
            task.cancel()
    if left:
        await sys.modules["asyncio"].wait(left, timeout=CANCEL_SECONDS)


def signal_name(number: int) -> str:
    """Return the name of a signal."""
    import signal  # only when it is told

    return signal.Signals(number).name


def scope_of(task: Any) -> dict[str, Any]:  # noqa: ANN401 - a task
    """Return the ASGI scope of the request that a server's task answers, empty if it can't be found."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    names = {} if frame is None else frame.f_locals
    scope = names.get("scope") or getattr(names.get("self"), "scope", None)
    return scope if isinstance(scope, dict) else {}


def request_name(scope: dict[str, Any]) -> str:
    """Return what people call a request."""
    return f"{scope.get('method') or scope.get('type', 'a request')} {scope.get('path', '')}".strip()


def _endpoint(scope: dict[str, Any]) -> tuple[CodeType, int] | None:
    """Return the function that answers a request, which Starlette and FastAPI put into the scope."""
    endpoint = scope.get("endpoint")
    code = getattr(getattr(endpoint, "__wrapped__", endpoint), "__code__", None)
    return None if code is None else (code, 0)


def place_of(task: Any) -> tuple[CodeType | None, int]:  # noqa: ANN401 - a task
    """Return code and offset of the innermost frame of the program's own in which a task waits, else of its outermost frame."""
    frames = list(waiting_frames(task))
    mine = [frame for frame in frames if owner_of(frame.f_code.co_filename) == YOURS]
    frame = mine[-1] if mine else frames[0] if frames else None
    return (None, 0) if frame is None else (frame.f_code, frame.f_lasti)


def place_of_error(error: BaseException) -> tuple[CodeType | None, int]:
    """Return code and offset of the innermost frame of the program's own in which an exception was raised."""
    place: tuple[CodeType | None, int] = None, 0
    trace = error.__traceback__
    while trace is not None:
        if owner_of(trace.tb_frame.f_code.co_filename) == YOURS:
            place = trace.tb_frame.f_code, trace.tb_lasti
        trace = trace.tb_next
    return place


def waiting_frames(task: Any) -> Iterator[FrameType]:  # noqa: ANN401 - a task
    """Return the frames of a task that waits, outermost first, also through asynchronous generators."""
    import gc  # at the end of a server only

    step = task.get_coro()
    for _ in range(200):
        if type(step).__name__ in {"async_generator_asend", "async_generator_athrow", "coroutine_wrapper"}:
            # They don't tell what they run.
            step = next((one for one in gc.get_referents(step) if hasattr(one, "ag_frame") or hasattr(one, "cr_frame")), None)
        if step is None:
            return
        for prefix, following in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            frame = getattr(step, f"{prefix}_frame", None)
            if frame is not None:
                yield frame
                step = getattr(step, following)
                break
        else:
            return


def frame_of_yours(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame of the program's own among ``frame`` and its callers."""
    while frame is not None and owner_of(frame.f_code.co_filename) != YOURS:
        frame = frame.f_back
    return frame
