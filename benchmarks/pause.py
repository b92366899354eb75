"""Longest pause that leakagent adds while 100,000 tasks are alive.

    python benchmarks/pause.py [--rounds N] [--gate] [--json FILE]

"In a collection": the thread's CPU time from the first to the last of the garbage collector's callbacks, which is what other callbacks than
the program's own two take; the longest of ten full collections. "Between two turns": the longest time between two turns of a loop that has nothing else
to do, in three seconds without any collection, while leakagent looks for stalled tasks every quarter of a second; what the system does to a thread
in that time is in it as well.
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

LIVE = 100_000

PROGRAM = """\
import asyncio, gc, json, time

LIVE = {live}
begun, seconds = [0.0], []

def first(phase, _info):
    begun[0] = time.thread_time()
def last(phase, _info):
    took = time.thread_time() - begun[0]
    if phase == "start": seconds.append(took)
    else: seconds[-1] += took

async def wait(gate): await gate

async def main():
    gate = asyncio.get_running_loop().create_future()
    tasks = [asyncio.create_task(wait(gate)) for _ in range(LIVE)]
    await asyncio.sleep(0)
    gc.collect()
    gc.callbacks.insert(0, first)
    gc.callbacks.append(last)
    for _ in range(10): gc.collect()
    gc.callbacks.remove(first)
    gc.callbacks.remove(last)
    figures["in a collection"] = max(seconds) * 1000
    gc.disable()
    longest, end = 0.0, time.perf_counter() + 3
    before = time.perf_counter()
    while before < end:
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest = max(longest, now - before)
        before = now
    figures["between two turns"] = longest * 1000
    gc.enable()
    gate.set_result(None)
    for task in tasks: await task

figures = {{}}
asyncio.run(_around())
print(json.dumps(figures))
"""


def measure(runs: Runs, options: argparse.Namespace) -> list[Row]:
    """Return the rows."""

    def one(_name: str, variant: Variant) -> Ran:
        program = runs.program(variant, PROGRAM.format(live=LIVE))
        return runs.run(variant, [program], {"LEAKAGENT_STALLED_AFTER": "1", "LEAKAGENT_LIVE": "0"})

    found, notes = alternate(chosen((BARE, AGENT, AGAIN), gate=options.gate), options.rounds, one)
    return rows_of(found, notes, "ms", lambda ran: ran.figures, lambda ran: ran.created("asyncio.task") / (LIVE + RUN))


if __name__ == "__main__":
    main(__doc__ or "", "pause", measure, rounds=5)
