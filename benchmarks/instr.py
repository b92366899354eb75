"""What a task costs, in instructions (callgrind): without an agent, under leakagent, and under other tools.

    python benchmarks/instr.py [--python PYTHON] [--write] [--json OUT] [--tasks N]
                               [--variant VARIANT]... [--installed] [--gate] [WORKLOAD...]

With ``--write`` the figures of these interpreters take the place of their former ones in `instr.json`, and all of that is written into
`docs/benchmarks.md`.

With ``--gate`` it ends with status 1 and a line for each target that is missed (`TARGETS`), each task that was not seen, and each
pair of bare runs that are further apart than `NOISE`.

Time can't decide a question of a few per cent on a shared machine; instructions can, but for the garbage collector, whose turns move
with every allocation.  Only the tasks are counted (`block.c`), after `WARM` of them.  The bare program is run twice, first and last: how far
these two are apart is the noise, and nothing inside of it is a difference.

What leakagent does by the clock and not by the task (its thread looks for what makes no progress, some times a minute) would be counted
fifty times as often as it happens, since a program takes that much longer here: it is told to do it once an hour, and
to write no report, whose timeline is made by the clock as well.

A tool that sees nothing costs nothing, so for leakagent the number of tasks that it has seen is checked against the number made.
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
RESULTS = ROOT / "benchmarks" / "instr.json"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin: written by benchmarks/instr.py -->", "<!-- end: written by benchmarks/instr.py -->"

#: Tasks that are made before any is counted, and those that are counted: so many that collections and sweeps, of which each looks at thousands of
#: tasks, come as often as they do in the long run (with 4,096 a task seemed to cost up to 7 % less).
WARM = 1_024
TASKS = 32_768

#: Tasks that `asyncio.run` makes: main, and one each for its generators and its executor.
RUN = 3

#: The most that leakagent may cost, over the bare program: on Python 3.14 and newer asyncio has no registry that could be replaced.
TARGETS = {"3.10": 1.05, "3.11": 1.05, "3.12": 1.05, "3.13": 1.05, "3.14": 1.08, "3.15": 1.08}

#: The most that two bare runs may be apart.
NOISE = 0.01

PROGRAM = """\
import asyncio, ctypes, gc, os, sys
{prelude}
block = ctypes.CDLL(os.environ["BENCH_BLOCK"])
async def nothing(): pass

