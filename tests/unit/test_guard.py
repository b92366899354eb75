"""The guard: an error is told once, named as off, and goes no further."""

from __future__ import annotations

from typing import Any

import pytest

from leakagent import guard

pytestmark = pytest.mark.usefixtures("fresh_guard")


def fail(error: BaseException) -> None:
    raise error


def test_what_works_is_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.call("part", divmod, 7, 2) == (3, 1)
    assert (guard.disabled, guard._told, capsys.readouterr().err) == ({}, set(), "")


@pytest.mark.parametrize("error", [ValueError("bad"), MemoryError(), OSError(28, "full")])
def test_an_error_is_told_once_and_named(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        assert guard.call("part", fail, error) is None
    text = f"{type(error).__name__}: {error}"
    assert guard.disabled == {"part": text}
    assert capsys.readouterr().err == f"leakagent: part switched off after an error of leakagent's own: {text}\n"
    guard.call("other part", fail, error)
    assert list(guard.disabled) == ["part", "other part"]


def test_a_full_stack_switches_nothing_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.call("part", fail, RecursionError("maximum recursion depth exceeded")) is None
    assert (guard.disabled, capsys.readouterr().err) == ({}, "")
    assert guard.call("part", divmod, 7, 2) == (3, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_ends_the_program_is_not_held(error: BaseException) -> None:
    with pytest.raises(type(error)):
        guard.call("part", fail, error)
    assert guard.disabled == {}


class BrokenError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_an_error_without_a_text_is_survived() -> None:
    assert guard.call("part", fail, BrokenError()) is None


class Stream:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def write(self, _text: str) -> None:
        raise self.error


@pytest.mark.parametrize("stream", [None, Stream(ValueError("closed")), Stream(OSError(5, "gone")), object()])
def test_a_stream_that_is_gone_is_survived(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    guard.say("a line")
    assert guard._told == {"a line"}


def test_a_child_is_silent_and_remembers(capsys: pytest.CaptureFixture[str]) -> None:
    guard.be_silent()
    guard.call("part", fail, ValueError("bad"))
    assert (capsys.readouterr().err, guard.disabled) == ("", {"part": "ValueError: bad"})


def test_what_children_hand_over_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        guard.failed_in_child("part", "ValueError: bad")
    assert (
        capsys.readouterr().err == "leakagent: part switched off in a child after an error of leakagent's own: ValueError: bad\n"
    )
    assert guard.disabled == {"part": "ValueError: bad"}
