"""Event loops that are blocked: a call in a coroutine that does not come back, while others wait for the loop.

The problem.  A blocked loop runs no timer and no callback, so it can't tell; and a thread that computes looks like one that waits.

What we do.  The agent's own thread looks at the frame that the loop's thread runs.  In ``select`` called by the loop itself: it has nothing to do.
Else a callback is put into the loop (``call_soon_threadsafe``), at most one at a time: a loop that is merely busy runs it.  If it
has not been run for the whole threshold, the loop is blocked, and the frame says by what.  It is told only if somebody
has to wait because of it (other tasks, timers, sockets, callbacks): a script whose only coroutine computes does no harm; nor if a person
may be looking (debugger, notebook).

uvloop's loops have no frames, and do not tell their thread: there the callback is put in at each look, and tells the thread.
"""

from __future__ import annotations

import _thread
import time
import weakref

from leakagent import guard
from leakagent.core.findings import STALLED
from leakagent.core.records import EVENT_LOOP, Record
from leakagent.core.sites import YOURS, capture_stack, creating_frame, line_of, outside_of_constructors, owner_of
from leakagent.detect.stalled import Stall, is_attended
from leakagent.shutdown import interpreter
from leakagent.watcher import SHARE, watcher

from .patching import hide_frames
from .task_notes import pending_tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from types import CodeType, FrameType, ModuleType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.registry import Registry

    from .patching import Patches

#: Blocks of the same loop that are told at most.
MOST = 20

_DEEPEST = 200


class _Loop:
    """One event loop, referred to weakly."""

    __slots__ = ("asked", "blocked", "looks", "record", "ref", "thread")

    def __init__(self, loop: AbstractEventLoop, record: Record) -> None:
        self.ref = record.ref = weakref.ref(loop)
        self.record = record
        self.thread = _thread.get_ident()
        self.asked = 0.0
        self.looks = 0
        self.blocked: Stall | None = None

    def answer(self) -> None:
        """Run by the loop itself."""
        self.thread = _thread.get_ident()
        self.rest()

    def rest(self) -> None:
        """Note that it is not blocked."""
        if self.blocked is not None:
            self.blocked.evidence[0] = _how_long(time.monotonic() - self.asked)
        self.asked = 0.0
        self.looks = 0
        self.blocked = None


