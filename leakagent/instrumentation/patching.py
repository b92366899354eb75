"""Patch points: replace a method where it stands, remember the original, put the identical object back.

Methods are replaced on their class, so that names imported before the patch, subclasses and ``isinstance`` keep working;
no class is replaced and no instance is wrapped.  Standard-library methods get plain functions, since importing wrapt 2
imports asyncio (136 ms measured); library constructors, which import far more themselves, get wrapt's function wrapper.

A function of ours then stands between the program's and the original, and must not be seen.  Tracebacks: what passes through it calls
`hide_frames`.  Warnings: ``warnings.warn(..., stacklevel=2)`` in the original means who called it, and counts frames; it passes over those
of the import system, which it knows by their file's name (``is_internal_filename`` in ``Python/_warnings.c``), and so over ours, which get
such a name.  What is still open: a warning of C code (``stacklevel`` 1) is attributed to our frame.
"""

from __future__ import annotations

from leakagent import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MISSING = object()

#: What `warnings` looks for in the name of a file that it passes over.
_PASSED_OVER = " (as importlib._bootstrap)"

_MODULE = type(guard)


class Patches:
    """The patches in force, newest last."""

    def __init__(self) -> None:
        """Start with none."""
        self._applied: list[tuple[Any, str, Any, Any]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:  # noqa: ANN401 - class or module
        """Replace ``owner.name`` by ``make(original)``, which takes over the original's name, doc and signature."""
        original = vars(owner)[name]
        replacement = _named_like(make(original), original)
        # `signal` and `os` take such functions from modules in C: pickle and pydoc look for ours where it is.
        if isinstance(owner, _MODULE) and (not hasattr(original, "__code__") or original.__module__ == f"_{owner.__name__}"):
            replacement.__module__ = owner.__name__
        self._put(owner, name, original, replacement)

    def override(self, owner: type, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
        """Put ``make(inherited)`` on a class that inherits ``name`` from one that can't be changed (written in C)."""
        inherited = getattr(owner, name)
        self._put(owner, name, _MISSING, _named_like(make(inherited), inherited))

    def wrap(self, owner: type, name: str, wrapper: Callable[..., Any]) -> None:
        """Wrap ``owner.name`` by wrapt; ``wrapper(wrapped, instance, args, kwargs)`` is called in its place."""
        import wrapt

        original = vars(owner)[name]
        _pass_over(getattr(wrapper, "__func__", wrapper))
        self._put(owner, name, original, wrapt.FunctionWrapper(original, wrapper))

    def _put(self, owner: Any, name: str, original: object, replacement: object) -> None:  # noqa: ANN401
        setattr(owner, name, replacement)
        self._applied.append((owner, name, original, replacement))

    def names(self) -> list[str]:
        """Return the patch points in force, as ``module.Class.method``."""
        return [
            ".".join(filter(None, (getattr(owner, "__module__", ""), getattr(owner, "__qualname__", owner.__name__), name)))
            for owner, name, _, _ in self._applied
        ]

    def undo(self, name: str = "") -> None:
        """Put every original back, or those of one name; where somebody else patched over ours, theirs stays and calls ours."""
        undone = [one for one in self._applied if name in {"", one[1]}]
        self._applied = [one for one in self._applied if one not in undone]
        for owner, attribute, original, replacement in reversed(undone):
            if vars(owner).get(attribute, _MISSING) is not replacement:
                guard.say(f"{attribute} of {owner.__name__} was patched by somebody else as well and is left as it is")
            elif original is _MISSING:
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, original)


def _named_like(replacement: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function the name, documentation and signature of another."""
    from functools import update_wrapper

    if replacement is not original:
        _pass_over(replacement)
    return update_wrapper(replacement, original)


def _pass_over(function: Any) -> None:  # noqa: ANN401 - a function; what else a plug-in may have is left as it is
    """Have warnings that count frames pass over a function, unless it poses as one of another file already (`subprocess` looks at these)."""
    code = getattr(function, "__code__", None)
    if code is not None and code.co_filename == function.__globals__.get("__file__"):
        function.__code__ = code.replace(co_filename=code.co_filename + _PASSED_OVER)


def hide_frames(error: BaseException) -> None:
    """Take the frames of leakagent out of the traceback of an exception that passes through a patched function.

    To be called in its ``except BaseException``, before a bare ``raise``: that adds no frame (from Python 3.11 on; 3.10 goes on with the
    traceback that it had when the exception was caught).
    """
    try:
        trace = error.__traceback__
        while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] == "leakagent":
            trace = trace.tb_next
        error.__traceback__ = trace
    except Exception as failure:  # noqa: BLE001 - the program gets its own exception in any case
        guard.failed("tracebacks", failure)
