"""Stopping lancedb's background loop in the middle of a program, and starting it again: what test suites need.

The problem.  ``import lancedb`` (0.17 and newer) starts a daemon thread with an event loop, which is there until the process ends: a
suite that checks for leaked threads fails in the first test that imports it.  The recipe that is passed around (stop the loop, join the
thread) leaves the loop open and stopped, so that the next call waits for ever for a loop that nobody runs.

What we do.  Calls in flight get their time, and are cancelled then; the loop is stopped, its thread joined, the loop closed.  In place of the
method through which all synchronous calls go stands one that first starts a new loop, so that connections and tables go on working.
The object itself stays, since other modules of lancedb have bound it by name.

This works in every program, whether the agent is active or not, and does nothing where lancedb was not imported or has no such loop (0.16).
"""

from __future__ import annotations

import _thread
import sys
import time

from leakagent.shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Seconds that a cancelled call gets to end, and a stopped thread.
GRACE = 1.0

#: Held by whoever stops the loop or starts it; calls that come meanwhile wait.
_changing = _thread.RLock()

#: Seconds after which is looked again.
LOOK_AFTER = 0.002

#: Where the loop is: 0.17 and 0.18 have its class in the first module, and the object in the second.
_MODULES = ("lancedb.background_loop", "lancedb.db")


def background_loop() -> Any:  # noqa: ANN401 - lancedb's object
    """Return lancedb's background loop, or None if there is none."""
    found = (getattr(sys.modules.get(name), "LOOP", None) for name in _MODULES)
    return next((loop for loop in found if loop is not None), None)


def is_alive(background: Any) -> bool:  # noqa: ANN401 - lancedb's object
    """Say whether its thread runs."""
    thread = getattr(background, "thread", None)
    return thread is not None and thread.is_alive()


async def drain(asyncio: Any, seconds: float, grace: float) -> None:  # noqa: ANN401 - the module, which we never import
    """Wait for what runs on this loop, then cancel what is left and wait for that."""
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if not tasks:
        return
    _, left = await asyncio.wait(tasks, timeout=seconds)
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=grace)


def drain_from_outside(background: Any, seconds: float, grace: float) -> None:  # noqa: ANN401 - lancedb's object
    """Have the loop's tasks waited for and cancelled, by the loop itself."""
    asyncio = sys.modules["asyncio"]
    errors = (RuntimeError, TimeoutError, asyncio.TimeoutError, sys.modules["concurrent.futures"].TimeoutError)
    waits = drain(asyncio, seconds, grace)
    try:
        asyncio.run_coroutine_threadsafe(waits, background.loop).result(seconds + grace)
    except errors:
        waits.close()  # the loop is closed, or blocked by a call: it is asked to stop all the same


def end_thread(background: Any, seconds: float) -> bool:  # noqa: ANN401 - lancedb's object
    """Stop the loop, join its thread, close the loop.

    Returns:
        Whether the thread has ended; if not, its loop is left open.

    """
    loop, thread = background.loop, background.thread
    try:
        loop.call_soon_threadsafe(loop.stop)
    except RuntimeError:
        return True
    thread.join(seconds)
    if thread.is_alive():
        return False
    loop.close()
    return True


def stop(seconds: float) -> bool:
    """Stop the loop until the next call; see `leakagent.testing.stop_lancedb_loop`."""
    background = background_loop()
    if is_alive(background) and background.thread.ident == interpreter.thread_number():
        message = "lancedb's background loop can't be stopped by a call that runs on it"
        raise RuntimeError(message)
    with _changing:
        if not is_alive(background):
            return True
        entrance = _Entrance(background)
        entrance.close()
        deadline = time.monotonic() + seconds
        drain_from_outside(background, seconds, GRACE)
        ended = end_thread(background, max(GRACE, deadline - time.monotonic()))
        if not ended:
            entrance.open()
    return ended


def restart() -> bool:
    """Start the loop again; see `leakagent.testing.restart_lancedb_loop`."""
    background = background_loop()
    with _changing:
        if background is None or is_alive(background):
            return False
        getattr(background, "_start", background.__init__)()
        return True


class _Entrance:
    """What stands in place of ``LOOP.run`` while the loop is stopped; the first call takes it away again."""

    def __init__(self, background: Any) -> None:  # noqa: ANN401 - lancedb's object
        self.background = background
        self._before: list[Any] = []

    def close(self) -> None:
        self._before = [vars(self.background)["run"]] if "run" in vars(self.background) else []
        self.background.run = self

    def open(self) -> None:
        if vars(self.background).get("run") is not self:
            return
        if self._before:
            self.background.run = self._before[0]
        else:
            del self.background.run

    def __call__(self, future: Any) -> Any:  # noqa: ANN401 - lancedb's method
        with _changing:
            restart()
            self.open()
        return self.background.run(future)
