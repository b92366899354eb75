"""Where a resource was created: captured as two words, resolved only when somebody reads it.

The problem: a creation site is wanted for every task, yet a task costs about two microseconds, and formatting even one
stack entry costs more than that.  ``traceback.extract_stack`` is 6 to 13 times a whole task, hashing a code object alone
can cost a microsecond.

What we do: keep the code object and the instruction offset of the creating frame, two words that the interpreter has at
hand anyway, and work out function, file, line, owner and fingerprint when a report needs them.  The code object is the
program's own and lives as long as its module does, so keeping it costs nothing and keeps no local variable alive.

What is still open: a code object made by ``exec`` for one call is kept as long as its record is.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType

YOURS = "yours"
LIBRARY = "library"

#: The offset that stands for a code object's first line, where nobody saw what made the resource.
BEFORE_THE_CODE = -1

_LIBRARY_MARKS = ("/site-packages/", "/dist-packages/")
_PACKAGE_DIR = __file__.replace("\\", "/").rsplit("/core/", 1)[0] + "/"

#: Modules whose frames only pass a creation on: the site is the first frame outside of them.
_PASSING_PACKAGES = frozenset(
    {"asyncio", "concurrent", "multiprocessing", "threading", "subprocess", "leakagent", "uvloop", "contextlib"}
)


class Site:
    """Function, file and line that created a resource.

    Attributes:
        function: Qualified name of the function (``<module>`` at module level).
        file: Path as shown to people: relative to the working folder for the program's own files, starting at the
            package for installed ones.
        line: Line number, counted from 1; 0 if the interpreter does not know it.
        owner: ``"yours"`` for the program's own code, ``"library"`` for installed packages and the standard library.
        path: The path as the interpreter knows it, to read the source from.

    """

    __slots__ = ("file", "function", "line", "owner", "path")

    def __init__(self, function: str, path: str, line: int, *, base: str = "") -> None:
        """Build a site; ``base`` is the folder that the program's own paths are shown relative to."""
        self.function = function
        self.path = path
        self.line = line
        self.owner = owner_of(path)
        self.file = shown_path(path, base)

    def __eq__(self, other: object) -> bool:
        """Two sites are equal when they name the same place."""
        return isinstance(other, Site) and self.key() == other.key()

    def __hash__(self) -> int:
        """Hash over the place."""
        return hash(self.key())

    def __repr__(self) -> str:
        """Show the place as in a report."""
        return f"<Site {self.file}:{self.line} {self.function} ({self.owner})>"

    def key(self) -> tuple[str, str, int]:
        """Return what tells two sites apart."""
        return (self.path, self.function, self.line)


def owner_of(path: str) -> str:
    """Say whether a source file belongs to the program (``yours``) or to an installed package (``library``)."""
    normal = path.replace("\\", "/")
    if is_installed(normal) or normal.startswith(("<frozen", _PACKAGE_DIR)):
        return LIBRARY
    return LIBRARY if normal.startswith(_stdlib_dir()) else YOURS


def is_installed(path: str) -> bool:
    """Say whether a source file is part of an installed package."""
    normal = path.replace("\\", "/")
    return any(mark in normal for mark in _LIBRARY_MARKS)


def starts_the_program(path: str) -> bool:
    """Say whether a source file belongs to what runs the program under ``python -m leakagent``: nobody's creation stack ends there."""
    return path.replace("\\", "/").startswith(_PACKAGE_DIR) or path == "<frozen runpy>" or path.endswith("/runpy.py")


def _stdlib_dir() -> str:
    source = getattr(sys.modules.get("os"), "__file__", None) or ""
    return source.replace("\\", "/").rpartition("/")[0] + "/" if source else "\0"


def shown_path(path: str, base: str) -> str:
    """Shorten a path for people: relative to ``base`` or, for installed packages, starting at the package."""
    normal = path.replace("\\", "/")
    for mark in _LIBRARY_MARKS:
        _head, found, tail = normal.rpartition(mark)
        if found:
            return tail
    stdlib = _stdlib_dir()
    if normal.startswith(stdlib):
        return normal[len(stdlib) :]
    root = base.replace("\\", "/").rstrip("/") + "/"
    return normal[len(root) :] if base and normal.startswith(root) else normal


def line_of(code: CodeType, lasti: int) -> int:
    """Return the line of an instruction offset (``code.co_lines``, PEP 626), or the function's first line."""
    for start, end, line in code.co_lines():
        if start <= lasti < end and line is not None:
            return line
    return code.co_firstlineno


def resolve(code: CodeType | None, lasti: int, *, base: str = "") -> Site:
    """Turn the two captured words into a `Site`."""
    if code is None:
        return UNKNOWN
    function = getattr(code, "co_qualname", None) or code.co_name
    return Site(function, code.co_filename, line_of(code, lasti), base=base)


def creating_frame(frame: FrameType | None) -> FrameType | None:
    """Walk from ``frame`` outwards to the first frame that is not just passing the creation on.

    A frame of an ``asyncio`` or ``concurrent.futures`` module (``TaskGroup.create_task``, ``gather``, ``to_thread``) is not
    what a user wants to read.  When nothing else is on the stack, the outermost frame is the answer.
    """
    last = frame
    while frame is not None:
        if not passes_on(frame):
            return frame
        last, frame = frame, frame.f_back
    return last


def outside_of_constructors(frame: FrameType | None, resource: object) -> FrameType | None:
    """Walk over the constructors of subclasses: the site is where the object was asked for."""
    while frame is not None and frame.f_code.co_name == "__init__" and frame.f_code.co_argcount:
        if frame.f_locals.get(frame.f_code.co_varnames[0]) is not resource or frame.f_back is None:
            break
        frame = frame.f_back
    return frame


def passes_on(frame: FrameType) -> bool:
    """Say whether a frame only passes a creation on."""
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and name.partition(".")[0] in _PASSING_PACKAGES


def capture_stack(frame: FrameType | None, limit: int = 32) -> list[tuple[CodeType, int]]:
    """Return code and offset of ``frame`` and its callers, innermost first, at most ``limit`` of them."""
    stack: list[tuple[CodeType, int]] = []
    while frame is not None and len(stack) < limit:
        stack.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return stack


#: Where the creating code is not known (level ``count``, or code that was not on the stack).
UNKNOWN = Site("<unknown>", "", 0)
