"""CPU time of a task while many others are alive.

    python benchmarks/scale.py [--rounds N] [--gate] [--json FILE]

"Made": a task that stays, while the number that is alive grows to the one of the column. "Churn": a task that comes and goes while that many wait.
The rise in the bare program is Python's garbage collector.  The time is that of the thread with the loop: what leakagent's own thread does by the clock, some
times a minute, would fall into these tenths of a second or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paired import AGAIN, AGENT, BARE
from programs import alternate, chosen, main, rows_of
from times import RUN

if TYPE_CHECKING:
    import argparse

    from paired import Row
    from programs import Ran, Runs, Variant

SIZES = {1_000: "1k", 10_000: "10k", 100_000: "100k", 1_000_000: "1M"}
CHURN = 10_240

PROGRAM = """\
import asyncio, json, sys, time

async def nothing(): pass
async def wait(gate): await gate

async def main():
    live, label = int(sys.argv[1]), sys.argv[2]
    gate = asyncio.get_running_loop().create_future()
    tasks = []
    begin = time.thread_time_ns()
    for _ in range(live):
        tasks.append(asyncio.create_task(wait(gate)))
        if len(tasks) % 1000 == 0: await asyncio.sleep(0)
    await asyncio.sleep(0)
    figures[f"made, {{label}}"] = (time.thread_time_ns() - begin) / live
    begin = time.thread_time_ns()
    for _ in range({churn} // 256):
        for task in [asyncio.create_task(nothing()) for _ in range(256)]: await task
    figures[f"churn, {{label}}"] = (time.thread_time_ns() - begin) / {churn}
    gate.set_result(None)
    for task in tasks: await task

figures = {{}}
asyncio.run(_around())
figures["made"] = int(sys.argv[1]) + {churn} + {run}
print(json.dumps(figures))
"""


def _figures(ran: Ran) -> dict[str, float]:
    return {name: value for name, value in ran.figures.items() if name != "made"}


def _coverage(ran: Ran) -> float:
    return ran.created("asyncio.task") / ran.figures["made"]


def measure(runs: Runs, options: argparse.Namespace) -> list[Row]:
    """Return the rows."""
    rows: list[Row] = []
    for live, label in SIZES.items():
        few = (BARE, AGENT, AGAIN)
        names = few if live == max(SIZES) else (BARE, AGENT, "set and done callback", "opentelemetry-instrumentation, SDK", AGAIN)

        def one(_name: str, variant: Variant, live: int = live, label: str = label) -> Ran:
            return runs.run(variant, [runs.program(variant, PROGRAM.format(churn=CHURN, run=RUN)), str(live), label])

        found, notes = alternate(chosen(names, gate=options.gate), options.rounds, one)
        rows += rows_of(found, notes, "ns", _figures, _coverage)
    return rows


if __name__ == "__main__":
    main(__doc__ or "", "scale", measure, rounds=3)
