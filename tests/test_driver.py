"""The driver of CI: it fails when nothing was tested, and nothing that hangs keeps it."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

DRIVER = Path(__file__).parents[1] / ".ci" / "test.py"


@pytest.fixture(name="driver")
def driver_fixture() -> Any:
    """Return the driver as a module."""
    spec = importlib.util.spec_from_file_location("leakagent_driver", DRIVER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("variable", "value"), [("LEAKAGENT_TEST_PYTHONS", "3.99"), ("LEAKAGENT_TEST_DEADLINE", "soon")])
def test_a_wrong_setting_is_one_line(python: Callable[..., Any], tmp_path: Path, variable: str, value: str) -> None:
    ran = python(DRIVER, "test", env={variable: value, "XDG_CACHE_HOME": str(tmp_path)})
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1), ran
    assert value in ran.stderr


@pytest.mark.parametrize(
    ("status", "last_line", "problem"),
    [
        (0, "12 passed in 3.45s", ""),
        (0, "==== 12 passed, 1 warning in 63.45s (0:01:03) ====", ""),
        (1, "1 failed, 11 passed in 3.45s", "pytest ended with status 1"),
        (0, "12 skipped in 3.45s", "no test passed"),
        (5, "no tests ran in 0.01s", "pytest ended with status 5"),
        (None, "", "did not end within 60 s, killed (LEAKAGENT_TEST_DEADLINE)"),
    ],
)
def test_what_counts_as_a_failure(driver: Any, status: int | None, last_line: str, problem: str) -> None:
    outcome = driver.Outcome("core")
    outcome.judge(status, f"a test printed: 7 passed in 1.00s\n{last_line}\n" if last_line else "", 60)
    assert outcome.problem == problem


SUMMARY = """\
FAILED tests/a.py::test_x[one two-3] - AssertionError: assert 1 == 2
FAILED tests/a.py::test_y
{ends} in 3.45s
"""


@pytest.mark.parametrize(
    ("ends", "named"),
    [
        ("2 failed, 11 passed", ["tests/a.py::test_x[one two-3]", "tests/a.py::test_y"]),
        ("2 failed", []),
        ("3 failed, 11 passed", []),
        ("2 failed, 11 passed, 1 error", []),
    ],
)
def test_few_failures_run_once_more(driver: Any, ends: str, named: list[str]) -> None:
    outcome = driver.Outcome("core")
    text = SUMMARY.format(ends=ends)
    outcome.judge(1, text, 60)
    assert outcome.failures(text) == named
    if len(named) == driver.FEW:
        driver.FEW -= 1
        assert outcome.failures(text) == []


@pytest.mark.parametrize(
    ("status", "ends", "is_failure"),
    [(0, "2 passed", False), (1, "1 failed, 1 passed", True), (0, "1 passed", True), (None, "", True), (4, "", True)],
)
def test_what_passes_then_is_named_and_no_failure(
    driver: Any, capsys: pytest.CaptureFixture[str], status: int | None, ends: str, is_failure: bool
) -> None:
    first, again = driver.Outcome("core"), driver.Outcome("core")
    first.judge(1, "2 failed, 11 passed in 3.45s\n", 60)
    again.judge(status, f"{ends} in 3.45s\n", 60)
    first.judge_again(again, ["test_x", "test_y"])
    assert driver._summary([first]) == int(is_failure)
    printed = capsys.readouterr().out
    assert ("unstable, failed first and passed alone: core: test_x" in printed) is not is_failure
    assert printed.endswith("11 passed, 2 failed\n" if is_failure else "13 passed, 0 failed\n")


def test_the_page_about_the_interpreters_has_a_row_for_each(driver: Any) -> None:
    outcomes = [driver.Outcome("core, Python 3.10"), driver.Outcome("apps, Python 3.11")]
    for outcome, full in zip(outcomes, ("3.10.13", "3.11.7"), strict=True):
        outcome.full, outcome.counts = full, {"passed": 12}
    outcomes[1].unstable = ["tests/a.py::test_x"]
    page = driver.pythons_page(outcomes, ["tests/a.py"])
    assert "| 3.10.13 | core | 12 | - |\n| 3.11.7 | apps | 12 | `tests/a.py::test_x` |\n" in page
    assert "the tests in `tests/a.py` passed" in page
    assert "all tests passed" in driver.pythons_page(outcomes, [])


def test_what_hangs_has_a_deadline(driver: Any, tmp_path: Path) -> None:
    assert driver.watched([sys.executable, "-c", "import time; time.sleep(3600)"], tmp_path / "log", 1, show=False) is None


HANGS = """\
import subprocess, sys, time
code = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'w')); time.sleep(3600)"
subprocess.Popen([sys.executable, "-c", code, sys.argv[1]], start_new_session=True)
time.sleep(3600)
"""


def test_what_it_started_in_other_sessions_is_killed_as_well(
    driver: Any, program: Callable[..., Path], tmp_path: Path, until: Callable[..., None]
) -> None:
    started = tmp_path / "started"
    command = [sys.executable, str(program(HANGS)), str(started)]
    watching = threading.Thread(target=driver.watched, args=(command, tmp_path / "log", 3600), kwargs={"show": False})
    watching.start()
    try:
        until(lambda: started.exists() and started.read_text(encoding="utf-8").endswith("\n"), "the program has started its own")
    finally:
        driver._stopped.set()
        watching.join()
    until(lambda: not alive(int(started.read_text(encoding="utf-8"))), "it is gone")


def alive(pid: int) -> bool:
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
