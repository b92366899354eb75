"""Threads: where each was started, so that one that keeps the process alive can be named."""

from __future__ import annotations

from leakagent import guard
from leakagent.core.records import THREAD
from leakagent.shutdown import interpreter

from .patching import hide_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread
    from types import FrameType, ModuleType

    from leakagent.config import Settings
    from leakagent.core.records import Record
    from leakagent.core.registry import Registry

    from .patching import Patches


class Threads:
    """Sees threads that are started."""

    def __init__(self, registry: Registry, _settings: Settings) -> None:
        """Start without threads."""
        self.registry = registry

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch `threading`."""
        patches.replace(module.Thread, "start", self._make_start)

    def _make_start(self, original: Callable[[Thread], None]) -> Callable[[Thread], None]:
        def start(thread: Thread) -> None:
            try:
                original(thread)
            except BaseException as error:
                hide_frames(error)
                raise
            guard.call("threads", self._note, thread, interpreter.caller(1))

        return start

    def _note(self, thread: Thread, frame: FrameType | None) -> None:
        if self.registry.is_own(frame):
            return
        self.registry.add(THREAD, thread, frame, name=thread.name)
        if len(self.registry) > self._sweep_at:
            self.sweep()

    def adopt(self, threads: list[Thread]) -> int:
        """Note threads that were started before the agent, and return how many there are; each with what it runs."""
        known = {id(record.resource()) for record in self.registry.of_kind(THREAD)}
        new = [thread for thread in threads if id(thread) not in known]
        for thread in new:
            self.registry.adopt(THREAD, thread, interpreter.code_of_thread(thread), name=thread.name)
        return len(new)

    _sweep_at = 256

    def sweep(self) -> None:
        """Forget the threads that have ended."""
        for record in self.registry.of_kind(THREAD):
            thread = record.resource()
            if thread is None or not thread.is_alive():
                self.registry.finish(record)
        self._sweep_at = 256 + 2 * len(self.registry)

    def record_of(self, thread: Thread) -> Record | None:
        """Return the record of a thread."""
        return next((record for record in self.registry.of_kind(THREAD) if record.resource() is thread), None)