class Loops:
    """Sees every event loop that asyncio's base class or uvloop makes.

    Attributes:
        found: What was blocked; it stays there when the loop goes on.

    """

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Start without loops; ``settings.stalled_after`` is the threshold in seconds."""
        self.registry = registry
        self.threshold = settings.stalled_after
        self.found: list[Stall] = []
        self._loops: list[_Loop] = []

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch the constructor of event loops."""
        if module.__name__ == "asyncio.base_events":
            patches.replace(module.BaseEventLoop, "__init__", self._make_init)
        elif module.__name__ == "uvloop" and "__init__" not in vars(module.Loop):
            patches.override(module.Loop, "__init__", self._make_init)

    def forget(self) -> None:
        """Drop all that is known."""
        self._loops.clear()
        self.found.clear()

    def _make_init(self, original: Callable[..., None]) -> Callable[..., None]:
        def __init__(loop: AbstractEventLoop, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, N807 - takes the place of the method
            try:
                original(loop, *args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            guard.call("event loops", self._note, loop, interpreter.caller(1))

        return __init__

    def _note(self, loop: AbstractEventLoop, frame: FrameType | None) -> None:
        self._loops = [one for one in self._loops if one.ref() is not None]
        place = None if self.registry.level == "count" else creating_frame(outside_of_constructors(frame, loop))
        code, lasti = (None, 0) if place is None else (place.f_code, place.f_lasti)
        record = Record(0, EVENT_LOOP, code, lasti, time.monotonic(), self.registry.pid)
        record.detail["thread"] = _thread.get_ident()
        if self.registry.level == "stack":
            record.stack = capture_stack(place)
        if self.registry.owned is not None:
            self.registry.owned(record)
        self._loops.append(_Loop(loop, record))
        watcher.needed()

    def running(self) -> list[AbstractEventLoop]:
        """Return the loops that run."""
        return [loop for one in self._loops if (loop := one.ref()) is not None and loop.is_running()]

    def adopt(self, loops: list[AbstractEventLoop]) -> None:
        """Watch loops that were there before the agent."""
        for loop in loops:
            self._note(loop, None)

    def open(self) -> list[Record]:
        """Return a record of each event loop that nobody has closed and that does not run."""
        loops = [(one.record, loop) for one in self._loops if (loop := one.ref()) is not None]
        return [record for record, loop in loops if not loop.is_closed() and not loop.is_running()]

    def stands_still(self, loop: AbstractEventLoop) -> bool:
        """Say whether an event loop that this thread has made does not run now, but may again."""
        if loop.is_closed() or loop.is_running():
            return False
        return any(one.ref() is loop and one.record.detail["thread"] == _thread.get_ident() for one in self._loops)

    def look(self) -> list[Stall]:
        """Look once at every loop, and return what has been blocked for the whole threshold."""
        stalls = []
        for one in self._loops:
            loop = one.ref()
            if loop is None or loop.is_closed() or not loop.is_running():
                one.rest()
                continue
            stall = self._look_at(one, loop)
            if stall is not None:
                stalls.append(stall)
        return stalls

    def _look_at(self, one: _Loop, loop: AbstractEventLoop) -> Stall | None:
        frame = interpreter.frames().get(interpreter.thread_of(loop) or one.thread)
        if frame is None or _is_idle(frame):
            one.rest()
            return None
        if not one.asked:
            one.asked, one.looks = time.monotonic(), 0
            loop.call_soon_threadsafe(one.answer)
            return None
        one.looks += 1
        seconds = time.monotonic() - one.asked
        if one.looks < SHARE or seconds < self.threshold or one.blocked is not None:
            return None
        stack = _stack(frame)
        del frame
        if not stack or is_attended([code.co_filename for code, _ in stack]) or not self._harms(loop):
            return None
        return self._blocked(one, stack, seconds)

    def _harms(self, loop: AbstractEventLoop) -> bool:
        return len(pending_tasks(loop)) > 1 or interpreter.others_wait_for(loop)

    def _blocked(self, one: _Loop, stack: list[tuple[CodeType, int]], seconds: float) -> Stall:
        code, lasti = next((entry for entry in stack if owner_of(entry[0].co_filename) == YOURS), stack[0])
        record = Record(0, EVENT_LOOP, code, lasti, one.asked, self.registry.pid)
        chain = [(code.co_filename, line_of(code, lasti), code.co_name) for code, lasti in reversed(stack)]
        one.blocked = stall = Stall(record, STALLED, chain, [_how_long(seconds)])
        if len(self.found) < MOST:
            self.found.append(stall)
        return stall


def _how_long(seconds: float) -> str:
    return f"nothing else has run in it for {seconds:.1f} s"


def _is_idle(frame: FrameType) -> bool:
    """Say whether a loop of asyncio waits for something to do: in its own ``select``, and in no other loop inside of it."""
    back = frame.f_back
    if frame.f_code.co_name != "select" or back is None or back.f_code.co_name != "_run_once":
        return False
    runs, step = 0, frame.f_back
    while step is not None:
        runs += step.f_code is back.f_code
        step = step.f_back
    return runs == 1


def _stack(frame: FrameType | None) -> list[tuple[CodeType, int]]:
    """Return code and offset of the frames down to the event loop's own, innermost first; nothing if it is in the loop's own code."""
    stack: list[tuple[CodeType, int]] = []
    while frame is not None and len(stack) < _DEEPEST:
        package = str(frame.f_globals.get("__package__", ""))
        if package in {"asyncio", "uvloop", "nest_asyncio"} and frame.f_code.co_name in {
            "_run",
            "_run_once",
            "run_forever",
            "run",
        }:
            break
        if not package.startswith("leakagent"):
            stack.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return stack
