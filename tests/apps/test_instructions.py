"""What a task costs under leakagent, in instructions, against the same program without it: no more than it did.

Counted by callgrind, so the load of the machine plays no part; in one interpreter only, since it takes half a minute.  The targets are
lower than what is allowed here; `make bench-gate` says which are missed.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

_INSTR = Path(__file__).resolve().parents[2] / "benchmarks" / "instr.py"
_QUICK = ("--tasks", "1024", "--variant", "bare", "--variant", "bare again", "--variant", "leakagent", "--installed")

#: Measured: 1.08 and 1.05 (docs/benchmarks.md); a garbage collection more or less is up to 0.05 in runs as short as these.
ALLOWED = {"create_task, batch": 1.15, "TaskGroup": 1.15}


def test_a_task_costs_no_more_than_it_did(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(_INSTR), *_QUICK, "--json", str(figures), *ALLOWED]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert ran.returncode == 0, ran
    rows = json.loads(figures.read_text(encoding="utf-8"))[0]["rows"]
    costs = {row["workload"]: row for row in rows if row["variant"] == "leakagent"}
    assert costs.keys() == ALLOWED.keys()
    for workload, row in costs.items():
        assert row["coverage"] == 1, row
        assert 0.5 < row["ratio"] <= ALLOWED[workload], row


def _row(variant: str, **more: object) -> dict[str, object]:
    return {"workload": "gather", "variant": variant, "value": 100.0, "ratio": 1.0, "noise": 0.0, **more}


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (_row("leakagent", coverage=1.0, ratio=1.05), ""),
        (_row("leakagent", coverage=1.0, ratio=1.051), "Python 3.13.0, gather, leakagent: costs 1.051, the target is 1.05"),
        (_row("leakagent", coverage=0.5), "Python 3.13.0, gather, leakagent: saw 0.500 of the tasks"),
        (_row("leakagent", value=None), "Python 3.13.0, gather, leakagent: did not run"),
        (_row("bare", noise=0.02), "Python 3.13.0, gather: the bare program is 2.0% apart from itself, more than 1.0%"),
        (_row("tracemalloc", ratio=3.0), ""),
    ],
)
def test_every_reason_to_fail_is_one_line(row: dict[str, object], text: str) -> None:
    missed = runpy.run_path(str(_INSTR))["missed"]
    assert missed({"python": "3.13.0", "rows": [row]}) == ([text] if text else [])
