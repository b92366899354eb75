"""Runs programs under each tool, alternated, and hands their figures to `paired`.

A program stands in a file; it prints one JSON object as its last line, figures by workload.  In front of it stands the
variant's prelude.  leakagent itself starts as users start it: by ``LEAKAGENT=1`` in the environment of an interpreter in which the wheel
is installed; what it saw is read from its JSON report.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paired import AGAIN, AGENT, BARE, compare, orders, table, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paired import Row

RESULTS = Path(__file__).resolve().parent / "results.json"
#: Seconds that one run of a program may take.
LIMIT = 900.0


@dataclass(frozen=True)
class Variant:
    """A tool, and how a program gets it.

    Attributes:
        prelude: Lines in front of the program.
        inside: Lines of an ``async with``-free body around ``await main()``, for tools that start inside of a loop.
        environment: Variables.
        package: What has to be installed for it.
        startup: Lines that start the tool where there is no loop, if these are not the prelude.

    """

    prelude: str = ""
    inside: str = "await main()"
    environment: dict[str, str] = field(default_factory=dict)
    package: str = ""
    startup: str = ""

    def is_installed(self) -> bool:
        """Say whether its package can be imported."""
        try:
            return not self.package or importlib.util.find_spec(self.package) is not None
        except ModuleNotFoundError:  # of the package that it would be in
            return False


_OTEL = """\
from opentelemetry.instrumentation.asyncio import AsyncioInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
AsyncioInstrumentor().instrument(); ThreadingInstrumentor().instrument()
"""
_OTEL_SDK = """\
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()])); trace.set_tracer_provider(TracerProvider())
"""
_SET = """\
import asyncio
_create, _kept = asyncio.create_task, set()
def _held(coro, **more):
    task = _create(coro, **more)
    _kept.add(task)
    task.add_done_callback(_kept.discard)
    return task