async def main():
    loop = asyncio.get_running_loop()
{setup}
    for turn in range({warm} // 256 + int(sys.argv[1]) // 256):
        if turn == {warm} // 256:
            # One full collection of what was imported costs as much as hundreds of tasks, and comes or does not come.
            gc.collect()
            gc.freeze()
            block.begin()
{body}
    block.end()

{run}
{after}
"""

#: What follows under leakagent: the number of tasks that it has seen.
SEEN = """\
from leakagent import agent
registry = agent.current().registry
registry.settle()
with open(sys.argv[2], "w") as file: print(registry.count("asyncio.task").created, file=file)
"""

#: Workload -> what makes 256 tasks and waits for them.
WORKLOADS = {
    "create_task, await each": "for _ in range(256): await asyncio.create_task(nothing())",
    "create_task, batch": "tasks = [asyncio.create_task(nothing()) for _ in range(256)]\nfor task in tasks: await task",
    "loop.create_task, batch": "tasks = [loop.create_task(nothing()) for _ in range(256)]\nfor task in tasks: await task",
    "TaskGroup": "async with asyncio.TaskGroup() as group:\n    for _ in range(256): group.create_task(nothing())",
    "gather": "await asyncio.gather(*[nothing() for _ in range(256)])",
    "fire and forget": "for _ in range(256): asyncio.create_task(nothing())\nawait asyncio.sleep(0)",
    "eager": "for _ in range(256): await asyncio.create_task(nothing())",
    "uvloop, batch": "tasks = [asyncio.create_task(nothing()) for _ in range(256)]\nfor task in tasks: await task",
}

#: Workload -> what it needs.
SETUP = {"eager": "    loop.set_task_factory(asyncio.eager_task_factory)"}

#: Workload -> the first Python that has what it needs.
SINCE = {"TaskGroup": (3, 11), "eager": (3, 12)}

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

    def __init__(self, python: str, folder: Path, tasks: int = TASKS, *, installed: bool = False) -> None:
        """Put programs and reports into ``folder``, and count so many ``tasks``; with ``installed`` not of this checkout."""
        self.paths = {} if installed else {"PYTHONPATH": str(ROOT)}
        self.tasks = tasks
        self.python = python
        self.folder = folder
        self.block = folder / "block.so"
        source = Path(__file__).resolve().parent / "block.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", self.block, source], check=True)

    def cost(self, workload: str, variant: str) -> dict[str, object]:
        """Return instructions per task, and for leakagent whether it saw all of them."""
        program = self._program(workload, variant)
        counted = self._run(program, variant)
        if counted is None:
            return {"workload": workload, "variant": variant, "value": None, "unit": "instructions"}
        row: dict[str, object] = {"workload": workload, "variant": variant, "unit": "instructions"}
        row["value"] = counted / self.tasks
        if variant.startswith("leakagent"):
            seen = int((self.folder / f"{program.stem}.seen").read_text(encoding="utf-8"))
            row["coverage"] = seen / (WARM + self.tasks + RUN)
        return row

    def _program(self, workload: str, variant: str) -> Path:
        body = "".join(f"        {line}\n" for line in WORKLOADS[workload].splitlines())
        after = SEEN if variant.startswith("leakagent") else ""
        run = "import uvloop; uvloop.run(main())" if workload.startswith("uvloop") else "asyncio.run(main())"
        number = [*WORKLOADS].index(workload), [*VARIANTS].index(variant)
        path = self.folder / "program-{}-{}.py".format(*number)
        path.write_text(
            PROGRAM.format(prelude=VARIANTS[variant], setup=SETUP.get(workload, ""), warm=WARM, body=body, run=run, after=after),
            encoding="utf-8",
        )
        return path

    def _run(self, program: Path, variant: str) -> int | None:
        environment = {**os.environ, "PYTHONHASHSEED": "0", "BENCH_BLOCK": str(self.block), **self.paths}
        command = [self.python]
        if variant.startswith("leakagent"):
            level = "count" if variant.endswith("count") else "site"
            environment["LEAKAGENT_STALLED_AFTER"] = "3600"
            command += ["-m", "leakagent", "--level", level, "--report", "off"]
        ran = subprocess.run(
            [
                "valgrind",
                "--tool=callgrind",
                "--instr-atstart=no",
                "--callgrind-out-file=/dev/null",
                *command,
                program,
                str(self.tasks),
                program.with_suffix(".seen"),
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        found = re.search(r"Collected : (\d+)", ran.stderr)
        return int(found.group(1)) if found and ran.returncode == 0 else None


def measure(
    python: str, workloads: list[str], variants: list[str], tasks: int = TASKS, *, installed: bool = False
) -> dict[str, object]:
    """Return the result as it is written to the JSON file."""
    answer = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    number = tuple(map(int, answer.split(".")[:2]))
    workloads = [workload for workload in workloads if number >= SINCE.get(workload, number)]
    with tempfile.TemporaryDirectory(prefix="leakagent-bench-") as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        bench = Bench(python, Path(folder), tasks, installed=installed)
        jobs = [(workload, pool.submit(bench.cost, workload, variant)) for workload in workloads for variant in variants]
        rows = [job.result() for _, job in jobs]
    for row in rows:
        base = [one["value"] for one in rows if one["workload"] == row["workload"] and str(one["variant"]).startswith("bare")]
        known = [value for value in base if isinstance(value, float)]
        if known and isinstance(row["value"], float):
            row["ratio"] = round(row["value"] / (sum(known) / len(known)), 3)
            row["noise"] = round(max(known) / min(known) - 1, 3)
    return {"python": answer, "machine": platform.machine(), "tasks": tasks, "rows": rows}


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


def write(results: list[dict[str, object]]) -> None:
    """Note results, each in place of the former one of its interpreter, and write all of them into the document."""
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    known |= {str(result["python"]): result for result in results}
    known = {version: known[version] for version in sorted(known, key=lambda version: [*map(int, re.findall(r"\d+", version))])}
    RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    parts = []
    for version, result in known.items():
        lines = missed(result)
        verdict = "All targets are met." if not lines else "Missed: " + "; ".join(line.partition(", ")[2] for line in lines) + "."
        parts += [f"## Python {version}, {result['tasks']:,} tasks", table(result), verdict]
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    body = "\n\n".join([BEGIN, *parts, END])
    DOCUMENT.write_text(before + body + rest.partition(END)[2], encoding="utf-8")


def missed(result: dict[str, object]) -> list[str]:
    """Return a line for each reason why a result is not good enough."""
    version = str(result["python"])
    target = TARGETS.get(".".join(version.split(".")[:2]), max(TARGETS.values()))
    rows = result["rows"]
    assert isinstance(rows, list)
    lines = [
        f"Python {version}, {row['workload']}: the bare program is {row['noise']:.1%} apart from itself, more than {NOISE:.1%}"
        for row in rows
        if row["variant"] == "bare" and row.get("noise", 0) > NOISE
    ]
    for row in rows:
        name = f"Python {version}, {row['workload']}, {row['variant']}"
        if row["variant"].startswith(("bare", "leakagent")) and row["value"] is None:
            lines.append(f"{name}: did not run")
        elif row["variant"].startswith("leakagent"):
            if row["coverage"] != 1:
                lines.append(f"{name}: saw {row['coverage']:.3f} of the tasks")
            if row["ratio"] > target:
                lines.append(f"{name}: costs {row['ratio']:.3f}, the target is {target:.2f}")
    return lines


def main() -> int:
    """Print a table per interpreter and write the figures."""
    parser = argparse.ArgumentParser(description="What a task costs, in instructions.")
    parser.add_argument("--python", action="append", help="an interpreter that has the packages; may be given several times")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    parser.add_argument("--write", action="store_true", help="note the figures, and write them into docs/benchmarks.md")
    parser.add_argument("--tasks", type=int, default=TASKS, help="how many tasks are counted, a multiple of 256")
    parser.add_argument("--variant", action="append", choices=[*VARIANTS], help="all by default; may be given several times")
    parser.add_argument(
        "--installed", action="store_true", help="measure the leakagent of the interpreter, not the one beside this file"
    )
    parser.add_argument("--gate", action="store_true", help="end with status 1 where leakagent misses a target")
    parser.add_argument("workload", nargs="*", choices=[*WORKLOADS, []], help="all by default")
    options = parser.parse_args()
    results = []
    for python in options.python or [sys.executable]:
        result = measure(
            python, options.workload or [*WORKLOADS], options.variant or [*VARIANTS], options.tasks, installed=options.installed
        )
        results.append(result)
        print(f"Python {result['python']}\n\n{table(result)}\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.write:
        write(results)
    lines = [line for result in results for line in missed(result)] if options.gate else []
    for line in lines:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
