"""Writes what `results.json` has into `docs/benchmarks.md`, with plots.

    python benchmarks/report.py

What stands outside of the two marks in the document is left as it is.  The plots are SVG written here: text, small, and the same
from the same figures.
"""

from __future__ import annotations

import html
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gate import TARGETS, checked
from paired import AGAIN, AGENT, BARE, MET, read, table
from programs import RESULTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paired import Row

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin: written by benchmarks/report.py -->", "<!-- end: written by benchmarks/report.py -->"

#: Benchmark -> the workloads of its plot.
PLOTS = {
    "times": ("create_task, batch", "TaskGroup"),
    "startup": ("python -c pass", "import asyncio"),
    "web": ("plain, CPU", "fan, CPU"),
    "executors": ("submit and result", "Process, fork", "Process, spawn"),
    "async_tree": ("none, gather", "cpu_io_mixed, TaskGroup"),
}

INTRODUCTION = """\
# What the rest costs

`make bench` writes everything below, the figures in [benchmarks/results.json](../benchmarks/results.json) and the plots; `make bench-gate` fails
with one line for each target that is missed.

**How to read it.** Every figure but those of the bare program is the median of the ratios to the bare program in the same round; the bare program runs
twice in each round. The last line is the noise: the ratio of these two, which are the same program, lies within it with 95 % certainty (with fewer than six rounds: the largest difference of any of them). **A
difference that is smaller than the noise is none.** `saw` is what leakagent's report counts over what there was to count: a tool that does not see a thing
costs nothing there. Tools that trace requests or keep stacks do more than leakagent, so their rows are not the same work.
"""


def write() -> None:
    """Write plots and document."""
    results = read(RESULTS)
    parts = [INTRODUCTION, "## Targets\n", _targets(results)]
    for name, result in results.items():
        parts.append(f"## {result['title'].rstrip('.')}\n")
        where = (
            f"Python {result['python']}, {result['machine']}, load {result['load']}, {result['day']}; rounds: {result['rounds']}"
        )
        parts.append(f"{result['about']} ({where}.)\n")
        parts.append(_tables(result["rows"]))
        rows = [
            row
            for row in result["rows"]
            if row.workload in PLOTS.get(name, ()) and row.ratio and row.variant not in {BARE, AGAIN}
        ]
        if rows:
            path = DOCUMENT.with_name(f"benchmarks-{name}.svg")
            path.write_text(plot(rows), encoding="utf-8")
            parts.append(f"\n![ratios to the bare program]({path.name})\n")
    text = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    body = "\n".join(parts).strip()
    DOCUMENT.write_text(f"{before.rstrip()}\n\n{BEGIN}\n\n{body}\n\n{END}\n\n{after.lstrip()}".lstrip(), encoding="utf-8")


def _targets(results: dict[str, dict[str, Any]]) -> str:
    lines = ["| measure | allowed | leakagent | noise | |", "|---|---:|---:|---:|---|"]
    for target in TARGETS:
        check = checked(target, results)
        shown = check.verdict if check.verdict == MET else f"**{check.verdict}**"
        lines.append(f"| {target.benchmark}: {target.workload} | {check.allowed} | {check.figure} | ±{check.noise} | {shown} |")
    return "\n".join([*lines, ""])


def _tables(rows: Sequence[Row]) -> str:
    """Return a table for each set of variants that the workloads have, so that no table is full of holes."""
    variants: dict[str, tuple[str, ...]] = {}
    for row in rows:
        variants[row.workload] = (*variants.get(row.workload, ()), row.variant)
    tables = [table([row for row in rows if variants[row.workload] == names]) for names in dict.fromkeys(variants.values())]
    return "\n\n".join(tables) + "\n"


WIDTH, LEFT, LINE = 760, 290, 16


def plot(rows: Sequence[Row]) -> str:
    """Return an SVG: a bar for each row, its length the logarithm of the ratio to the bare program."""
    most = max(1.5, *(row.ratio or 1 for row in rows))
    scale = (WIDTH - LEFT - 60) / math.log(most)
    parts, top = [], 10
    for workload in dict.fromkeys(row.workload for row in rows):
        top += LINE + 6
        parts.append(f'<text x="6" y="{top}" font-weight="bold">{html.escape(workload)}</text>')
        for row in (row for row in rows if row.workload == workload):
            top += LINE
            ratio = row.ratio or 1
            length = scale * math.log(ratio)
            colour = "#1a7f37" if row.variant == AGENT else "#8c959f"
            parts.append(f'<text x="{LEFT - 8}" y="{top}" text-anchor="end">{html.escape(row.variant)}</text>')
            parts.append(
                f'<rect x="{LEFT + min(0, length):.1f}" y="{top - 10}" width="{max(1, abs(length)):.1f}" height="11" fill="{colour}"/>'
            )
            parts.append(f'<text x="{LEFT + max(0, length) + 5:.1f}" y="{top}">{ratio:.2f}</text>')
    line = f'<line x1="{LEFT}" y1="8" x2="{LEFT}" y2="{top + 6}" stroke="#57606a"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top + 14}" font-family="sans-serif" font-size="12" fill="#57606a">'
    return "\n".join([head, line, *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    write()
