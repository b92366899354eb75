"""How long the end is ready to wait for telemetry: by a clock of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from leakagent.telemetry import patience
from leakagent.telemetry.patience import MOST, TEARDOWN, Patience

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Time that goes on as told; its locks are released after some seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ready: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def released_after(self, seconds: float) -> Lock:
        return Lock(self, seconds)


class Lock:
    """Stands for a lock that another thread releases."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds

    def acquire(self, timeout: float) -> bool:
        self.clock.ready.append(timeout)
        self.clock.now += min(timeout, self.seconds)
        return self.seconds <= timeout


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(patience, "time", made)
    return made


def imported(clock: Clock, seconds: float, allowance: float = 1.0) -> Patience:
    """Return one after an import that took so long."""
    made = Patience(allowance)
    made.import_begins()
    clock.now += seconds
    made.import_ends()
    return made


def test_all_waits_share_one_allowance(clock: Clock) -> None:
    made = imported(clock, 0)
    assert made.wait(clock.released_after(0.25))
    assert made.wait(clock.released_after(0.5))
    assert not made.wait(clock.released_after(60))
    assert not made.wait(clock.released_after(60))
    assert clock.ready == pytest.approx([1, 0.75, 0.25, 0])


def test_the_teardown_has_its_part(clock: Clock) -> None:
    made = imported(clock, 0.3)
    assert not made.wait(clock.released_after(60))
    assert clock.ready == pytest.approx([1 - 0.3 * TEARDOWN])


def test_half_of_it_at_the_most(clock: Clock) -> None:
    made = imported(clock, 30)
    assert not made.wait(clock.released_after(60))
    assert clock.ready == pytest.approx([1 - MOST])


def test_a_process_without_a_teardown_waits_for_all_of_it(clock: Clock) -> None:
    made = imported(clock, 0.3)
    assert not made.wait(clock.released_after(60), teardown=False)
    assert clock.ready == pytest.approx([1])


@pytest.mark.parametrize("begins", [False, True])
def test_an_import_that_goes_on_while_it_is_waited_for(begins: bool, clock: Clock) -> None:
    made, before = Patience(1), 0.0
    if begins:
        made.import_begins()
        clock.now += 0.2
        before = 0.2
    assert not made.wait(clock.released_after(60))
    # The teardown of what was imported by the end of the wait fits in.
    (ready,) = clock.ready
    assert ready + (before + ready) * TEARDOWN == pytest.approx(1)


def test_an_import_that_ends_while_it_is_waited_for(clock: Clock) -> None:
    made = Patience(1)
    made.import_begins()
    assert made.wait(clock.released_after(0.4))
    made.import_ends()
    assert not made.wait(clock.released_after(60))
    assert sum([0.4, clock.ready[1], 0.4 * TEARDOWN]) == pytest.approx(1)


def test_a_child_has_an_allowance_of_its_own_and_its_parents_modules(clock: Clock) -> None:
    made = imported(clock, 0.3)
    made.wait(clock.released_after(60))
    child = made.renewed()
    child.import_begins()
    child.import_ends()
    assert not child.wait(clock.released_after(60))
    assert clock.ready[0] == pytest.approx(clock.ready[1])


def test_an_interrupted_wait_counts(clock: Clock) -> None:
    made = imported(clock, 0)
    lock = clock.released_after(60)

    def interrupted(timeout: float) -> bool:
        clock.now += 0.75
        raise KeyboardInterrupt

    acquire: Callable[[float], bool] = lock.acquire
    lock.acquire = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        made.wait(lock)
    lock.acquire = acquire  # type: ignore[method-assign]
    assert not made.wait(lock)
    assert clock.ready == pytest.approx([0.25])
