"""Processes that `multiprocessing` starts, by every start method: all go through ``BaseProcess.start``.

A record holds its ``Process`` object until its exit status is known: only the object can tell it.  Workers of pools are
the pool's business and carry its module in ``detail["pool"]``.
"""

from __future__ import annotations

from leakagent import guard
from leakagent.core.records import PROCESS
from leakagent.processes import ledger
from leakagent.processes.identity import is_gone, look
from leakagent.shutdown import interpreter

from .patching import hide_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.records import Record
    from leakagent.core.registry import Registry

    from .patching import Patches

_POOL_MODULES = ("concurrent.futures.process", "multiprocessing.pool", "multiprocessing.managers")


class Processes:
    """Sees processes that `multiprocessing` starts."""

    def __init__(self, registry: Registry, _settings: Settings) -> None:
        """Start without processes."""
        self.registry = registry
        #: Called when Ctrl+C comes while somebody waits for a child.
        self.interrupted: Callable[[], None] = lambda: None

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch `multiprocessing.process`."""
        patches.replace(module.BaseProcess, "start", self._make_start)
        patches.replace(module.BaseProcess, "join", self._make_join)
        for name in ("terminate", "kill"):
            patches.replace(module.BaseProcess, name, self._make_signal)

    def _make_start(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        def start(process: Any) -> None:  # noqa: ANN401
            try:
                original(process)
            except BaseException as error:
                hide_frames(error)
                raise
            guard.call("processes", self._note, process, interpreter.caller(1))

        return start

    def _make_join(self, original: Callable[..., None]) -> Callable[..., None]:
        def join(process: Any, timeout: float | None = None) -> None:  # noqa: ANN401
            try:
                original(process, timeout)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    guard.call("why", self.interrupted)
                hide_frames(error)
                raise
            guard.call("processes", self._joined, process)

        return join

    def _make_signal(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        def end(process: Any) -> None:  # noqa: ANN401
            try:
                original(process)
            except BaseException as error:
                hide_frames(error)
                raise
            guard.call("processes", self._told_to_end, process)

        return end

    def _note(self, process: Any, frame: FrameType | None) -> None:  # noqa: ANN401
        # As `start` itself has just done: an object that is kept keeps a file descriptor.
        self.alive()
        record = self.registry.add(PROCESS, process, frame, name=f"{process.name} (pid {process.pid})", weak=False)
        record.detail["pool"] = _pool_of(frame)
        record.detail["told_to_end"] = False
        seen = look(process.pid)
        record.detail["start"] = seen.start if seen is not None else ""
        guard.call("ledger", ledger.own.note, process.pid, PROCESS, process.name, record.code, record.lasti)

    def adopt(self, processes: list[tuple[Any, str]]) -> int:
        """Note children that were started before the agent, each with the module of its pool, and return how many there are."""
        known = {id(record.resource()) for record in self.alive()}
        new = [(process, pool) for process, pool in processes if id(process) not in known and not _ended(process)]
        for process, pool in new:
            record = self.registry.adopt(PROCESS, process, None, name=f"{process.name} (pid {process.pid})", weak=False)
            seen = look(process.pid)
            record.detail.update(pool=pool, told_to_end=False, start=seen.start if seen is not None else "")
            guard.call("ledger", ledger.own.note, process.pid, PROCESS, process.name, None, 0)
        return len(new)

    def _told_to_end(self, process: Any) -> None:  # noqa: ANN401
        for record in self.registry.of_kind(PROCESS):
            if record.resource() is process:
                record.detail["told_to_end"] = True

    def _joined(self, process: Any) -> None:  # noqa: ANN401
        for record in self.registry.of_kind(PROCESS):
            if record.resource() is process and _ended(process):
                self.registry.finish(record)

    def workers_of_loky(self) -> list[Any]:
        """Return the workers of loky's executors: after a signal nobody but loky itself would wait for them, and for ever."""
        return [record.resource() for record in self.alive() if record.detail["pool"].endswith(interpreter.LOKY_EXECUTOR)]

    def alive(self, *, exact: bool = False) -> list[Record]:
        """Return the records of processes that still run; those that have ended are finished.

        Args:
            exact: Ask the kernel as well.  Where somebody else has waited for a child (a handler of SIGCHLD, ``os.wait``, a signal in the
                middle of `join`), its status is lost, and `multiprocessing` takes it for running for ever.

        """
        left = []
        for record in self.registry.of_kind(PROCESS):
            if record.pid != self.registry.pid or _ended(record.resource()) or (exact and _is_gone(record)):
                self.registry.finish(record)
            else:
                left.append(record)
        return left


def _ended(process: Any) -> bool:  # noqa: ANN401
    try:
        return process.exitcode is not None
    except ValueError:  # the object was closed, which needs the process to have ended
        return True


def _is_gone(record: Record) -> bool:
    start = str(record.detail.get("start", ""))
    return bool(start) and is_gone(record.resource().pid, start)


def _pool_of(frame: FrameType | None) -> str:
    """Return the module of the pool that has started a process; empty if the program itself has."""
    for _ in range(8):
        if frame is None:
            return ""
        name = str(frame.f_globals.get("__name__", ""))
        if name in _POOL_MODULES or name.endswith(interpreter.LOKY_EXECUTOR):
            return name
        frame = frame.f_back
    return ""
