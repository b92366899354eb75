"""hypercorn: its asyncio and uvloop workers, and the process that starts them.

At its end hypercorn waits for requests (``graceful_timeout``, 3 s), on Python 3.12 and newer before that for open connections without any
limit (`asyncio.Server.wait_closed`), then for the application's clean-up (``shutdown_timeout``, 60 s).  The parent tells its workers by an event; when the
first one has ended it terminates the others, in the middle of their requests, and does not look whether they are gone.
"""

from __future__ import annotations

import sys
import time

from leakagent import guard
from leakagent.core.findings import CANCELLED, KILLED, REFUSED_CLEANUP
from leakagent.core.records import PROCESS, TASK
from leakagent.shutdown import interpreter

from .servers import FIX_LIFESPAN, POLL_SECONDS, Server, end_tasks, place_of, place_of_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType
    from typing import Any

    from .patching import Patches

_SHUTDOWN = "shutdown_timeout"


class Hypercorn(Server):
    """Bounds the end of hypercorn's workers and of their parent."""

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch a module of `leakagent.instrumentation.TARGETS`."""
        if module.__name__ == "hypercorn.run":
            patches.replace(module, "_join_exited", self._make_join)
        elif module.__name__ == "hypercorn.asyncio.run":
            patches.replace(module, "raise_shutdown", self._make_raise_shutdown)
        elif module.__name__ == "hypercorn.asyncio.lifespan":
            patches.replace(module.Lifespan, "wait_for_shutdown", self._make_lifespan)
        else:
            patches.replace(module, "_handle", self._make_handle)

    # -- workers -----------------------------------------------------------------------------------------------------

    def _make_raise_shutdown(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def raise_shutdown(shutdown_event: Any) -> None:  # noqa: ANN401
            try:
                await original(shutdown_event)
            except sys.modules["asyncio"].CancelledError:
                raise
            except Exception:
                # The other one that is waited for is ``--max-requests``.
                if type(getattr(shutdown_event, "__self__", None)).__name__ != "EventWrapper":
                    guard.call("hypercorn", self._told)
                raise

        return raise_shutdown

    def _told(self) -> None:
        self.told(interpreter.CTRL_C, known=False)
        asyncio = sys.modules["asyncio"]
        for task in asyncio.all_tasks():
            coro = task.get_coro()
            frame = getattr(coro, "cr_frame", None)
            if frame is not None and frame.f_code.co_name == "worker_serve":
                config, tasks = frame.f_locals["config"], frame.f_locals["server_tasks"]
                asyncio.get_running_loop().call_later(
                    config.graceful_timeout, guard.call, "hypercorn", self._close, coro, config, tasks
                )

    def _close(self, coro: Any, config: Any, tasks: set[Any]) -> None:  # noqa: ANN401
        """Close the connections, if that is what hypercorn waits for; it cancels the requests itself then, whose time is over."""
        if getattr(coro.cr_await, "__name__", "") != "wait_closed":
            return
        config.graceful_timeout = POLL_SECONDS
        for task in list(tasks):
            frame = getattr(task.get_coro(), "cr_frame", None)
            if frame is not None and "writer" in frame.f_locals:
                frame.f_locals["writer"].transport.abort()

    def _make_handle(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def _handle(app: Any, config: Any, scope: Any, *args: Any) -> None:  # noqa: ANN401
            try:
                await original(app, config, scope, *args)
            except sys.modules["asyncio"].CancelledError as error:
                # Not when the client goes.
                if self.is_told() and self.seconds() >= config.graceful_timeout:
                    guard.call("hypercorn", self._note_request, error)
                raise

        return _handle

    def _note_request(self, error: BaseException) -> None:
        self.add_request(sys.modules["asyncio"].current_task(), CANCELLED, place_of_error(error))

    def _make_lifespan(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def wait_for_shutdown(lifespan: Any) -> None:  # noqa: ANN401
            if self.is_told() and _SHUTDOWN not in vars(lifespan.config):
                setattr(lifespan.config, _SHUTDOWN, self.grace)
            try:
                await original(lifespan)
            except Exception as error:
                if type(error).__name__ == "LifespanTimeoutError":
                    await end_tasks(guard.call("hypercorn", self._note_lifespan, lifespan) or [])
                raise
            finally:
                guard.call("hypercorn", self.ended)

        return wait_for_shutdown

    def _note_lifespan(self, lifespan: Any) -> list[Any]:  # noqa: ANN401
        """Note the task that runs the application's clean-up, and return it in a list."""
        found = []
        for task in sys.modules["asyncio"].all_tasks():
            frame = getattr(task.get_coro(), "cr_frame", None)
            if frame is not None and frame.f_code.co_name == "handle_lifespan" and frame.f_locals.get("self") is lifespan:
                evidence = f"the application's clean-up was not done {self.since_told()}"
                self.add(TASK, "lifespan", evidence, CANCELLED, place=place_of(task), fix=FIX_LIFESPAN)
                found.append(task)
        return found

    # -- parent ------------------------------------------------------------------------------------------------------

    def _make_join(self, original: Callable[[list[Any]], int]) -> Callable[[list[Any]], int]:
        def _join_exited(processes: list[Any]) -> int:
            guard.call("hypercorn", self._join, processes, interpreter.caller(1))
            return original(processes)

        return _join_exited

    def _join(self, processes: list[Any], frame: FrameType | None) -> None:
        """Wait for all workers when the program ends, and kill those that don't: each ends itself within the budget, if it can."""
        if frame is None or frame.f_locals.get("active") is not False:
            return
        begin = time.monotonic()
        for process in processes:
            process.join(max(0.0, begin + self.budget + 0.5 - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()
                evidence = f"a worker did not end and was killed after {time.monotonic() - begin:.1f} s"
                self.add(PROCESS, f"{process.name} (pid {process.pid})", evidence, KILLED, reason=REFUSED_CLEANUP)
