"""Whatever is left behind and however the program is told to end: it ends, runs its exit handlers, and keeps its status."""

from __future__ import annotations

import runpy
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Started

_MATRIX = runpy.run_path(str(Path(__file__).with_name("exit_matrix.py")))
ENDS, LEFT, jobs_of, program = (_MATRIX[name] for name in ("ENDS", "LEFT", "jobs_of", "program"))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("left", LEFT)
def test_it_ends(left: str, end: str, started: Callable[..., Started]) -> None:
    running = started(program(left, end), LEAKAGENT_GRACE="0.5", LEAKAGENT_BUDGET="5")
    running.until("ready")
    signals, _, status = ENDS[end]
    for number in signals:
        try:
            running.send(number)
        except ProcessLookupError:
            break
    assert running.end() == status, running.errors
    done = [line for line in running.lines if line != "ready"]
    if len(signals) > 1 and signals[0] != signal.SIGINT:
        # The second one ends it where it is.
        assert done[-1:] in (["exit handler"], ["job"], [])
        return
    assert done[-1:] == ["exit handler"], running.errors
    if jobs_of(left):
        assert (done.count("job") == jobs_of(left)) == (not signals)
    assert "is cut off here" not in running.errors
