"""Half a minute of the soak: the server under load grows no more than the bare one, and what was planted is told, nothing else."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

SECONDS = 25.0


def _load() -> ModuleType:
    # Loaded by its path: tests are no package, and the checkout is on no path.
    spec = importlib.util.spec_from_file_location("leakagent_soak", Path(__file__).parent.parent / "soak" / "soak.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_server_under_load() -> None:
    soak = _load()
    result = soak.soak(SECONDS)
    assert result.problems == [], result.page()
    assert min(result.bare.requests, result.watched.requests) > 20, result.page()
