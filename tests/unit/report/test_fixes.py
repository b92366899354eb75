from __future__ import annotations

import pytest

from leakagent.core.findings import LOST_TASK, NOT_CLOSED, NOT_SHUT_DOWN, ORPHANED, OUTLIVED_SCOPE, REASONS, REFUSED_CLEANUP
from leakagent.core.records import CHROMADB_CLIENT, KINDS, LANCEDB_CONNECTION, PROCESS, TASK, THREAD, THREAD_POOL
from leakagent.report.fixes import fix_for


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("kind", [*KINDS, "plugin.thing"])
def test_every_reason_has_a_fix_for_every_kind(reason: str, kind: str) -> None:
    fix = fix_for(reason, kind)
    assert 10 < len(fix) <= 220
    assert fix.isascii()
    assert "\n" not in fix


def test_an_unknown_reason_gets_the_fix_of_the_kind() -> None:
    assert fix_for("new", THREAD_POOL) == fix_for(NOT_SHUT_DOWN, THREAD_POOL)
    assert fix_for("new", "new")


def test_the_fixes_that_the_design_shows() -> None:
    assert fix_for(LOST_TASK, TASK) == (
        "keep the task: self._tasks.add(t); t.add_done_callback(self._tasks.discard)  (or a TaskGroup)"
    )
    assert fix_for(ORPHANED, PROCESS) == "p.join(), or `with Pool()`"


def test_fixes_name_what_the_libraries_have() -> None:
    assert "1.5.2" in fix_for(NOT_CLOSED, CHROMADB_CLIENT)
    assert "no close()" in fix_for(NOT_CLOSED, LANCEDB_CONNECTION)
    assert "CancelledError" in fix_for(REFUSED_CLEANUP, TASK)


def test_a_daemon_thread_is_not_told_to_become_one() -> None:
    assert "daemon=True" in fix_for(OUTLIVED_SCOPE, THREAD)
    assert fix_for(OUTLIVED_SCOPE, THREAD, daemon=True) == "tell it to stop and join it: stop.set(); thread.join()"
    assert fix_for(OUTLIVED_SCOPE, TASK, daemon=True) == fix_for(OUTLIVED_SCOPE, TASK)
