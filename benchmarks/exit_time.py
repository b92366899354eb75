"""CPU time from a program's last line to its end.

    python benchmarks/exit_time.py [--rounds N] [--gate] [--json FILE]

Clean programs leave nothing behind; the others leave what leakagent has to close and to tell. CPU time, which other programs of the machine don't change;
how long programs wait at their end, and which hang without leakagent, is in `exit-matrix.md` (``python benchmarks/exit.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paired import AGAIN, AGENT, BARE
from programs import Ran, Runs, alternate, chosen, main, rows_of

if TYPE_CHECKING:
    import argparse

    from paired import Row
    from programs import Variant

MARK = "\nimport json, time; print(json.dumps({'cpu': time.process_time()}), flush=True)\n"

_ASYNCIO = (
    "import asyncio\nasync def nothing(): pass\nasync def main():\n    await asyncio.create_task(nothing())\nasyncio.run(main())"
)
_POOL = "from concurrent.futures import ThreadPoolExecutor\n"
_PENDING = """\
import asyncio
async def wait(): await asyncio.Event().wait()
async def main():
    tasks.extend(asyncio.create_task(wait()) for _ in range(100))
    await asyncio.sleep(0)
tasks = []
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
"""

PROGRAMS = {
    "clean, no loop": "",
    "clean, asyncio": _ASYNCIO,
    "clean, thread pool": _POOL + "with ThreadPoolExecutor(4) as pool: pool.submit(abs, 1).result()",
    "leaking, pool not shut down": _POOL + "pool = ThreadPoolExecutor(4); pool.submit(abs, 1).result()",
    "leaking, 100 pending tasks": _PENDING,
}


def measure(runs: Runs, options: argparse.Namespace) -> list[Row]:
    """Return the rows."""
    runs = Runs(runs.python, runs.folder, reports=False)
    rows: list[Row] = []
    for workload, text in PROGRAMS.items():

        def one(_name: str, variant: Variant, workload: str = workload, text: str = text) -> Ran:
            ran = runs.run(variant, [runs.program(variant, text + MARK)])
            return Ran({workload: (ran.cpu - ran.figures["cpu"]) * 1000}, ran.cpu, ran.wall, ran.report, ran.problem)

        found, notes = alternate(chosen((BARE, AGENT, AGAIN), gate=options.gate), options.rounds, one)
        rows += rows_of(found, notes, "ms", lambda ran: ran.figures)
    return rows


if __name__ == "__main__":
    main(__doc__ or "", "exit_time", measure, rounds=15)
