"""Functions of the agent, found by running a program, are broken one at a time: the program does not notice."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

#: Of the functions every so many-th is broken here; `make faults` breaks all.
SHARE = 12


def _load() -> ModuleType:
    # Loaded by its path: tests are no package, and the checkout is on no path.
    spec = importlib.util.spec_from_file_location("leakagent_faults", Path(__file__).with_name("everywhere.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_program_does_not_notice() -> None:
    faults = _load()
    found = faults.functions()
    assert len(found) > 400, found
    outcomes = faults.run_all(found[::SHARE])
    assert [outcome for outcome in outcomes if outcome.problem] == []
    assert any(outcome.said for outcome in outcomes), "nothing was broken"
