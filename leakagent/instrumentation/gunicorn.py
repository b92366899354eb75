"""gunicorn: the arbiter, and its sync and threaded workers (what uvicorn does in one is in `leakagent.instrumentation.uvicorn`).

gunicorn has a limit of its own, ``--graceful-timeout``: 30 s unless the user sets it, after which workers are killed and nothing can
be told.  When the arbiter is stopped, and the user has set no limit, workers get the grace, and are then asked by gunicorn's own signal for a
quick end, SIGQUIT: its handler raises `SystemExit` in the worker's main thread, so a request in flight is left by ``finally`` and the worker's
end runs.  uvicorn's worker, which looks at no SIGQUIT, has its server ended.  Only a worker that does not come back from C code is killed.  Nothing is changed when workers are replaced (SIGHUP, ``--max-requests``).
"""

from __future__ import annotations

import _thread
import os
import sys
import time
from contextlib import suppress

from leakagent import guard
from leakagent.core.findings import CANCELLED, KILLED, REFUSED_CLEANUP, RELEASED
from leakagent.core.records import PROCESS, THREAD
from leakagent.core.sites import YOURS, owner_of
from leakagent.shutdown import interpreter
from leakagent.shutdown.signals import state

from .servers import FIX_TIMEOUTS, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType
    from typing import Any

    from .patching import Patches

_SETTING = "graceful_timeout"

#: What the arbiter leaves for a worker whose grace is over.
_LATE = b"late"


