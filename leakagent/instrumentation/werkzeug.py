"""werkzeug: the development server of Flask, and its reloader.

A threaded server answers each request in a daemon thread, which Python cuts off when the main thread has ended: a request in flight is lost half-way.
It gets the grace here, and what is left is told.

The reloader's parent waits in ``subprocess.call`` for the process that serves.  When that call is left by an exception, be it of Ctrl+C or of
werkzeug's own handler of SIGTERM, it kills the child at once (after Ctrl+C it waits 0.25 s), in the middle of its requests and of its clean-up.
Here the child is asked first, and killed only if it has not ended in time.
"""

from __future__ import annotations

import sys
import time

from leakagent import guard
from leakagent.core.findings import KILLED, NONE, REFUSED_CLEANUP
from leakagent.core.records import SUBPROCESS, THREAD
from leakagent.shutdown import interpreter
from leakagent.shutdown.signals import state

from .servers import FIX_TIMEOUTS, POLL_SECONDS, Server, frame_of_yours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread
    from types import FrameType, ModuleType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.registry import Registry

    from .patching import Patches

#: Seconds that a child gets after its own grace to report, and after SIGTERM to end.
CHILD_SECONDS = 2.0


class Werkzeug(Server):
    """Gives requests in flight their grace, and the reloader's child its end."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Know of no request yet."""
        super().__init__(registry, settings)
        self._requests: dict[Thread, tuple[str, float]] = {}

    def forked(self) -> None:
        """Forget the parent's requests."""
        super().forked()
        self._requests.clear()

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch a module of `leakagent.instrumentation.TARGETS`."""
        if module.__name__ == "werkzeug.serving":
            patches.replace(module.WSGIRequestHandler, "run_wsgi", self._make_run_wsgi)
        else:
            patches.replace(module.subprocess.Popen, "kill", self._make_kill)

    # -- requests ----------------------------------------------------------------------------------------------------

    def _make_run_wsgi(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        def run_wsgi(handler: Any) -> None:  # noqa: ANN401
            thread = sys.modules["threading"].current_thread()
            self._requests[thread] = f"{handler.command} {handler.path}", time.monotonic()
            try:
                original(handler)
            finally:
                self._requests.pop(thread, None)

        return run_wsgi

    def finish(self) -> None:
        """Wait for requests in flight, in daemon threads, until the grace is over."""
        begin = time.monotonic()
        end = state.deadline(self.grace) or begin + self.grace
        while self._in_flight() and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        for thread in self._in_flight():
            name, since = self._requests[thread]
            frame = frame_of_yours(interpreter.thread_frame(thread))
            place = (None, 0) if frame is None else (frame.f_code, frame.f_lasti)
            evidence = (
                f"{name} was not done {time.monotonic() - begin:.1f} s after the main thread, and is cut off with the process"
            )
            age = time.monotonic() - since
            self.add(THREAD, name, evidence, NONE, reason=REFUSED_CLEANUP, place=place, fix=FIX_TIMEOUTS, age=age)

    def _in_flight(self) -> list[Thread]:
        return [thread for thread in list(self._requests) if thread.daemon and thread.is_alive()]

    # -- the reloader's parent ---------------------------------------------------------------------------------------

    def _make_kill(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        def kill(popen: Any) -> None:  # noqa: ANN401
            try:
                if _leaves_reloader(interpreter.caller(1)):
                    guard.call("werkzeug", self._end_child, popen)
            finally:
                original(popen)

        return kill

    def _end_child(self, popen: Any) -> None:  # noqa: ANN401
        """Have the child end; it is killed right after this if it has not."""
        begin = time.monotonic()
        # A terminal sends Ctrl+C to the child as well, and it is in the middle of its end: another signal would disturb that.
        if not (isinstance(sys.exc_info()[1], KeyboardInterrupt) and _ends(popen, self.grace + CHILD_SECONDS)):
            popen.terminate()
            if not _ends(popen, self.grace + CHILD_SECONDS):
                evidence = f"the reloader's process did not end and was killed after {time.monotonic() - begin:.1f} s"
                self.add(SUBPROCESS, f"pid {popen.pid}", evidence, KILLED, reason=REFUSED_CLEANUP)


def _leaves_reloader(frame: FrameType | None) -> bool:
    """Say whether ``subprocess.call`` is left by an exception that was raised in werkzeug's reloader."""
    return (
        frame is not None
        and frame.f_code.co_name == "call"
        and frame.f_back is not None
        and frame.f_back.f_code.co_name == "restart_with_reloader"
    )


def _ends(popen: Any, seconds: float) -> bool:  # noqa: ANN401
    end = time.monotonic() + seconds
    while popen.poll() is None and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    return popen.poll() is not None
