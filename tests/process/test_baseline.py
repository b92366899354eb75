"""``--baseline``: leaks that are accepted don't fail the run, also when lines move; new ones do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OLD = """\
from concurrent.futures import ThreadPoolExecutor
def old():
    return ThreadPoolExecutor(1)
kept = [old()]
"""


def test_only_new_leaks_fail(told: Callable[..., Any], python: Callable[..., Any], tmp_path: Path) -> None:
    strict = ("--fail-on-leak",)
    assert told(OLD, options=strict).ran.returncode == 23
    made = python("-m", "leakagent", "baseline", "report.json")
    assert (made.returncode, made.stderr) == (0, "")
    (tmp_path / "accepted.json").write_text(made.stdout, encoding="utf-8")
    strict += ("--baseline", "accepted.json")
    moved = "\n\n# Two lines more.\n" + OLD
    after = told(moved, options=strict)
    assert after.ran.returncode == 0, after
    assert "accepted by accepted.json" in after.only("not_shut_down")["evidence"], after
    assert told(moved + "kept.append(ThreadPoolExecutor(2))\n", options=strict).ran.returncode == 23


def test_a_file_that_can_not_be_used(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    path = program(OLD)
    line = "leakagent: baseline none.json: No such file or directory"
    ran = python("-m", "leakagent", "--baseline", "none.json", path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", line + "\n")
    started = python(path, env={"LEAKAGENT": "1", "LEAKAGENT_BASELINE": "none.json", "LEAKAGENT_FAIL_ON_LEAK": "1"})
    assert (started.returncode, line + "; nothing is accepted" in started.stderr) == (23, True), started
    (tmp_path / "list.json").write_text("[]", encoding="utf-8")
    wrong = python("-m", "leakagent", "baseline", "list.json")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1), wrong
