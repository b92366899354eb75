"""``pytest --leakagent``: its settings, the end of the session, and tests that end in other ways than by passing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_end_of_the_session_alone_decides_the_status(outcome: Callable[..., Any]) -> None:
    text = "\npool = ThreadPoolExecutor(1)\n\ndef test_passes():\n    pass\n"
    after = outcome(text)
    assert (after.of("failure"), after.ran.returncode) == ([], 1), after
    assert "made by the session (imports" in after.ran.stdout, after
    assert outcome(text, "--collect-only").ran.returncode == 0
    assert outcome(text, "-o", "leakagent_ignore=thread_pool").ran.returncode == 0


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["-o", "leakagent_grace=soon"], "leakagent: leakagent_grace='soon' is not valid (allowed: a number of seconds)"),
        (["-o", "leakagent_level=all"], "leakagent: LEAKAGENT_LEVEL='all' is not valid (allowed: off, count, site, stack)"),
        (["--leakagent-baseline", "none.json"], "leakagent: baseline none.json: No such file or directory"),
    ],
)
def test_wrong_settings_are_one_line(
    options: list[str], line: str, python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    program("def test_it():\n    pass\n", "test_it.py")
    ran = python("-m", "pytest", "--leakagent", *options, env={"PYTEST_ADDOPTS": "-p no:asyncio"})
    assert ran.returncode == 4, ran
    assert next(text for text in ran.stderr.splitlines() if text).startswith(f"ERROR: {line}"), ran
    assert "Traceback" not in ran.stderr, ran


def test_the_grace_of_one_test(outcome: Callable[..., Any]) -> None:
    """One that ends after ten times the grace of the others is waited for, and no longer than it takes."""
    after = outcome(
        """
@pytest.mark.leakagent(grace=3600)
def test_waits():
    threading.Timer(1, int).start()

def test_does_not():
    threading.Thread(target=wait, daemon=True).start()
"""
    )
    assert (after.of("failure"), after.of("error")) == (["test_does_not"], []), after


def test_an_agent_that_is_active_is_used(outcome: Callable[..., Any]) -> None:
    text = "\ndef test_leaks():\n    kept.append(ThreadPoolExecutor(1))\n\ndef test_not():\n    pass\n"
    after = outcome(text, env={"LEAKAGENT": "1", "LEAKAGENT_REPORT": "text,json:report.json", "LEAKAGENT_LEVEL": "site"})
    assert after.of("failure") == ["test_leaks"], after
    assert "made by test test_it.py::test_leaks" in after.ran.stderr, after
    (found,) = after.findings
    assert (found["count"], found["test_id"]) == (1, "test_it.py::test_leaks"), after


def test_a_baseline_survives_lines_that_move(outcome: Callable[..., Any], python: Callable[..., Any], tmp_path: Path) -> None:
    text = "\ndef test_old():\n    kept.append(ThreadPoolExecutor(1))\n"
    assert outcome(text).of("failure") == ["test_old"]
    made = python("-m", "leakagent", "baseline", "report.json")
    assert made.returncode == 0, made
    (tmp_path / "accepted.json").write_text(made.stdout, encoding="utf-8")
    moved = "\n# Some lines\n# are new.\n" + text + "\ndef test_new():\n    kept.append(ThreadPoolExecutor(2))\n"
    after = outcome(moved, "--leakagent-baseline", "accepted.json")
    assert after.of("failure") == ["test_new"], after


def test_leaks_of_tests_that_end_otherwise(outcome: Callable[..., Any]) -> None:
    after = outcome(
        """
@pytest.fixture
def broken(request):
    kept.append(ThreadPoolExecutor(1))
    if request.param == "setup":
        raise ValueError("its own")
    yield
    if request.param == "teardown":
        raise ValueError("its own")

@pytest.mark.parametrize("broken", ["setup", "teardown", "neither"], indirect=True)
def test_it(broken):
    if "skip" in kept:
        pytest.skip("not here")

@pytest.mark.parametrize("broken", ["neither"], indirect=True)
def test_is_skipped(broken):
    pytest.skip("not here")

def test_next():
    pass
"""
    )
    assert after.of("failure") == ["test_it[teardown]", "test_it[neither]"], after
    assert after.of("error") == ["test_it[setup]", "test_it[teardown]"], after
    assert after.of("skipped") == ["test_is_skipped[neither]"], after
