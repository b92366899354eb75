"""Pairs, ratios, noise and verdicts: what all benchmarks have in common.  Pure functions.

On a shared machine the same code takes twice as long from one second to the next, so that figures of different minutes can't be compared.
Each round therefore runs every variant once, forwards and backwards in turns, with the bare program first and last
(`BARE`, `AGAIN`); a ratio is formed inside of a round, and the median of all rounds counts.

The noise is how far the two bare programs, which are the same, seem to be apart: the ends of the interval in which the median of their
ratios lies with 95 % certainty (order statistics of the sign test: no assumption about how the figures are spread).  What
differs from 1 by less than that has no verdict.  With fewer than six rounds it is the largest difference of the two; with one, as for instruction
counts, their difference.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BARE, AGAIN = "bare", "bare again"
#: The variant that the targets are about.
AGENT = "leakagent"

#: What a row says about a target.
MET, MISSED, UNDECIDED, NO_FIGURE = "met", "missed", "undecided: within the noise", "missed: no figure"


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        workload: What was done.
        variant: Under which tool.
        value: Median of the rounds, None if it could not be measured.
        unit: Unit of the value.
        ratio: Median of the ratios to the bare program of the same round.
        difference: Median of the differences to the bare program of the same round, in the same unit.
        noise: How far from 1 the ratio of two bare programs may be.
        noise_difference: How far from 0 the difference of two bare programs may be.
        coverage: What leakagent saw of what there was to see, where that can be counted; 1 is all.
        note: Why there is no value.

    """

    workload: str
    variant: str
    value: float | None
    unit: str
    ratio: float | None = None
    difference: float | None = None
    noise: float = 0.0
    noise_difference: float = 0.0
    coverage: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Say ``cheaper``, ``dearer`` or, within the noise, nothing."""
        if self.ratio is None or abs(self.ratio - 1) <= self.noise or self.variant in {BARE, AGAIN}:
            return ""
        return "cheaper" if self.ratio < 1 else "dearer"


def orders(names: Sequence[str], rounds: int) -> Iterator[list[str]]:
    """Return the order of the variants in each round: forwards and backwards in turns."""
    for number in range(rounds):
        yield [*names] if number % 2 == 0 else [*reversed(names)]


def reach(values: Sequence[float], centre: float) -> float:
    """Return how far from ``centre`` the median may lie with 95 % certainty, judged by these values."""
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        return 0.0
    outside = 0  # values that the interval may leave out at each end
    while 2 * sum(math.comb(count, one) for one in range(outside + 1)) / 2**count <= 0.05 and outside < (count - 1) // 2:  # noqa: PLR2004
        outside += 1
    low, high = max(0, outside - 1), min(count - 1, count - outside)
    return max(abs(ordered[low] - centre), abs(ordered[high] - centre))


def compare(
    workload: str,
    unit: str,
    samples: dict[str, list[float | None]],
    *,
    coverage: dict[str, float] | None = None,
    notes: dict[str, str] | None = None,
) -> list[Row]:
    """Return a row for each variant of one workload.

    Args:
        workload: Its name.
        unit: Unit of the figures.
        samples: The figures of each variant, one for each round; None where there is none.
        coverage: What was seen of what there was to see, by variant.
        notes: Why there is no figure, by variant.

    """
    bare = [_mean(pair) for pair in zip(samples[BARE], samples.get(AGAIN, samples[BARE]), strict=True)]
    pairs = [
        (first, again)
        for first, again in zip(samples[BARE], samples.get(AGAIN, samples[BARE]), strict=True)
        if first is not None and again is not None
    ]
    noise = reach([again / first for first, again in pairs if first], 1)
    noise_difference = reach([again - first for first, again in pairs], 0)
    rows = []
    for variant, found in samples.items():
        both = [(value, base) for value, base in zip(found, bare, strict=True) if value is not None and base is not None]
        rows.append(
            Row(
                workload,
                variant,
                statistics.median(value for value, _ in both) if both else None,
                unit,
                ratio=statistics.median(value / base for value, base in both) if both and all(base for _, base in both) else None,
                difference=statistics.median(value - base for value, base in both) if both else None,
                noise=noise,
                noise_difference=noise_difference,
                coverage=(coverage or {}).get(variant),
                note=(notes or {}).get(variant, "") if not both else "",
            )
        )
    return rows


def _mean(pair: Sequence[float | None]) -> float | None:
    known = [value for value in pair if value is not None]
    return sum(known) / len(known) if known else None


def judge(value: float | None, target: float, noise: float) -> str:
    """Say whether a figure meets its target; there is no verdict where it is nearer to it than the noise."""
    if value is None:
        return NO_FIGURE
    if noise and abs(value - target) <= noise:
        return UNDECIDED
    return MET if value <= target else MISSED


def table(rows: Sequence[Row]) -> str:
    """Return Markdown: a line for each variant, a column for each workload; ratios to the bare program and what leakagent saw."""
    workloads = list(dict.fromkeys(row.workload for row in rows))
    by_place = {(row.workload, row.variant): row for row in rows}
    lines = ["| | " + " | ".join(workloads) + " |", "|---|" + "---:|" * len(workloads)]
    for variant in dict.fromkeys(row.variant for row in rows):
        cells = [_cell(by_place.get((workload, variant))) for workload in workloads]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    noises = [next((row.noise for row in rows if row.workload == workload), 0.0) for workload in workloads]
    return "\n".join([*lines, "| noise | " + " | ".join(f"±{noise:.1%}" for noise in noises) + " |"])


def _cell(row: Row | None) -> str:
    if row is None or row.value is None:
        return (row.note if row else "") or "-"
    if row.variant == BARE:
        return amount(row.value, row.unit)
    text = amount(row.value, row.unit) if row.ratio is None else f"{row.ratio:.3f}"
    return text if row.coverage is None else f"{text} (saw {row.coverage:.3f})"


def amount(value: float, unit: str) -> str:
    """Return a figure with its unit, in few digits."""
    return f"{value:,.0f} {unit}" if abs(value) >= 100 or value == int(value) else f"{value:.3g} {unit}"  # noqa: PLR2004


def write(path: Path, result: dict[str, Any]) -> None:
    """Put the result of one benchmark into the file that has those of all, in the place of its last one."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known[result["benchmark"]] = {**result, "rows": [_plain(row) for row in result["rows"]]}
    path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def _plain(row: Row) -> dict[str, Any]:
    """Return what is to be said of a row, in the digits that mean something."""
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in asdict(row).items()
        if value is not None and value != ""
    }


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the results by benchmark, with rows as `Row`."""
    known = json.loads(path.read_text(encoding="utf-8"))
    return {name: {**one, "rows": [Row(**{"value": None, **row}) for row in one["rows"]]} for name, one in known.items()}
