"""Stages: each has its receipt, its deadline within the budget, and its own failures."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakagent import guard
from leakagent.shutdown import closing
from leakagent.shutdown.closing import Stages, in_time, wait_like_python

pytestmark = pytest.mark.usefixtures("fresh_guard")


@given(st.floats(0.001, 100), st.floats(0.001, 100), st.integers(0, 9), st.integers(0, 9))
def test_the_receipt(budget: float, deadline: float, asked: int, forced: int) -> None:
    stages, given_seconds = Stages(budget), []

    def work(seconds: float) -> tuple[int, int]:
        given_seconds.append(seconds)
        return asked, forced

    stages.run("clients", deadline, work)
    (entry,) = stages.receipt
    assert (entry.stage, entry.asked, entry.forced, entry.deadline) == ("clients", asked, forced, min(budget, deadline))
    assert given_seconds == [min(budget, deadline)]
    assert entry.seconds >= 0


def test_a_stage_that_fails_is_named_and_the_next_one_runs() -> None:
    stages = Stages(1)
    stages.run("loops", 1, lambda _seconds: {}[0])
    stages.run("clients", 1, lambda _seconds: (1, 0))
    assert [(entry.stage, entry.asked) for entry in stages.receipt] == [("loops", 0), ("clients", 1)]
    assert list(guard.disabled) == ["shutdown stage loops"]


def test_ctrl_c_ends_a_stage_and_is_on_the_receipt() -> None:
    stages = Stages(1)

    def work(_seconds: float) -> tuple[int, int]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.run("executors", 1, work)
    assert [entry.stage for entry in stages.receipt] == ["executors"]


def test_work_that_is_done_in_time() -> None:
    done: list[int] = []
    assert in_time(60, lambda: done.append(1))
    assert done == [1]


def test_work_that_is_not_goes_on_alone() -> None:
    never = threading.Event()
    ended = threading.Event()

    def work() -> None:
        never.wait()
        ended.set()

    assert not in_time(0.01, work)
    never.set()
    assert ended.wait(60)


def test_work_is_done_here_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    import _thread

    def refuse(*_args: object) -> int:
        message = "can't create new thread at interpreter shutdown"
        raise RuntimeError(message)

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    done: list[int] = []
    assert in_time(60, lambda: done.append(threading.get_ident()))
    assert done == [threading.get_ident()]


class Silent:
    """Stands for a process that makes no sign of life; ``signs`` says when it does."""

    def __init__(self, signs: list[bool]) -> None:
        self.signs = signs

    def silent(self) -> bool:
        return self.signs.pop(0) if self.signs else True

    def close(self) -> None:
        """Stop looking."""


def test_waiting_goes_on_while_there_are_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    signs = [True, False] * 4
    monkeypatch.setattr(closing, "LOOK_AFTER", 0)
    monkeypatch.setattr(closing, "Watch", lambda _waiting: Silent(signs))
    event = threading.Event()
    thread = threading.Thread(target=event.wait, daemon=True)
    thread.start()
    # No time of quiet at all is needed, and still each sign of life counts.
    begun = len(signs)
    assert wait_like_python(lambda: [thread] if signs else [], 1e9) == []
    assert begun == 8
    assert wait_like_python(lambda: [thread], 0.0) == [thread]
    event.set()
    thread.join()
    assert wait_like_python(lambda: [one for one in [thread] if one.is_alive()], 0.0) == []
