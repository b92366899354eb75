"""Checks every target: one line for each, status 1 if one is missed.

    python benchmarks/gate.py [--results FILE]

Without a file it measures first, the bare program and leakagent only.  A figure that is nearer to its target than the noise is undecided: it is named
and fails nothing.  What a task costs in instructions is ``python benchmarks/instr.py --gate``, which runs as well.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paired import AGENT, MET, UNDECIDED, judge, read

if TYPE_CHECKING:
    from paired import Row

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Target:
    """What must be shown.

    Attributes:
        benchmark: The benchmark that measures it.
        workload: Its workload.
        limit: The highest allowed figure.
        of: Which figure of the row: ``ratio``, ``difference`` or ``value``.
        unit: Unit of the limit.

    """

    benchmark: str
    workload: str
    limit: float
    of: str = "ratio"
    unit: str = "x"


TARGETS = (
    Target("memory", "a live task", 24, "difference", "B"),
    Target("memory", "finished tasks held, at once", 0, "difference", "tasks"),
    Target("memory", "finished tasks held, one turn later", 0, "value", "tasks"),
    Target("scale", "churn, 1k", 1.1),
    Target("scale", "churn, 100k", 1.1),
    Target("otel", "calls in 10,000 tasks", 0, "value", "calls"),
    Target("web", "plain, instructions", 1.02),
    Target("web", "fan, instructions", 1.02),
    Target("async_tree", "none, gather", 1.05),
    Target("async_tree", "none, TaskGroup", 1.05),
    Target("async_tree", "cpu_io_mixed, gather", 1.05),
    Target("async_tree", "cpu_io_mixed, TaskGroup", 1.05),
    Target("executors", "submit and result, instructions", 1.03),
    Target("executors", "Process, fork", 1.05),
    Target("executors", "Process, spawn", 1.10),
    Target("startup", "python -c pass, LEAKAGENT unset, instructions", 1.02),
    Target("startup", "python -c pass, instructions", 1.5),
    Target("startup", "import asyncio", 10, "difference", "ms"),
    Target("pause", "in a collection", 2, "difference", "ms"),
    Target("pause", "between two turns", 2, "difference", "ms"),
    Target("exit_time", "clean, no loop", 20, "difference", "ms"),
    Target("exit_time", "clean, asyncio", 20, "difference", "ms"),
    Target("exit_time", "clean, thread pool", 20, "difference", "ms"),
)


def figure_of(row: Row, target: Target) -> tuple[float | None, float]:
    """Return the figure that a target is about, and its noise."""
    if target.of == "ratio":
        return row.ratio, row.noise
    return (row.difference, row.noise_difference) if target.of == "difference" else (row.value, 0.0)


@dataclass(frozen=True)
class Check:
    """How a target was met.

    Attributes:
        target: The target.
        figure: What was measured, with its unit; ``-`` if nothing was.
        allowed: The limit, with its unit.
        noise: The noise of the figure.
        verdict: ``met``, or what is wrong.

    """

    target: Target
    figure: str
    allowed: str
    noise: str
    verdict: str

    def __str__(self) -> str:
        """Tell it in one line."""
        where = f"{self.target.benchmark}: {self.target.workload}"
        return f"{where}: {self.figure}, allowed {self.allowed}, noise {self.noise}: {self.verdict}"


def checked(target: Target, results: dict[str, dict[str, Any]]) -> Check:
    """Hold a target against the results."""
    rows: list[Row] = results.get(target.benchmark, {}).get("rows", [])
    row = next((row for row in rows if row.workload == target.workload and row.variant == AGENT), None)
    value, noise = (None, 0.0) if row is None else figure_of(row, target)
    verdict = judge(value, target.limit, noise)
    if row is not None and row.coverage is not None and row.coverage != 1:
        verdict = f"missed: saw only {row.coverage:.3f} of what there was to see"
    sign = "+" if target.of == "difference" else ""
    figure = "-" if value is None else f"{sign}{value:.3f} {target.unit}"
    return Check(target, figure, f"{sign}{target.limit:g} {target.unit}", f"{noise:.3f}", verdict)


def measure(path: Path) -> None:
    """Run every benchmark that a target is about."""
    for name in dict.fromkeys(target.benchmark for target in TARGETS):
        command = [sys.executable, str(HERE / f"{name}.py"), "--gate", "--json", str(path)]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)


def main() -> int:
    """Print a line for each target that is not met, and the number of those that are."""
    parser = argparse.ArgumentParser(description="Checks every target.")
    parser.add_argument("--results", type=Path, help="figures that are there already; measured anew without it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leakagent-gate-") as folder:
        path = options.results or Path(folder, "results.json")
        if not options.results:
            measure(path)
        if not path.exists():
            print(f"gate: there are no figures in {path}", file=sys.stderr)
            return 1
        results = read(path)
    checks = [checked(target, results) for target in TARGETS]
    for check in checks:
        if check.verdict != MET:
            print(check)
    is_missed = any(check.verdict not in {MET, UNDECIDED} for check in checks)
    print(f"{sum(check.verdict == MET for check in checks)} of {len(checks)} targets met")
    is_missed |= not options.results and bool(
        subprocess.run([sys.executable, str(HERE / "instr.py"), "--gate"], check=False).returncode
    )
    return 1 if is_missed else 0


if __name__ == "__main__":
    sys.exit(main())
