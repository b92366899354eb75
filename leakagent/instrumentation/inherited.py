"""What a forked child has of its parent's native libraries: objects whose threads stayed in the parent.

The problem.  ``os.fork`` copies one thread.  A call of chromadb 1.x or of a lancedb that is not fork-safe waits in the child for a
thread that is not there, for ever; chromadb's bindings do so even when they are freed, so that a child which never touches them hangs in
its own ``sys.exit`` (measured: 1.0.20, 1.4.1, 1.5.9).

What we do.  In the child a `Stranger` stands where the object was.  It hands everything on, but first, once, tells the line that is about to hang.
The object itself is never freed in the child, so that the child can end.
"""

from __future__ import annotations

import os

from leakagent.core.sites import shown_path
from leakagent.shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any


class Stranger:
    """Stands where an inherited object was, and tells its first use.

    Args:
        real: The object, which is kept for ever.
        tell: Called once, with the frame that uses it.
        harmless: Methods that need no thread.

    """

    def __init__(self, real: object, tell: Callable[[Any], object], harmless: tuple[str, ...] = ()) -> None:
        interpreter.never_free(real)
        self._leakagent_harmless = harmless
        self._leakagent_real = real
        self._leakagent_tell: Callable[[Any], object] | None = tell

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the object has
        """Tell, and hand on."""
        if name not in self._leakagent_harmless and self._leakagent_tell is not None:
            tell, self._leakagent_tell = self._leakagent_tell, None
            tell(interpreter.caller(1))
        return getattr(self._leakagent_real, name)


def outside_of(frame: FrameType | None, *packages: str) -> FrameType | None:
    """Return the innermost frame outside of some packages."""
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in packages:
        frame = frame.f_back
    return frame


def way_out(frame: FrameType | None, *packages: str) -> str:
    """Return the innermost place outside of some packages, as ``file:line function``."""
    found = outside_of(frame, *packages)
    if found is None:
        return "<unknown>"
    return f"{shown_path(found.f_code.co_filename, os.getcwd())}:{found.f_lineno} {found.f_code.co_name}"
