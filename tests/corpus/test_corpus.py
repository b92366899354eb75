"""Each program of the corpus: what is planted is told, and nothing else."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from leakagent.core.findings import REASONS

if TYPE_CHECKING:
    from types import ModuleType


def _load() -> ModuleType:
    # Loaded by its path: tests are no package, and the checkout is on no path.
    spec = importlib.util.spec_from_file_location("leakagent_corpus", Path(__file__).with_name("corpus.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


corpus = _load()
PROGRAMS = corpus.programs()


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    """All programs, run once, several at a time."""
    return {outcome.program.name: outcome for outcome in corpus.run_all(PROGRAMS)}


@pytest.mark.parametrize("name", [program.name for program in PROGRAMS])
def test_what_is_planted_is_told_and_nothing_else(outcomes: dict[str, Any], name: str) -> None:
    outcome = outcomes[name]
    assert (outcome.missed, outcome.wrong, outcome.problem) == ([], [], ""), outcome


def test_the_corpus_is_large_and_balanced() -> None:
    leaky = [program for program in PROGRAMS if program.planted]
    assert len(PROGRAMS) >= 120
    assert len(leaky) >= 60
    assert len(PROGRAMS) - len(leaky) >= 55
    assert all(program.name.startswith("clean_") == (not program.planted) for program in PROGRAMS)
    assert {reason for program in leaky for reason, _, _ in program.planted} == set(REASONS)
    without = [program.name for program in leaky if not re.match(r"https://\S+$", program.like)]
    assert without == [], "each program with a leak names the thread whose shape it has"


def test_the_page_lists_every_program() -> None:
    page = (Path(__file__).parents[2] / "docs" / "corpus.md").read_text(encoding="utf-8")
    missing = [program.name for program in PROGRAMS if f"[{program.name}]" not in page]
    assert missing == [], "write it anew: make corpus"
