"""Patches: in place, named like the original, and undone to the identical object."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from leakagent import guard
from leakagent.instrumentation.patching import Patches, hide_frames

pytestmark = pytest.mark.usefixtures("fresh_guard")


class Base:
    def inherited(self) -> str:
        return "base"


class Owner(Base):
    def method(self, number: int = 1, *, word: str = "x") -> str:
        """Say it."""
        return word * number


def louder(original: Any) -> Any:
    def replacement(*args: Any, **kwargs: Any) -> str:
        return str(original(*args, **kwargs)).upper()

    return replacement


def test_replaced_and_put_back() -> None:
    original, bound, patches = vars(Owner)["method"], Owner().method, Patches()
    patches.replace(Owner, "method", louder)
    assert Owner().method(2) == "XX"
    assert bound(2) == "xx"
    replaced = vars(Owner)["method"]
    assert (replaced.__name__, replaced.__qualname__, replaced.__doc__) == ("method", original.__qualname__, "Say it.")
    assert inspect.signature(Owner.method) == inspect.signature(original)
    assert [name.rpartition(".")[0] for name in patches.names()] == [f"{__name__}.Owner"]
    patches.undo()
    assert vars(Owner)["method"] is original
    assert patches.names() == []
    patches.undo()
    assert vars(Owner)["method"] is original


def test_twice_is_undone_in_reverse() -> None:
    original, patches = vars(Owner)["method"], Patches()
    patches.replace(Owner, "method", louder)
    patches.replace(Owner, "method", lambda inner: lambda *args: inner(*args) + "!")
    assert Owner().method(2) == "XX!"
    patches.undo()
    assert vars(Owner)["method"] is original
    assert not guard._told


def test_an_inherited_method_is_put_on_the_class_and_taken_away() -> None:
    patches = Patches()
    patches.override(Owner, "inherited", louder)
    assert (Owner().inherited(), Base().inherited()) == ("BASE", "base")
    patches.undo()
    assert "inherited" not in vars(Owner)
    assert Owner().inherited() == "base"


def test_wrapped_by_wrapt() -> None:
    original, patches = vars(Owner)["method"], Patches()
    seen: list[object] = []

    def wrapper(wrapped: Any, instance: object, args: Any, kwargs: Any) -> str:
        seen.append(instance)
        return str(wrapped(*args, **kwargs)).upper()

    patches.wrap(Owner, "method", wrapper)
    owner = Owner()
    assert (owner.method(3), seen) == ("XXX", [owner])
    assert inspect.signature(Owner.method) == inspect.signature(original)
    patches.undo()
    assert vars(Owner)["method"] is original


def test_what_somebody_else_patched_over_ours_stays(capsys: pytest.CaptureFixture[str]) -> None:
    original, patches = vars(Owner)["method"], Patches()
    patches.replace(Owner, "method", louder)
    ours = vars(Owner)["method"]
    theirs = lambda self, number=1: ours(self, number) + "?"  # noqa: E731
    Owner.method = theirs  # type: ignore[method-assign]
    try:
        patches.undo()
        assert vars(Owner)["method"] is theirs
        assert Owner().method(2) == "XX?"
        assert "method of Owner was patched by somebody else as well" in capsys.readouterr().err
    finally:
        Owner.method = original  # type: ignore[method-assign]


def test_a_method_that_is_not_there_is_an_error_and_no_patch() -> None:
    patches = Patches()
    with pytest.raises(KeyError):
        patches.replace(Owner, "missing", louder)
    with pytest.raises(KeyError):
        patches.replace(Owner, "inherited", louder)
    assert patches.names() == []


class _Odd(Exception):  # noqa: N818 - an exception of somebody's
    @property
    def __traceback__(self) -> Any:
        raise RuntimeError(self)


def test_hiding_frames_never_raises(capsys: pytest.CaptureFixture[str]) -> None:
    error = ValueError("x")
    hide_frames(error)
    assert error.__traceback__ is None
    hide_frames(_Odd())
    assert "tracebacks switched off" in capsys.readouterr().err