asyncio.create_task = _held
"""
_SENTRY = """sentry_sdk.init("http://key@127.0.0.1:9/1", transport=lambda event: None, traces_sample_rate=0.0{more})"""
#: ddtrace reports to its agent and looks for it in the meantime; neither is part of what a task costs.
_DDTRACE = {
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "DD_TRACE_AGENT_URL": "http://127.0.0.1:9",
    "DD_TRACE_STARTUP_LOGS": "false",
}

SELF = {"LEAKAGENT": "1"}

VARIANTS = {
    BARE: Variant(),
    AGENT: Variant(environment=SELF),
    "leakagent, level count": Variant(environment={**SELF, "LEAKAGENT_LEVEL": "count"}),
    "set and done callback": Variant(prelude=_SET),
    "pyleak": Variant(
        prelude="import pyleak",
        inside='async with pyleak.no_task_leaks(action="log"): await main()',
        package="pyleak",
    ),
    "opentelemetry-instrumentation": Variant(prelude=_OTEL, package="opentelemetry.instrumentation.asyncio"),
    "opentelemetry-instrumentation, SDK": Variant(prelude=_OTEL_SDK + _OTEL, package="opentelemetry.instrumentation.asyncio"),
    "tracemalloc": Variant(environment={"PYTHONTRACEMALLOC": "1"}),
    "asyncio debug": Variant(environment={"PYTHONASYNCIODEBUG": "1"}),
    "sentry": Variant(
        prelude="import sentry_sdk; from sentry_sdk.integrations.asyncio import AsyncioIntegration",
        inside=_SENTRY.format(more=", integrations=[AsyncioIntegration()]") + "; await main()",
        package="sentry_sdk",
        startup="import sentry_sdk; " + _SENTRY.format(more=""),
    ),
    "ddtrace": Variant(prelude="import ddtrace.auto", environment=_DDTRACE, package="ddtrace"),
    "aiomonitor": Variant(
        prelude="import aiomonitor",
        inside="with aiomonitor.start_monitor(asyncio.get_running_loop(), hook_task_factory=True): await main()",
        package="aiomonitor",
    ),
    AGAIN: Variant(),
}
#: The variants that a gate needs.
GATED = (BARE, AGENT, AGAIN)

#: Lines that give a program its ``block``.
BLOCK = 'import ctypes, gc, os; block = ctypes.CDLL(os.environ["BENCH_BLOCK"])\n'

RUNNER = "async def _around():\n    {inside}\n"


@dataclass
class Ran:
    """How one run of a program went."""

    figures: dict[str, float]
    cpu: float
    wall: float
    report: dict[str, Any]
    problem: str = ""

    def created(self, kind: str) -> int:
        """Return how many resources of a kind leakagent saw."""
        return int(self.report.get("totals", {}).get(kind, {}).get("created", 0))


class Runs:
    """Runs programs of one interpreter, in a folder of their own."""

    def __init__(self, python: str, folder: Path, *, reports: bool = True) -> None:
        """Put programs and reports into ``folder``; without ``reports`` leakagent has its defaults, and what it saw is not known."""
        self.python = python
        self.folder = folder
        self.reports = reports
        self._number = 0

    def environment(self, variant: Variant, more: dict[str, str] | None = None) -> tuple[dict[str, str], Path]:
        """Return the environment of a run, and where leakagent's report of it will be."""
        self._number += 1
        report = self.folder / f"report-{self._number}.json"
        own = {name: value for name, value in os.environ.items() if not name.startswith(("LEAKAGENT", "_LEAKAGENT", "OTEL_"))}
        own.update(PYTHONHASHSEED="0", XDG_RUNTIME_DIR=str(self.folder))
        if self.reports:
            own["LEAKAGENT_REPORT"] = f"json:{report}"
        return {**own, **variant.environment, **(more or {})}, report

    def program(self, variant: Variant, text: str) -> Path:
        """Write a program for a variant; ``_around()`` in it awaits its ``main()`` as the tool wants it."""
        path = self.folder / "program.py"
        path.write_text(f"{variant.prelude}\n{RUNNER.format(inside=variant.inside)}\n{text}", encoding="utf-8")
        return path

    def run(self, variant: Variant, command: Sequence[str | Path], more: dict[str, str] | None = None) -> Ran:
        """Run a command of the interpreter; CPU time is that of its children as well."""
        environment, report = self.environment(variant, more)
        with (self.folder / "stderr").open("w+b") as errors:
            begin = time.perf_counter()
            process = subprocess.Popen(
                [self.python, *command], env=environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=errors
            )
            assert process.stdout is not None
            output = process.stdout.read().decode()
            _, status, usage = os.wait4(process.pid, 0)
            process.stdout.close()
            process.returncode = os.waitstatus_to_exitcode(status)
            wall = time.perf_counter() - begin
            errors.seek(0)
            told = errors.read().decode(errors="replace").strip().splitlines()
        seen = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
        last = (output.strip().splitlines() or [""])[-1]
        figures = json.loads(last) if last.startswith("{") else {}
        problem = "" if process.returncode == 0 else f"failed: {(told or ['no output'])[-1][:80]}"
        return Ran(figures, usage.ru_utime + usage.ru_stime, wall, seen, problem)

    def instructions(
        self, variant: Variant, command: Sequence[str | Path], *, block: bool = False, main_thread: bool = False
    ) -> tuple[int | None, dict[str, Any]]:
        """Run a command of the interpreter under callgrind; return its instructions and leakagent's report.

        Args:
            variant: The tool.
            command: Arguments of the interpreter.
            block: Count only from ``block.begin()`` to ``block.end()`` of the program (`BLOCK`).
            main_thread: Count only the main thread.  What a thread does once in a second, it does a hundred times as often for each turn of
                a program that callgrind makes a hundred times slower.

        """
        environment, report = self.environment(variant)
        output = self.folder / f"callgrind-{self._number}"
        options = [
            f"--instr-atstart={'no' if block else 'yes'}",
            f"--callgrind-out-file={output if main_thread else '/dev/null'}",
        ]
        if main_thread:
            options.append("--separate-threads=yes")
        if block:
            environment["BENCH_BLOCK"] = str(self._library())
        ran = subprocess.run(
            ["valgrind", "--tool=callgrind", *options, self.python, *command],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
        if main_thread and ran.returncode == 0:
            found = re.search(r"^totals: (\d+)", Path(f"{output}-01").read_text(encoding="utf-8"), re.MULTILINE)
        else:
            found = re.search(r"Collected : (\d+)", ran.stderr)
        seen = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
        return (int(found[1]) if found and ran.returncode == 0 else None), seen

    def per_turn(
        self, variant: Variant, path: Path, turns: int, *words: str, main_thread: bool = False
    ) -> tuple[float | None, dict[str, Any]]:
        """Return instructions for each turn of a program that makes as many as its first argument says, in a block."""
        found, report = self.instructions(variant, [path, str(turns), *words], block=True, main_thread=main_thread)
        return (None if found is None else found / turns), report

    def _library(self) -> Path:
        path = self.folder / "block.so"
        if not path.exists():
            source = Path(__file__).resolve().parent / "block.c"
            subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", path, source], check=True)
        return path


def chosen(names: Sequence[str], *, gate: bool) -> dict[str, Variant]:
    """Return the variants to be run, of those that are named."""
    return {name: VARIANTS[name] for name in names if not gate or name in GATED}


def alternate(
    variants: dict[str, Variant], rounds: int, measure: Callable[[str, Variant], Ran]
) -> tuple[dict[str, list[Ran]], dict[str, str]]:
    """Run all variants in alternated rounds.

    Returns:
        The runs of each variant, and why there are none for those that are not installed or failed.

    """
    runs: dict[str, list[Ran]] = {name: [] for name in variants}
    notes = {name: "not installed" for name, variant in variants.items() if not variant.is_installed()}
    for order in orders(list(variants), rounds):
        for name in order:
            if name in notes:
                continue
            ran = measure(name, variants[name])
            if ran.problem:
                notes[name] = ran.problem
            runs[name].append(ran)
    return runs, notes


def rows_of(
    runs: dict[str, list[Ran]],
    notes: dict[str, str],
    unit: str,
    figure: Callable[[Ran], dict[str, float]],
    coverage: Callable[[Ran], float] | None = None,
) -> list[Row]:
    """Return the rows of runs that have a figure for each of several workloads.

    Args:
        runs: The runs of each variant.
        notes: Why there are none.
        unit: Unit of the figures.
        figure: Returns the figures of a run, by workload.
        coverage: Returns what leakagent saw in a run, of what there was to see.

    """
    rounds = len(runs[BARE])
    seen = {}
    for name, found in runs.items():
        if coverage and name.startswith(AGENT) and found and name not in notes:
            seen[name] = min(coverage(ran) for ran in found)
    rows: list[Row] = []
    for workload in figure(runs[BARE][0]):
        samples: dict[str, list[float | None]] = {
            name: [figure(ran).get(workload) for ran in found] if name not in notes else [None] * rounds
            for name, found in runs.items()
        }
        rows += compare(workload, unit, samples, coverage=seen, notes=notes)
    return rows


def check_coverage(rows: Sequence[Row]) -> None:
    """Fail if leakagent did not see all: a tool that sees nothing costs nothing, and must not look good."""
    for row in rows:
        if row.coverage is not None and row.coverage != 1:
            message = (
                f"{row.workload}: {row.variant} saw {row.coverage:.3f} of what there was to see; the figure counts for nothing"
            )
            raise SystemExit(message)


def machine(python: str) -> dict[str, str]:
    """Describe where it was measured."""
    version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    return {
        "python": version,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def main(doc: str, name: str, measure: Callable[[Runs, argparse.Namespace], list[Row]], rounds: int) -> None:
    """Run one benchmark from the command line: measure, print the table, and note the figures.

    Args:
        doc: What it measures: its first line is the title.
        name: Under what name the figures are noted.
        measure: Returns the rows.
        rounds: Rounds unless the command line says otherwise.

    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="an interpreter with leakagent's wheel and the peers")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--gate", action="store_true", help="only the bare program and leakagent")
    parser.add_argument("--json", type=Path, default=RESULTS, help="the file that has the figures of all benchmarks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leakagent-bench-") as folder:
        before = machine(options.python)
        rows = measure(Runs(options.python, Path(folder)), options)
    check_coverage(rows)
    title = doc.splitlines()[0]
    write(
        options.json, {"benchmark": name, "title": title, "about": _about(doc), **before, "rounds": options.rounds, "rows": rows}
    )
    print(
        f"{title}\nPython {before['python']}, {before['machine']}, load {before['load']}, rounds: {options.rounds}\n\n{table(rows)}\n"
    )


def _about(doc: str) -> str:
    return " ".join(doc.rsplit("\n\n", maxsplit=1)[-1].split())