class Gunicorn(Server):
    """Bounds the end of gunicorn's arbiter, and names what its workers were at."""

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch a module of `leakagent.instrumentation.TARGETS`."""
        if module.__name__ == "gunicorn.arbiter":
            patches.replace(module.Arbiter, "stop", self._make_stop)
            patches.replace(module.Arbiter, "kill_worker", self._make_kill_worker)
        elif module.__name__ == "gunicorn.workers.base":
            patches.replace(module.Worker, "handle_exit", self._make_handle_exit)
            patches.replace(module.Worker, "handle_quit", self._make_handle_quit)
        else:
            patches.replace(module.ThreadWorker, "handle_exit", self._make_handle_exit)

    # -- arbiter -----------------------------------------------------------------------------------------------------

    def _make_stop(self, original: Callable[..., None]) -> Callable[..., None]:
        def stop(arbiter: Any, graceful: bool = True) -> None:  # noqa: ANN401, FBT001, FBT002 - gunicorn's signature
            begin = time.monotonic()
            guard.call("gunicorn", self._begin_stop, arbiter)
            original(arbiter, graceful)
            # It is stopped as well when a worker can't boot.
            if not graceful or isinstance(sys.exc_info()[1], StopIteration):
                state.ask(_quit_signal(), self.budget + time.monotonic() - begin)

        return stop

    def _begin_stop(self, arbiter: Any) -> None:  # noqa: ANN401
        setting = arbiter.cfg.settings[_SETTING]
        if self._told_at or setting.get() != type(setting).default:
            return
        self._told_at = time.monotonic()
        # It is a whole number.
        setting.set(max(1, int(min(setting.get(), self.budget - 1))))
        _thread.start_new_thread(guard.call, ("gunicorn", self._quit_workers, arbiter))

    def _quit_workers(self, arbiter: Any) -> None:  # noqa: ANN401
        time.sleep(self.grace)
        for pid, worker in list(arbiter.WORKERS.items()):
            # In the file by which workers show that they live; nobody reads what is in it.
            os.pwrite(worker.tmp.fileno(), _LATE, 0)
            with suppress(ProcessLookupError):
                os.kill(pid, _quit_signal())

    def _make_kill_worker(self, original: Callable[..., None]) -> Callable[..., None]:
        def kill_worker(arbiter: Any, pid: int, sig: int) -> None:  # noqa: ANN401
            original(arbiter, pid, sig)
            guard.call("gunicorn", self._killed, arbiter, pid, sig)

        return kill_worker

    def _killed(self, arbiter: Any, pid: int, sig: int) -> None:  # noqa: ANN401
        import signal  # gunicorn has loaded it

        if self._told_at and sig == signal.SIGKILL:
            evidence = f"a worker did not end and was killed after {self.seconds():.1f} s"
            place = (type(arbiter).spawn_worker.__code__, 0)
            self.add(PROCESS, f"worker (pid {pid})", evidence, KILLED, reason=REFUSED_CLEANUP, place=place)

    # -- workers -----------------------------------------------------------------------------------------------------

    def _make_handle_exit(self, original: Callable[..., None]) -> Callable[..., None]:
        def handle_exit(worker: Any, sig: int, frame: FrameType | None) -> None:  # noqa: ANN401
            original(worker, sig, frame)
            guard.call("gunicorn", self._worker_told, worker)
            if sig == _quit_signal():
                guard.call("gunicorn", self._end_uvicorn)

        return handle_exit

    def _end_uvicorn(self) -> None:
        # The arbiter's Ctrl+C.  uvicorn's worker only notes it, where uvicorn never looks (0.54), and is killed when 30 s are over.
        uvicorn = self.ending().agent.parts.get("uvicorn")
        if uvicorn is not None:
            uvicorn.stop_servers()

    def _worker_told(self, worker: Any, late: bool = False) -> None:  # noqa: ANN401, FBT001, FBT002 - called by the guard
        if late or not self._told_at:
            self._told_at = time.monotonic() - (self.grace if late else 0)
            # Once the requests are done, nobody waits for what else the application has left, longer than for them.
            state.ask(_quit_signal(), worker.cfg.settings[_SETTING].get(), self._told_at)

    def _make_handle_quit(self, original: Callable[..., None]) -> Callable[..., None]:
        def handle_quit(worker: Any, sig: int, frame: FrameType | None) -> None:  # noqa: ANN401
            # Others are sent by Ctrl+C.  That SIGTERM has come before may not be known: a call that waits is not interrupted by it.
            late = guard.call("gunicorn", self._is_late, worker)
            guard.call("gunicorn", self._worker_told, worker, late)
            if late:
                guard.call("gunicorn", self._note_requests, worker, frame)
            original(worker, sig, frame)

        return handle_quit

    def _is_late(self, worker: Any) -> bool:  # noqa: ANN401
        """Say whether a worker gets its quick end from us, when the grace is over."""
        if worker.tmp._tmp.closed:  # noqa: SLF001 - the arbiter's Ctrl+C was first: its loop is over, and what keeps it is a thread
            return bool(self._told_at)
        return os.pread(worker.tmp.fileno(), len(_LATE), 0) == _LATE

    def _note_requests(self, worker: Any, frame: FrameType | None) -> None:  # noqa: ANN401
        """Note the requests that a worker answers, in its main thread, where the handler interrupts it, or in threads."""
        self._note_request(frame, CANCELLED)
        for thread in interpreter.pool_threads(getattr(worker, "tpool", None)):
            if self._note_request(interpreter.thread_frame(thread), RELEASED):
                self.threads.add(thread)

    def _note_request(self, frame: FrameType | None, action: str) -> bool:
        found = None
        while frame is not None:
            name = str(frame.f_globals.get("__name__", ""))
            if name.startswith("gunicorn.workers."):
                break
            if found is None and owner_of(frame.f_code.co_filename) == YOURS:
                found = frame
            frame = frame.f_back
        # Others are those of a worker that still loads the application.
        if found is None or frame is None or frame.f_code.co_name != "handle_request":
            return False
        evidence = f"the request in flight was not done {self.seconds():.1f} s after the worker was told to end"
        place = (found.f_code, found.f_lasti)
        self.add(THREAD, "request", evidence, action, place=place, fix=FIX_TIMEOUTS + "; gunicorn --graceful-timeout SECONDS")
        return True


def _quit_signal() -> int:
    import signal  # gunicorn has loaded it

    return int(signal.SIGQUIT)
