"""The start-up hook: which interpreter it leaves alone, judged by its command line."""

from __future__ import annotations

import sys
from multiprocessing import forkserver, resource_tracker, util
from typing import Any

import pytest

from leakagent import bootstrap

LINES = {
    ("python",): "",
    ("python", "app.py", "-c", "x"): "",
    ("python", "-c"): "",
    ("python", "-c", "print(1)"): "print(1)",
    ("python", "-X", "dev", "-W", "error", "-c", "print(1)"): "print(1)",
    ("python", "-X"): "",
    ("python", "-I", "-S", "-c", "print(1)", "-c", "other"): "print(1)",
    ("python", "-m", "module", "-c", "x"): "",
    ("python", "-"): "",
}


@pytest.mark.parametrize("line", LINES)
def test_the_code_argument(line: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", list(line))
    assert bootstrap._code_argument() == LINES[line]


def test_pythons_own_helpers_are_still_started_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # The standard library's own commands, as this version builds them.
    seen: list[str] = []

    def spawn(_path: object, arguments: list[Any], _passed: object) -> int:
        monkeypatch.setattr(sys, "orig_argv", [str(word) for word in arguments])
        seen.append(bootstrap._code_argument())
        raise InterruptedError

    monkeypatch.setattr(util, "spawnv_passfds", spawn)
    tracker = resource_tracker.ResourceTracker()
    with pytest.raises(InterruptedError):
        tracker.ensure_running()
    monkeypatch.setattr(resource_tracker, "ensure_running", lambda: None)
    monkeypatch.setattr(resource_tracker, "getfd", lambda: 0)
    monkeypatch.setattr(resource_tracker._resource_tracker, "_fd", 0, raising=False)
    with pytest.raises(InterruptedError):
        forkserver.ForkServer().ensure_running()
    assert seen[0].startswith(bootstrap._TRACKERS)
    assert seen[1].startswith(bootstrap._FORK_SERVER)


def test_it_runs_once_and_never_raises(
    monkeypatch: pytest.MonkeyPatch, fresh_guard: None, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []

    def broken() -> None:
        calls.append(1)
        message = "broken"
        raise ValueError(message)

    monkeypatch.setattr(bootstrap, "_start", broken)
    monkeypatch.setitem(bootstrap._state, "started", False)
    bootstrap.start()
    bootstrap.start()
    assert calls == [1]
    assert capsys.readouterr().err == "leakagent: start-up switched off after an error of leakagent's own: ValueError: broken\n"
