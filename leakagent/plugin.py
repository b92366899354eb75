"""What a package needs to teach the agent a library of its own: see ``docs/plugins.md`` and ``examples/plugin``.

Nothing but what stands here is an interface for plug-ins.
"""

from __future__ import annotations

from .config import Settings
from .core.records import DROPPED, FINISHED, LIVE, Record
from .core.registry import Registry
from .instrumentation.closables import Closables, creator
from .instrumentation.patching import Patches
from .instrumentation.protocol import Instrumentation

__all__ = ["DROPPED", "FINISHED", "LIVE", "Closables", "Instrumentation", "Patches", "Record", "Registry", "Settings", "creator"]
