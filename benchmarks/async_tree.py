"""pyperformance's async_tree, in instructions.

    python benchmarks/async_tree.py [--gate] [--json FILE]

The benchmark's own classes, from the installed package, with four levels of six tasks in place of six; callgrind, two turns after one that is not counted. `none`
suspends and does nothing else, `cpu_io_mixed` computes and sleeps in turns. `saw` is the number of tasks in leakagent's report over the number made.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from paired import AGAIN, AGENT, BARE, compare
from programs import BLOCK, chosen, main
from times import RUN

if TYPE_CHECKING:
    import argparse

    from paired import Row
    from programs import Runs

TURNS, LEVELS = 2, 4

PROGRAM = (
    BLOCK
    + """\
import asyncio, importlib.util, sys
spec = importlib.util.spec_from_file_location("run_benchmark", {path!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.NUM_RECURSE_LEVELS = {levels}

async def main():
    await module.{tree}({arguments}).run()  # seeds the random numbers

async def turns():
    await _around()
    gc.collect()
    block.begin()
    for _ in range(int(sys.argv[1])): await _around()
    block.end()

asyncio.run(turns())
"""
)

TREES = {"none": "NoneAsyncTree", "cpu_io_mixed": "CpuIoMixedAsyncTree"}


def measure(runs: Runs, options: argparse.Namespace) -> list[Row]:
    """Return the rows."""
    spec = importlib.util.find_spec("pyperformance")
    if spec is None or spec.origin is None:
        message = "pyperformance is not installed: there is no async_tree to run"
        raise SystemExit(message)
    path = Path(spec.origin).parent / "data-files" / "benchmarks" / "bm_async_tree" / "run_benchmark.py"
    rows: list[Row] = []
    for workload, tree in TREES.items():
        for way, arguments in (("gather", ""), ("TaskGroup", "use_task_groups=True")):
            samples: dict[str, list[float | None]] = {}
            seen, notes = {}, {}
            for name, variant in chosen((BARE, AGENT, "set and done callback", _OTEL, AGAIN), gate=options.gate).items():
                text = PROGRAM.format(path=str(path), levels=LEVELS, tree=tree, arguments=arguments)
                value, report = runs.per_turn(variant, runs.program(variant, text), TURNS, main_thread=True)
                samples[name] = [value]
                if report:
                    seen[name] = report["totals"]["asyncio.task"]["created"] / _tasks()
                if value is None:
                    notes[name] = "failed"
            rows += compare(f"{workload}, {way}", "instructions", samples, coverage=seen, notes=notes)
    return rows


_OTEL = "opentelemetry-instrumentation"


def _tasks() -> int:
    """Return how many tasks a run makes: each level six times as many as the one above, and what `asyncio.run` makes."""
    return (1 + TURNS) * sum(int(6**level) for level in range(1, LEVELS + 1)) + RUN


if __name__ == "__main__":
    main(__doc__ or "", "async_tree", measure, rounds=1)
