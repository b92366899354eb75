"""uvicorn: one process, ``--workers``, ``--reload``, and the workers of gunicorn that run it.

What uvicorn waits for without any limit at its end (0.54): open connections and background tasks, unless ``--timeout-graceful-shutdown`` is given
(`Server._wait_tasks_to_complete`); the application's clean-up (`LifespanOn.shutdown`), where not even a second Ctrl+C helps; its workers (`Multiprocess.join_all`) and the
reloader's process (`BaseReload.shutdown`).

After its end uvicorn restores the handlers and raises the signal again, still inside ``asyncio.run``.  With the default action the
process would die right there, before tasks are cancelled and exit handlers run.  In the main process the handler of
`leakagent.shutdown.signals` is in force then.  A worker, which multiprocessing or gunicorn has started, keeps the default action until it serves:
from then on uvicorn's handlers are in front anyway, so it is taken there.
"""

from __future__ import annotations

import sys
import time
import weakref

from leakagent import guard
from leakagent.core.findings import CANCELLED, KILLED, REFUSED_CLEANUP
from leakagent.core.records import PROCESS, TASK
from leakagent.shutdown import interpreter

from .servers import FIX_LIFESPAN, Server, bounded, end_tasks, place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.registry import Registry

    from .patching import Patches

#: Seconds after the workers' own budget after which the parent ends them.
PARENT_SECONDS = 0.5


