"""Blocks of shared memory (`multiprocessing.shared_memory`) that nobody has unlinked when the program ends.

Such a block stays in ``/dev/shm`` and takes memory until somebody unlinks it.  Python's resource tracker does so when the last process of the
tree has ended, and warns then without saying whose block it was; a tracker that is killed leaves it for good.

Told is a block that the process made which the user started, and that still exists at its very end.  A child may hand its
blocks to its parent, which unlinks them later, so those of children are not told; nor is one that is made with ``track=False`` (3.13
and newer), because that says that it shall outlive the program.  Nothing is unlinked: another program may use the block.

What is still open.  Where shared memory has no names in a file system (macOS, Windows) nothing is told.
"""

from __future__ import annotations

import os
import sys

from leakagent import guard
from leakagent.core.records import SHARED_MEMORY
from leakagent.core.sites import outside_of_constructors
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

#: Records after which those of blocks are looked for that other processes have unlinked, as a manager's does.
_MANY = 32

_FOLDER = "/dev/shm"  # noqa: S108 - where Linux keeps it (shm_overview(7))


class SharedBlocks:
    """Sees blocks of shared memory."""

    def __init__(self, registry: Registry, _settings: Settings) -> None:
        """Start without blocks."""
        self.registry = registry
        self._by_name: dict[str, Record] = {}
        self._limit = _MANY

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch `multiprocessing.shared_memory`."""
        if sys.platform == "linux":
            patches.replace(module.SharedMemory, "__init__", self._make_init)
            patches.replace(module.SharedMemory, "unlink", self._make_unlink)

    def _make_init(self, original: Callable[..., None]) -> Callable[..., None]:
        def __init__(block: Any, name: Any = None, create: Any = False, size: Any = 0, **more: Any) -> None:  # noqa: ANN401, FBT002, N807 - takes the place of the method
            try:
                original(block, name, create, size, **more)
            except BaseException as error:
                hide_frames(error)
                raise
            if create and more.get("track", True):
                guard.call("shared memory", self._note, block, interpreter.caller(1))

        return __init__

    def _make_unlink(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        def unlink(block: Any) -> None:  # noqa: ANN401
            try:
                original(block)
            except BaseException as error:
                hide_frames(error)
                raise
            guard.call("shared memory", self._unlinked, block)

        return unlink

    def _note(self, block: Any, frame: FrameType | None) -> None:  # noqa: ANN401
        if len(self._by_name) >= self._limit:
            self.left_over()
            self._limit = max(_MANY, 2 * len(self._by_name))
        record = self.registry.add(SHARED_MEMORY, block, outside_of_constructors(frame, block), name=block.name)
        self._by_name[block.name] = record

    def _unlinked(self, block: Any) -> None:  # noqa: ANN401
        record = self._by_name.pop(block.name, None)
        if record is not None:
            self.registry.finish(record)

    def left_over(self) -> list[tuple[Record, int]]:
        """Return the records of blocks that still exist, each with its size in bytes."""
        left = []
        for name, record in list(self._by_name.items()):
            try:
                left.append((record, os.stat(os.path.join(_FOLDER, name)).st_size))
            except OSError:  # another process has unlinked it
                self.registry.finish(self._by_name.pop(name))
        return left

    def forked(self) -> None:
        """Forget everything in a forked child."""
        self._by_name.clear()
