"""streamlit: a script that works when the server is stopped.

Each session runs the script in a thread of its own.  When the server is stopped, that thread is asked to end, which it looks at in
calls of streamlit only.  Up to 1.64 it is no daemon: Python waits for it, and it prints on for as long as it likes.  From 1.65 on it is one,
and is cut off at any line: no ``finally``, no ``with``.

What we do: a script that does not end by itself within a moment is stopped by the very exception that streamlit raises in its calls, at
the next instruction, as Ctrl+C does in a plain script.  So its clean-up runs, and the process can end.

What is still open.  A script that does not come back from C code (``time.sleep``, a long query) gets the exception when it does; it is let
go when the grace is over.
"""

from __future__ import annotations

import sys
import time

from leakagent.core.findings import CANCELLED, NONE, REFUSED_CLEANUP, RELEASED
from leakagent.core.records import THREAD
from leakagent.shutdown import interpreter
from leakagent.shutdown.signals import state

from .servers import POLL_SECONDS, Server, frame_of_yours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Thread
    from types import ModuleType
    from typing import Any

    from .patching import Patches

#: Name of the threads that run scripts, in all versions since 1.12.
_THREAD_NAME = "ScriptRunner.scriptThread"

#: Seconds that a script gets to end in one of streamlit's own calls.
MOMENT = 0.3

FIX = "a long job belongs into a process of its own, or has to look at a stop event; the server does not wait for scripts"


class Streamlit(Server):
    """Stops scripts that work on when the server has ended."""

    _stop: Any = None

    def arrived(self, module: ModuleType, _patches: Patches) -> None:
        """Note the exception that stops a script; nothing is patched."""
        self._stop = module.StopException

    def finish(self) -> None:
        """Stop the scripts, and wait for them until the grace is over."""
        if not _scripts():
            return
        begin = time.monotonic()
        # The server's own handlers have ended it, since nothing else does.
        state.ask(interpreter.CTRL_C, self.budget)
        _wait(begin + MOMENT)
        stopped = []
        for thread in _scripts():
            frame = frame_of_yours(interpreter.thread_frame(thread))
            if frame is not None:
                place = frame.f_code, frame.f_lasti
                del frame
                if interpreter.raise_in(thread, self._stop):
                    stopped.append((thread, place))
        _wait(begin + self.grace)
        for thread, place in stopped:
            seconds = time.monotonic() - begin
            if not thread.is_alive():
                evidence = "the script was at work when the server ended, and was stopped"
                self.add(THREAD, "script", evidence, CANCELLED, place=place, fix=FIX)
            else:
                self.threads.add(thread)
                evidence = f"the script did not end in {seconds:.1f} s, and is cut off with the process"
                action = NONE if thread.daemon else RELEASED
                self.add(THREAD, "script", evidence, action, reason=REFUSED_CLEANUP, place=place, fix=FIX)


def _scripts() -> list[Thread]:
    return [thread for thread in sys.modules["threading"].enumerate() if thread.name == _THREAD_NAME]


def _wait(end: float) -> None:
    while _scripts() and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