class Uvicorn(Server):
    """Bounds the ends of uvicorn's servers and supervisors."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Know of no server yet."""
        super().__init__(registry, settings)
        #: The server of each configuration, which is all that a lifespan knows.
        self._servers: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        #: Whether Ctrl+C has come once more while the server ended, and was not answered yet.
        self._is_asked = False

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch a module of `leakagent.instrumentation.TARGETS`."""
        points = {
            "uvicorn.server": (
                ("Server", "handle_exit", self._make_handle_exit),
                ("Server", "_wait_tasks_to_complete", self._make_wait),
                ("Server", "shutdown", self._make_shutdown),
                ("Server", "serve", self._make_serve),
            ),
            "uvicorn.lifespan.on": (("LifespanOn", "shutdown", self._make_lifespan),),
            "uvicorn.supervisors.multiprocess": (("Multiprocess", "join_all", self._make_join_all),),
            "uvicorn.supervisors.basereload": (("BaseReload", "shutdown", self._make_reload_shutdown),),
        }
        for owner, name, make in points[module.__name__]:
            if name in vars(getattr(module, owner)):  # older ones have not all of them
                patches.replace(getattr(module, owner), name, make)

    def stop_servers(self) -> None:
        """Have the servers of this process end as after Ctrl+C."""
        for server in list(self._servers.values()):
            server.should_exit = True
            self.told(interpreter.CTRL_C, server.config.timeout_graceful_shutdown or 0.0)

    # -- one process -------------------------------------------------------------------------------------------------

    def _make_handle_exit(self, original: Callable[..., None]) -> Callable[..., None]:
        def handle_exit(server: Any, sig: int, frame: FrameType | None) -> None:  # noqa: ANN401
            original(server, sig, frame)
            guard.call("uvicorn", self._told_by, server, sig)

        return handle_exit

    def _told_by(self, server: Any, sig: int) -> None:  # noqa: ANN401
        # Answered by those who wait, in the event loop: this is the handler of a signal.
        self._is_asked = sig == interpreter.CTRL_C and self.is_told() and server.force_exit
        self.told(sig, server.config.timeout_graceful_shutdown or 0.0)

    def _make_serve(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def serve(server: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
            self._servers[id(server.config)] = server
            taken = guard.call("uvicorn", self.signals.take_for_server)
            try:
                await original(server, *args, **kwargs)
            finally:
                if taken:
                    self.signals.give_back()

        return serve

    def _make_wait(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def _wait_tasks_to_complete(server: Any) -> None:  # noqa: ANN401
            begin = time.monotonic()
            if server.config.timeout_graceful_shutdown is not None:
                await original(server)
            # A second Ctrl+C: `asyncio.Server.wait_closed` waits for the connections nevertheless (3.12 and newer).
            elif not await bounded(original(server), lambda: self.is_over(begin) or (self.is_told() and server.force_exit)):
                # What `Server.shutdown` expects when its own limit is reached: it cancels the tasks.
                self._say_why()
                guard.call("uvicorn", self._note_requests, server)
                raise sys.modules["asyncio"].TimeoutError

        return _wait_tasks_to_complete

    def _say_why(self) -> None:
        """Answer the second Ctrl+C, before anything is cancelled."""
        if self._is_asked:
            self._is_asked = False
            self.interrupted()

    def _note_requests(self, server: Any) -> None:  # noqa: ANN401
        for task in server.server_state.tasks:
            self.add_request(task, CANCELLED)

    def _make_shutdown(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def shutdown(server: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
            try:
                await original(server, *args, **kwargs)
                tasks = guard.call("uvicorn", self._left, server)
                if tasks:
                    await end_tasks(tasks)
            finally:
                guard.call("uvicorn", self.ended)

        return shutdown

    def _left(self, server: Any) -> list[Any]:  # noqa: ANN401
        """Return the tasks that uvicorn has given up: cancelled, or left where they are after a second Ctrl+C."""
        if not self.is_told():
            return []
        tasks = list(server.server_state.tasks)
        if server.force_exit:
            self._say_why()
            self._note_requests(server)
            tasks += _lifespan_tasks(server.lifespan)
        return tasks

    def _make_lifespan(self, original: Callable[..., Any]) -> Callable[..., Any]:
        async def shutdown(lifespan: Any) -> None:  # noqa: ANN401
            begin = time.monotonic()
            server = self._servers.get(id(lifespan.config))

            def is_over() -> bool:
                return self.is_over(begin) or (self.is_told() and server is not None and server.force_exit)

            if not await bounded(original(lifespan), is_over):
                self._say_why()
                guard.call("uvicorn", self._note_lifespan, lifespan)
                await end_tasks(_lifespan_tasks(lifespan))

        return shutdown

    def _note_lifespan(self, lifespan: Any) -> None:  # noqa: ANN401
        for task in _lifespan_tasks(lifespan):
            evidence = f"the application's clean-up was not done {self.since_told()}"
            self.add(TASK, "lifespan", evidence, CANCELLED, place=place_of(task), fix=FIX_LIFESPAN)

    # -- supervisors -------------------------------------------------------------------------------------------------

    def _make_join_all(self, original: Callable[..., None]) -> Callable[..., None]:
        def join_all(supervisor: Any) -> None:  # noqa: ANN401
            guard.call("uvicorn", lambda: self._join([worker.process for worker in supervisor.processes], supervisor.config))
            original(supervisor)

        return join_all

    def _make_reload_shutdown(self, original: Callable[..., None]) -> Callable[..., None]:
        def shutdown(supervisor: Any) -> None:  # noqa: ANN401
            supervisor.process.terminate()
            guard.call("uvicorn", self._join, [supervisor.process], supervisor.config)
            original(supervisor)

        return shutdown

    def _join(self, processes: list[Any], config: Any) -> None:  # noqa: ANN401
        """Wait for workers that were told to end, and kill those that don't: each ends itself within the budget, if it can."""
        begin = time.monotonic()
        end = begin + self.budget + PARENT_SECONDS + (config.timeout_graceful_shutdown or 0.0)
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                record = next((one for one in self.registry.of_kind(PROCESS) if one.resource() is process), None)
                place = (None, 0) if record is None else (record.code, record.lasti)
                evidence = f"a worker did not end and was killed after {time.monotonic() - begin:.1f} s"
                self.add(PROCESS, f"{process.name} (pid {process.pid})", evidence, KILLED, reason=REFUSED_CLEANUP, place=place)


def _lifespan_tasks(lifespan: Any) -> list[Any]:  # noqa: ANN401
    """Return the task that runs the application's lifespan; uvicorn itself keeps no reference to it."""
    found = []
    for task in sys.modules["asyncio"].all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        if frame is not None and frame.f_code.co_name == "main" and frame.f_locals.get("self") is lifespan:
            found.append(task)
    return found
