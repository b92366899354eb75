"""What a task costs, in instructions (callgrind): without an agent, under leakagent, and under other tools.

    python benchmarks/instr.py [--python PYTHON] [--json OUT] [WORKLOAD...]

Time can't decide a question of a few per cent on a shared machine; instructions can, but for the garbage collector, whose turns move
with every allocation.  Each workload is run with two numbers of tasks, and the difference is divided: start-up drops out.  The bare
program is run twice, first and last: how far these two are apart is the noise, and nothing inside of it is a difference.

A tool that sees nothing costs nothing, so for leakagent the number of tasks in its report is checked against the number made.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FEW, MANY = 2_048, 10_240

PROGRAM = """\
import asyncio, sys
{prelude}
async def nothing(): pass

async def main():
    loop = asyncio.get_running_loop()
    for _ in range(int(sys.argv[1]) // 256):
{body}

{run}
"""

#: Workload -> what makes 256 tasks and waits for them.
WORKLOADS = {
    "create_task, await each": "for _ in range(256): await asyncio.create_task(nothing())",
    "create_task, batch": "tasks = [asyncio.create_task(nothing()) for _ in range(256)]\nfor task in tasks: await task",
    "loop.create_task, batch": "tasks = [loop.create_task(nothing()) for _ in range(256)]\nfor task in tasks: await task",
    "TaskGroup": "async with asyncio.TaskGroup() as group:\n    for _ in range(256): group.create_task(nothing())",
    "gather": "await asyncio.gather(*[nothing() for _ in range(256)])",
    "fire and forget": "for _ in range(256): asyncio.create_task(nothing())\nawait asyncio.sleep(0)",
    "uvloop, batch": "tasks = [asyncio.create_task(nothing()) for _ in range(256)]\nfor task in tasks: await task",
}

#: Variant -> lines in front of the program.
VARIANTS = {
    "bare": "",
    "leakagent": "",
    "leakagent, level count": "",
    "set and done callback": """\
_create, _kept = asyncio.create_task, set()
def _held(coro, **more):
    task = _create(coro, **more)
    _kept.add(task)
    task.add_done_callback(_kept.discard)
    return task
asyncio.create_task = _held
""",
    "tracemalloc": "import tracemalloc; tracemalloc.start()",
    "opentelemetry-instrumentation-asyncio": """\
from opentelemetry.instrumentation.asyncio import AsyncioInstrumentor
AsyncioInstrumentor().instrument()
""",
    "bare again": "",
}


class Bench:
    """Runs programs of one interpreter under callgrind."""

    def __init__(self, python: str, folder: Path) -> None:
        """Put programs and reports into ``folder``."""
        self.python = python
        self.folder = folder

    def cost(self, workload: str, variant: str) -> dict[str, object]:
        """Return instructions per task, and for leakagent whether it saw all of them."""
        program = self._program(workload, variant)
        few, many = (self._run(program, variant, tasks) for tasks in (FEW, MANY))
        if few is None or many is None:
            return {"workload": workload, "variant": variant, "value": None, "unit": "instructions"}
        row: dict[str, object] = {"workload": workload, "variant": variant, "unit": "instructions"}
        row["value"] = (many - few) / (MANY - FEW)
        if variant.startswith("leakagent"):
            report = json.loads((self.folder / f"{program.stem}-{MANY}.json").read_text(encoding="utf-8"))
            row["coverage"] = report["totals"]["asyncio.task"]["created"] / (MANY + 1)  # the main task is one more
        return row

    def _program(self, workload: str, variant: str) -> Path:
        body = "".join(f"        {line}\n" for line in WORKLOADS[workload].splitlines())
        run = "import uvloop; uvloop.run(main())" if workload.startswith("uvloop") else "asyncio.run(main())"
        number = [*WORKLOADS].index(workload), [*VARIANTS].index(variant)
        path = self.folder / "program-{}-{}.py".format(*number)
        path.write_text(PROGRAM.format(prelude=VARIANTS[variant], body=body, run=run), encoding="utf-8")
        return path

    def _run(self, program: Path, variant: str, tasks: int) -> int | None:
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
        command = [self.python]
        if variant.startswith("leakagent"):
            level = "count" if variant.endswith("count") else "site"
            report = self.folder / f"{program.stem}-{tasks}.json"
            command += ["-m", "leakagent", "--level", level, "--report", f"json:{report}"]
        ran = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command, program, str(tasks)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        found = re.search(r"Collected : (\d+)", ran.stderr)
        return int(found.group(1)) if found and ran.returncode == 0 else None


def measure(python: str, workloads: list[str]) -> dict[str, object]:
    """Return the result of all variants as it is written to the JSON file."""
    with tempfile.TemporaryDirectory(prefix="leakagent-bench-") as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        bench = Bench(python, Path(folder))
        jobs = [(workload, pool.submit(bench.cost, workload, variant)) for workload in workloads for variant in VARIANTS]
        rows = [job.result() for _, job in jobs]
    for row in rows:
        base = [one["value"] for one in rows if one["workload"] == row["workload"] and str(one["variant"]).startswith("bare")]
        known = [value for value in base if isinstance(value, float)]
        if known and isinstance(row["value"], float):
            row["ratio"] = round(row["value"] / (sum(known) / len(known)), 3)
            row["noise"] = round(max(known) / min(known) - 1, 3)
    version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    return {"python": version, "machine": f"{platform.machine()}, {os.cpu_count()} cores", "rows": rows}


def table(result: dict[str, object]) -> str:
    """Return a result as a Markdown table: a line per variant, a column per workload, ratios to the bare program."""
    rows = result["rows"]
    assert isinstance(rows, list)
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    lines = ["| | " + " | ".join(workloads) + " |", "|---|" + "---|" * len(workloads)]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        cells = []
        for workload in workloads:
            row = next(one for one in rows if one["workload"] == workload and one["variant"] == variant)
            seen = row.get("coverage", 1)
            cells.append("-" if "ratio" not in row else f"{row['ratio']:.3f}" + ("" if seen == 1 else f" (saw {seen:.3f})"))
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    noise = [f"{next(row['noise'] for row in rows if row['workload'] == name and 'noise' in row):.1%}" for name in workloads]
    return "\n".join([*lines, "| noise | " + " | ".join(noise) + " |"])


def main() -> int:
    """Print a table per interpreter and write the figures."""
    parser = argparse.ArgumentParser(description="What a task costs, in instructions.")
    parser.add_argument("--python", action="append", help="an interpreter that has the packages; may be given several times")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    parser.add_argument("workload", nargs="*", choices=[*WORKLOADS, []], help="all by default")
    options = parser.parse_args()
    results = []
    for python in options.python or [sys.executable]:
        result = measure(python, options.workload or [*WORKLOADS])
        results.append(result)
        print(f"Python {result['python']}\n\n{table(result)}\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
