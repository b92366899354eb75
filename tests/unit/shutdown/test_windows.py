"""What is written for Windows and can't be run here: its signal, and how a process ends by it."""

from __future__ import annotations

import signal
from typing import Any, NoReturn

import pytest

from leakagent.shutdown import interpreter
from leakagent.shutdown.signals import Signals, die_by, state

#: The number that Windows gives to SIGBREAK; here it is another signal, with the default action.
BREAK = 21
CONTROL_C_EXIT = -1073741510


@pytest.fixture(name="windows")
def windows_fixture(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pretend; return the statuses that the process would have ended with."""
    ended: list[int] = []

    def leave(status: int) -> NoReturn:
        ended.append(status)
        raise KeyboardInterrupt

    monkeypatch.setattr(interpreter, "_IS_WINDOWS", True)
    monkeypatch.setattr(interpreter._signal, "SIGBREAK", BREAK, raising=False)
    monkeypatch.setattr("leakagent.shutdown.signals._exit_now", leave)
    return ended


def test_pretended_windows_ctrl_break_ends_the_program(windows: list[int]) -> None:
    assert BREAK in interpreter.ending_signals()
    signals = Signals(lambda: None, lambda: None)
    try:
        signals.take()
        with pytest.raises(SystemExit) as raised:
            signal.raise_signal(BREAK)
        assert (raised.value.code, state.number) == (128 + BREAK, BREAK)
        # A second one ends it at once.
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(BREAK)
        assert windows == [CONTROL_C_EXIT]
    finally:
        signals.give_back()
        state.clear()
    assert signal.getsignal(BREAK) == signal.SIG_DFL


@pytest.mark.parametrize(("number", "status"), [(BREAK, CONTROL_C_EXIT), (signal.SIGINT, CONTROL_C_EXIT), (signal.SIGTERM, 3)])
def test_pretended_windows_status(windows: list[int], number: int, status: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        die_by(number)
    assert windows == [status]
    made: Any = interpreter._Status(-number)
    assert made.ends_by == status
    made.ends_by, made.status = None, 0  # it is destroyed without ending this process
    made.exit = lambda _status: None


def test_elsewhere_it_dies_by_the_signal() -> None:
    assert interpreter.status_by(signal.SIGTERM) is None
    assert BREAK not in interpreter.ending_signals()
