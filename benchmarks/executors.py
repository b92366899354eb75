"""Jobs of executors, and processes.

    python benchmarks/executors.py [--rounds N] [--gate] [--json FILE]

CPU time of the process and of its children, each variant in a fresh process; the line of instructions counts the jobs only. `saw` is the number of
executors and processes in leakagent's report over the number made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paired import AGAIN, AGENT, BARE, compare
from programs import BLOCK, VARIANTS, Runs, alternate, chosen, main, rows_of

if TYPE_CHECKING:
    import argparse

    from paired import Row
    from programs import Ran, Variant

PROGRAM = """\
import asyncio, gc, json, multiprocessing, resource
from concurrent.futures import ThreadPoolExecutor, wait

JOBS, POOLS, PROCESSES = 2_000, 50, {"fork": 40, "spawn": 6}

def submit_and_result():
    with ThreadPoolExecutor(1) as pool:
        for _ in range(JOBS): pool.submit(abs, 1).result()
    return JOBS

def submit_batch():
    with ThreadPoolExecutor(1) as pool:
        wait([pool.submit(abs, 1) for _ in range(JOBS)])
    return JOBS

def create_and_shut_down():
    for _ in range(POOLS):
        with ThreadPoolExecutor(1) as pool: pool.submit(abs, 1)
    return POOLS

def nothing(): pass

def processes(method):
    context = multiprocessing.get_context(method)
    for _ in range(PROCESSES[method]):
        process = context.Process(target=nothing)
        process.start()
        process.join()
    return PROCESSES[method]

WORKLOADS = {
    "submit and result": submit_and_result,
    "submit, batch": submit_batch,
    "executor: make, one job, shut down": create_and_shut_down,
    "Process, fork": lambda: processes("fork"),
    "Process, spawn": lambda: processes("spawn"),
}

def cpu():
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)

async def main():
    pass

if __name__ == "__main__":
    asyncio.run(_around())
    figures = {}
    for name, workload in WORKLOADS.items():
        gc.collect()
        begin = cpu()
        turns = workload()
        figures[name] = (cpu() - begin) / turns * 1e6
    figures["pools"], figures["processes"] = 2 + POOLS, sum(PROCESSES.values())
    print(json.dumps(figures))
"""

JOBS = (
    BLOCK
    + """\
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor

async def main():
    pass

asyncio.run(_around())
with ThreadPoolExecutor(1) as pool:
    for _ in range(200): pool.submit(abs, 1).result()
    gc.collect()
    block.begin()
    for _ in range(int(sys.argv[1])): pool.submit(abs, 1).result()
    block.end()
"""
)
COUNTED = (BARE, AGENT, "opentelemetry-instrumentation", AGAIN)


def _coverage(ran: Ran) -> float:
    pools = ran.created("thread_pool") / ran.figures["pools"]
    processes = ran.created("process") / ran.figures["processes"]
    return pools if pools != 1 else processes


def _figures(ran: Ran) -> dict[str, float]:
    return {name: value for name, value in ran.figures.items() if name not in {"pools", "processes"}}


def measure(runs: Runs, options: argparse.Namespace) -> list[Row]:
    """Return the rows."""
    plain = Runs(runs.python, runs.folder, reports=False)

    def one(_name: str, variant: Variant) -> Ran:
        return plain.run(variant, [runs.program(variant, PROGRAM)])

    # A report is written by the end of every child: in a run of its own, which is not timed.
    counted = runs.run(VARIANTS[AGENT], [runs.program(VARIANTS[AGENT], PROGRAM)])

    left_out = {"pyleak", "asyncio debug", "leakagent, level count", "set and done callback"}  # about tasks only
    found, notes = alternate(chosen([name for name in VARIANTS if name not in left_out], gate=options.gate), options.rounds, one)
    rows = rows_of(found, notes, "us", _figures, lambda _ran: _coverage(counted))
    samples: dict[str, list[float | None]] = {}
    for name, variant in chosen(COUNTED, gate=options.gate).items():
        is_there = variant.is_installed()
        samples[name] = [plain.per_turn(variant, runs.program(variant, JOBS), 2_000)[0] if is_there else None]
    return rows + compare("submit and result, instructions", "instructions", samples)


if __name__ == "__main__":
    main(__doc__ or "", "executors", measure, rounds=10)
