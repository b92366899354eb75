"""The suite sees a wrong detector: with each of them it fails, with the right one in the same place it passes."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent

#: One dropped and two kept: what tells a detector from a guess.
TESTS = [
    "test_tasks_lost.py::test_lost_task_is_kept_and_told[private_future]",
    "test_tasks_live.py::test_live_task_is_not_called_lost[weak_holder_in_c]",
    "test_tasks_live.py::test_live_task_is_not_called_lost[event]",
]


def wrong() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("wrong_detectors", HERE / "wrong_detectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.WRONG)


@pytest.mark.parametrize("name", wrong())
def test_a_wrong_detector_fails_the_suite(name: str, python: Callable[..., Any], tmp_path: Path) -> None:
    ran = python(
        "-m",
        "pytest",
        "-q",
        "-p",
        "wrong_detectors",
        "-p",
        "no:cacheprovider",
        f"--basetemp={tmp_path / 'inner'}",
        f"--rootdir={HERE.parent.parent}",
        *(HERE / test for test in TESTS),
        env={"WRONG_DETECTOR": name, "PYTHONPATH": os.fspath(HERE), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=400,
    )
    count = f"{len(TESTS)} passed"
    if name == "none":
        assert ran.returncode == 0, ran
        assert count in ran.stdout, ran
    else:
        # Status 1: tests have failed; not an error of the plugin.
        assert ran.returncode == 1, ran
        assert " failed" in ran.stdout, ran
        assert " error" not in ran.stdout.splitlines()[-1], ran
