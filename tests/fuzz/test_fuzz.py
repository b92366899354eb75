"""Random bytes for everything that reads bytes from outside; `make fuzz` goes on for longer."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

#: Inputs for each target, from this seed on.
INPUTS, SEED = 150, 1


def _load() -> ModuleType:
    # Loaded by its path: tests are no package, and the checkout is on no path.
    spec = importlib.util.spec_from_file_location("leakagent_fuzz", Path(__file__).with_name("fuzz.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FUZZ = _load()


@pytest.mark.parametrize("name", FUZZ.targets())
def test_no_exception_but_the_documented_one(name: str) -> None:
    assert FUZZ.run(name, SEED, INPUTS) == ""


@pytest.mark.parametrize("name", FUZZ.targets())
def test_what_is_valid_is_read(name: str, tmp_path: Path) -> None:
    seeds, read = FUZZ.targets()[name]
    for data in seeds:
        read(data, tmp_path)


def test_inputs_are_many_and_the_same_for_a_seed() -> None:
    first, again = (list(FUZZ.inputs("report", 7, 50)) for _ in range(2))
    assert first == again
    assert len({data for _, data in first}) > 30


def test_what_fails_is_shown_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_text: str) -> None:
        raise KeyError(_text)

    monkeypatch.setattr(FUZZ.json_report, "processes_of", broken)
    shown = FUZZ.run("child's report", 3, 5)
    assert shown.startswith("child's report, seed 3: "), shown
    assert "KeyError" in shown
