"""Files that a daemon thread is in the middle of writing when the program ends.

The problem.  Python stops daemon threads wherever they are.  Their frames are never left, so no ``with`` and no ``finally`` runs, and
what is in the buffer of a file that such a thread writes does not get into the file.

What does not work.  To look whether the thread is inside of ``write``: it is written in C and has no frame, and the thread may be
computing the next line.  To ask the buffer how full it is: that takes the buffer's lock, which the thread may have.

What we do.  A file that is open for writing and that a local variable of one of the thread's functions refers to is half-way.
Only files that are written anew count (modes ``w``, ``x`` and ``+``): one that is appended to is a log, complete at every moment.

What is still open.  A file that only an attribute or a C iterator refers to is not seen.
"""

from __future__ import annotations

import io
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

#: Frames that are looked at, from the innermost on.
MOST_FRAMES = 100

#: As `io.FileIO` names them; ``w+`` is called ``rb+`` up to 3.14.
_MODES = frozenset({"wb", "xb", "rb+", "wb+", "xb+"})


def half_written(frame: FrameType | None) -> list[str]:
    """Return the paths of the files that the functions of a thread are writing, innermost first.

    Args:
        frame: What the thread runs now.

    """
    found: list[str] = []
    for _ in range(MOST_FRAMES):
        if frame is None:
            break
        for value in list(frame.f_locals.values()):
            path = _path_of(value)
            if path and path not in found:
                found.append(path)
        frame = frame.f_back
    return found


def _path_of(value: object) -> str:
    """Return the path of a file object of the standard library's own types that is open for writing, else nothing."""
    if type(value) is io.TextIOWrapper:
        value = value.buffer
    if type(value) in {io.BufferedWriter, io.BufferedRandom}:
        value = value.raw  # type: ignore[attr-defined]
    if type(value) is not io.FileIO or value.closed or value.mode not in _MODES or isinstance(value.name, int):
        return ""
    return os.fsdecode(value.name)
