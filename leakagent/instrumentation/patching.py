"""Patch points: replace a method where it stands, remember the original, put the identical object back.

Methods are replaced on their class, so that names imported before the patch, subclasses and ``isinstance`` keep working;
no class is replaced and no instance is wrapped.  Standard-library methods get plain functions, since importing wrapt 2
imports asyncio (136 ms measured); library constructors, which import far more themselves, get wrapt's function wrapper.
"""

from __future__ import annotations

from leakagent import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MISSING = object()

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
        if isinstance(owner, _MODULE) and replacement.__module__ != owner.__name__:
            # `signal` and `os` take such functions from modules in C: pickle and pydoc look for ours where it is.
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

    return update_wrapper(replacement, original)
