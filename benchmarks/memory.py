"""Memory of live tasks, and finished tasks still held.

    python benchmarks/memory.py [--rounds N] [--gate] [--json FILE]

Bytes: growth of the resident set while 100,000 tasks are made that wait, over their number. Held: of 10,000 finished tasks that the program has
dropped, the results that still exist right after the batch was awaited and one turn of the loop later; nothing is collected in between.
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

LIVE, FINISHED = 100_000, 10_000

PROGRAM = """\
import asyncio, gc, json, os

LIVE, FINISHED = {live}, {finished}
alive = 0

class Result:
    def __init__(self):
        global alive
        alive += 1
    def __del__(self):
        global alive
        alive -= 1

async def result(): return Result()
async def wait(gate): await gate

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def main():
    gc.disable()
    for task in [asyncio.create_task(result()) for _ in range(FINISHED)]: await task
    del task
    figures["finished tasks held, at once"] = alive
    await asyncio.sleep(0)
    figures["finished tasks held, one turn later"] = alive
    gc.enable()
    gate = asyncio.get_running_loop().create_future()
    tasks = []
    before = resident()
    for _ in range(LIVE):
        tasks.append(asyncio.create_task(wait(gate)))
        if len(tasks) % 1000 == 0: await asyncio.sleep(0)
    await asyncio.sleep(0)
    figures["a live task"] = (resident() - before) / LIVE
    gate.set_result(None)
    for task in tasks: await task

figures = {{}}
asyncio.run(_around())
print(json.dumps(figures))
"""


def _coverage(ran: Ran) -> float:
    return ran.created("asyncio.task") / (LIVE + FINISHED + RUN)


def measure(runs: Runs, options: argparse.Namespace) -> list[Row]:
    """Return the rows."""

    def one(_name: str, variant: Variant) -> Ran:
        return runs.run(variant, [runs.program(variant, PROGRAM.format(live=LIVE, finished=FINISHED))])

    names = (BARE, AGENT, "leakagent, level count", "set and done callback", "opentelemetry-instrumentation, SDK")
    found, notes = alternate(chosen([*names, "tracemalloc", AGAIN], gate=options.gate), options.rounds, one)
    held = rows_of(
        found, notes, "tasks", lambda ran: {name: ran.figures[name] for name in ran.figures if "held" in name}, _coverage
    )
    return rows_of(found, notes, "B", lambda ran: {"a live task": ran.figures["a live task"]}, _coverage) + held


if __name__ == "__main__":
    main(__doc__ or "", "memory", measure, rounds=5)
