"""The collector while the agent's threads look."""

from __future__ import annotations

import gc

from leakagent.watcher import Pause


def test_the_collector_is_off_until_the_last_has_looked() -> None:
    pause = Pause()
    assert gc.isenabled()
    pause.begin()
    pause.begin()
    assert not gc.isenabled()
    pause.end()
    assert not gc.isenabled()
    pause.end()
    assert gc.isenabled()


def test_a_collector_that_the_program_has_switched_off_stays_off() -> None:
    pause = Pause()
    gc.disable()
    try:
        pause.begin()
        pause.end()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_child_begins_anew() -> None:
    pause = Pause()
    pause.begin()
    pause.forked()
    assert gc.isenabled()
    pause.end()  # the look that has forked
    assert gc.isenabled()
    pause.begin()
    assert not gc.isenabled()
    pause.end()
    assert gc.isenabled()
