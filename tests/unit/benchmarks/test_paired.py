"""Pairs, ratios, noise and verdicts of the benchmarks: a wrong one of these would prove anything."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[3] / "benchmarks"
MODULES = ("paired", "programs", "gate", "report")


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    """Let the benchmarks be imported as they import each other, and forget them afterwards."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))
    for name in MODULES:
        sys.modules.pop(name, None)


def paired() -> Any:
    return __import__("paired")


def test_variants_run_forwards_and_backwards_in_turns() -> None:
    names = ["bare", "leakagent", "bare again"]
    assert list(paired().orders(names, 3)) == [names, names[::-1], names]


def test_a_ratio_is_formed_inside_of_a_round() -> None:
    # The machine gets slower from round to round: the medians of the figures alone would say 1.0.
    samples = {"bare": [100.0, 200.0, 400.0], "leakagent": [110.0, 220.0, 440.0], "bare again": [100.0, 200.0, 400.0]}
    row = next(row for row in paired().compare("task", "ns", samples) if row.variant == "leakagent")
    assert (row.ratio, row.difference, row.value) == pytest.approx((1.1, 20.0, 220.0))
    assert (row.noise, row.verdict) == (0.0, "dearer")


def test_the_base_of_a_round_is_the_mean_of_both_bare_programs() -> None:
    rows = paired().compare("task", "ns", {"bare": [100.0], "leakagent": [110.0], "bare again": [120.0]})
    assert [row.ratio for row in rows] == pytest.approx([100 / 110, 1.0, 120 / 110])


@pytest.mark.parametrize(("ratio", "verdict"), [(1.05, ""), (0.95, ""), (1.3, "dearer"), (0.7, "cheaper")])
def test_no_verdict_within_the_noise(ratio: float, verdict: str) -> None:
    samples = {"bare": [95.0, 105.0] * 4, "leakagent": [100.0 * ratio] * 8, "bare again": [105.0, 95.0] * 4}
    row = next(row for row in paired().compare("task", "ns", samples) if row.variant == "leakagent")
    assert row.noise == pytest.approx(105 / 95 - 1)
    assert row.verdict == verdict


def test_the_noise_of_one_round_is_the_difference_of_the_two() -> None:
    rows = paired().compare("task", "instructions", {"bare": [1000.0], "leakagent": [1000.0], "bare again": [1010.0]})
    assert [row.noise for row in rows] == pytest.approx([0.01] * 3)


def test_the_noise_forgives_an_outlier_among_many_rounds_and_none_among_few() -> None:
    assert paired().reach([1.0] * 19 + [9.0], 1) == 0
    assert paired().reach([1.0, 1.0, 9.0], 1) == 8


@given(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=40))
def test_the_median_lies_within_the_noise(ratios: list[float]) -> None:
    assert abs(statistics.median(ratios) - 1) <= paired().reach(ratios, 1) + 1e-9


def test_what_was_not_measured_has_no_figure_and_says_why() -> None:
    samples = {"bare": [1.0, 1.0], "ddtrace": [None, None], "bare again": [1.0, 1.0]}
    row = paired().compare("task", "ns", samples, notes={"ddtrace": "not installed"})[1]
    assert (row.value, row.ratio, row.note) == (None, None, "not installed")
    assert "| ddtrace | not installed |" in paired().table([row])


@pytest.mark.parametrize(
    ("value", "noise", "verdict"),
    [
        (1.0, 0.0, "met"),
        (1.05, 0.0, "met"),
        (1.06, 0.0, "missed"),
        (1.06, 0.02, "undecided: within the noise"),
        (1.04, 0.02, "undecided: within the noise"),
        (1.02, 0.02, "met"),
        (1.08, 0.02, "missed"),
        (None, 0.0, "missed: no figure"),
    ],
)
def test_targets(value: float | None, noise: float, verdict: str) -> None:
    assert paired().judge(value, 1.05, noise) == verdict


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    rows = paired().compare(
        "task", "ns", {"bare": [10.0], "leakagent": [None], "bare again": [10.0]}, coverage={"leakagent": 1.0}
    )
    for name in ("first", "second", "first"):
        paired().write(path, {"benchmark": name, "rows": rows})
    found = paired().read(path)
    assert list(found) == ["first", "second"]
    assert found["first"]["rows"] == rows


def test_a_benchmark_that_sees_nothing_counts_for_nothing() -> None:
    rows = paired().compare("task", "ns", {"bare": [10.0], "leakagent": [10.0]}, coverage={"leakagent": 0.0})
    with pytest.raises(SystemExit, match=r"saw 0\.000"):
        __import__("programs").check_coverage(rows)


def test_the_gate_names_a_missed_target_a_missing_figure_and_what_was_not_seen() -> None:
    gate = __import__("gate")
    target = gate.Target("times", "task", 1.05)
    samples = {"bare": [10.0], "leakagent": [11.0], "bare again": [10.0]}
    for coverage, expected in ((1.0, "missed"), (0.5, "missed: saw only 0.500 of what there was to see")):
        rows = paired().compare("task", "ns", samples, coverage={"leakagent": coverage})
        assert (
            str(gate.checked(target, {"times": {"rows": rows}}))
            == f"times: task: 1.100 x, allowed 1.05 x, noise 0.000: {expected}"
        )
    assert gate.checked(target, {}).verdict == "missed: no figure"


def test_a_plot_has_a_bar_for_each_row() -> None:
    rows = paired().compare("task", "ns", {"bare": [10.0], "leakagent": [12.0], "<sentry>": [90.0], "bare again": [10.0]})
    text = __import__("report").plot(rows)
    assert text.count("<rect") == len(rows)
    assert "&lt;sentry&gt;" in text
