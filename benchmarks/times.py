"""CPU time of a task.

    python benchmarks/times.py [--rounds N] [--gate] [--json FILE]

Each variant is a fresh process that runs every workload; the figure is the lowest of ten batches of 1,024 tasks, which is the one that was
disturbed least.  `saw` is the number of tasks in leakagent's report over the number made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from programs import VARIANTS, alternate, chosen, main, rows_of

if TYPE_CHECKING:
    import argparse

    from paired import Row
    from programs import Ran, Runs, Variant

BATCH, BATCHES = 1_024, 10
#: Tasks that `asyncio.run` makes: main, and one each for its generators and its executor.
RUN = 3

PROGRAM = """\
import asyncio, gc, json, sys, time

async def nothing(): pass

async def batch():
    for task in [asyncio.create_task(nothing()) for _ in range({batch})]: await task

async def loop_create_task():
    loop = asyncio.get_running_loop()
    for task in [loop.create_task(nothing()) for _ in range({batch})]: await task

async def await_each():
    for _ in range({batch}): await asyncio.create_task(nothing())

async def gather():
    await asyncio.gather(*[nothing() for _ in range({batch})])

async def task_group():
    async with asyncio.TaskGroup() as group:
        for _ in range({batch}): group.create_task(nothing())

WORKLOADS = {{"create_task, batch": batch, "loop.create_task": loop_create_task, "await each": await_each, "gather": gather}}
if sys.version_info >= (3, 11):
    WORKLOADS["TaskGroup"] = task_group

async def main():
    for name, workload in WORKLOADS.items():
        await workload()
        gc.collect()
        found = []
        for _ in range({batches}):
            begin = time.process_time_ns()
            await workload()
            found.append((time.process_time_ns() - begin) / {batch})
        figures[name] = min(found)

figures = {{}}
asyncio.run(_around())
figures["made"] = len(WORKLOADS) * ({batches} + 1) * {batch} + {run}
print(json.dumps(figures))
"""


def _coverage(ran: Ran) -> float:
    return ran.created("asyncio.task") / ran.figures["made"]


def _figures(ran: Ran) -> dict[str, float]:
    return {name: value for name, value in ran.figures.items() if name != "made"}


def measure(runs: Runs, options: argparse.Namespace) -> list[Row]:
    """Return the rows."""

    def one(_name: str, variant: Variant) -> Ran:
        return runs.run(variant, [runs.program(variant, PROGRAM.format(batch=BATCH, batches=BATCHES, run=RUN))])

    found, notes = alternate(chosen([*VARIANTS], gate=options.gate), options.rounds, one)
    return rows_of(found, notes, "ns", _figures, _coverage)


if __name__ == "__main__":
    main(__doc__ or "", "times", measure, rounds=8)
