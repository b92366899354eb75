"""The demo: every planted leak is found with its file, line and reason, nothing else is told, and the program stays the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

COMPARE = Path(__file__).parents[2] / "examples" / "rag" / "compare.py"


@pytest.mark.parametrize("status", [0, 7])
def test_the_demo_finds_what_was_planted_and_nothing_else(run: Callable[..., object], status: int) -> None:
    ran = run([sys.executable, COMPARE, "--json", "--status", str(status)], timeout=600.0)
    assert ran.returncode == 0, ran
    found = json.loads(ran.stdout)
    assert found["ok"] is True
    planted = {(leak["reason"], leak["kind"]) for leak in found["planted"]}
    assert planted == {
        ("lost_task", "asyncio.task"),
        ("outlived_scope", "asyncio.task"),
        ("not_shut_down", "thread_pool"),
        ("not_closed", "chromadb.client"),
        ("not_closed", "lancedb.connection"),
        ("blocks_exit", "process"),
    }
