"""Pictures of the HTML report, as SVG: the timeline, and the clean-up as a waterfall.

Sizes and places are attributes of the SVG elements themselves, which the page's policy allows; a style attribute it would not.
Colours are classes of the page's style sheet, so that both pictures follow light and dark.
"""

from __future__ import annotations

from .words import duration, finite, kind_name, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from leakagent.core.findings import Report, StageReceipt

#: Lines of the timeline: the kinds that grew biggest; the style sheet has that many colours.
LINES = 6

_WIDTH, _HEIGHT, _LEFT = 960.0, 180.0, 8.0
_BAR, _LABEL = 22.0, 110.0
_MEGABYTE = 1024 * 1024


def timeline(report: Report, escape: Callable[[object], str]) -> str:
    """Return the live counts of each kind and the memory over time as one picture with a legend; empty without samples."""
    taken = report.timeline
    if len(taken) < 2:  # noqa: PLR2004 - a line has two ends
        return ""
    begin, end = taken[0][0], taken[-1][0]
    peaks = {kind: max(live.get(kind, 0) for _, _, live in taken) for _, _, live in taken for kind in live}
    kinds = sorted((kind for kind in peaks if peaks[kind]), key=lambda kind: (-peaks[kind], kind))[:LINES]
    highest = max([peaks[kind] for kind in kinds], default=0) or 1
    memory = [size for _, size, _ in taken]

    def points(values: Sequence[float], top: float) -> str:
        span = (end - begin) or 1.0
        return " ".join(
            f"{_LEFT + (when - begin) / span * _WIDTH:.1f},{8 + (1 - value / top) * _HEIGHT:.1f}"
            for (when, _, _), value in zip(taken, values, strict=True)
        )

    lines = [
        f'<polyline class="l{number}" points="{points([live.get(kind, 0) for _, _, live in taken], highest)}"/>'
        for number, kind in enumerate(kinds)
    ]
    legend = [
        f'<span class="key k{number}">{escape(kind_name(kind))}, at most {peaks[kind]}</span>'
        for number, kind in enumerate(kinds)
    ]
    if max(memory):
        lines.append(f'<polyline class="lm" points="{points(memory, max(memory) * 1.1)}"/>')
        legend.append(
            f'<span class="key km">memory, {memory[0] / _MEGABYTE:.0f} to {memory[-1] / _MEGABYTE:.0f} MB, '
            f"at most {max(memory) / _MEGABYTE:.0f} MB</span>"
        )
    title = f"Live resources by kind and memory over {duration(end - begin)}"
    return (
        f'<svg viewBox="0 0 {_WIDTH + 2 * _LEFT:.0f} {_HEIGHT + 16:.0f}" role="img"><title>{escape(title)}</title>'
        f'<path class="axis" d="M{_LEFT:.0f},{_HEIGHT + 8:.0f}h{_WIDTH:.0f}"/>{"".join(lines)}</svg>\n'
        f'<p class="soft">{escape(title)}</p>\n<p>{"".join(legend)}</p>\n'
    )


def waterfall(receipt: Sequence[StageReceipt], escape: Callable[[object], str]) -> str:
    """Return the stages of the clean-up as bars, each beginning where it began; what had to be forced is marked."""
    begins = begin_of(receipt)
    whole = max(begin + finite(stage.seconds) for begin, stage in zip(begins, receipt, strict=True)) or 1.0
    room = _WIDTH - _LABEL - 150
    rows = []
    for number, (begin, stage) in enumerate(zip(begins, receipt, strict=True)):
        top = number * _BAR
        left, width = _LABEL + begin / whole * room, max(finite(stage.seconds) / whole * room, 1.5)
        name, took = safe(stage.stage, 14), duration(stage.seconds)
        rows.append(
            f'<text x="0" y="{top + 15:.0f}">{escape(name)}</text>'
            f'<rect class="{"forced" if stage.forced else "done"}" x="{left:.1f}" y="{top + 4:.0f}" width="{width:.1f}" height="14"/>'
            f'<text class="took" x="{left + width + 6:.1f}" y="{top + 15:.0f}">{escape(took)}</text>'
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH:.0f} {len(rows) * _BAR + 4:.0f}" role="img">'
        f"<title>When each stage of the clean-up ran</title>{''.join(rows)}</svg>\n"
    )


def begin_of(receipt: Sequence[StageReceipt]) -> list[float]:
    """Return for each stage when it began, in seconds after the first one."""
    begins = [finite(stage.ended) - finite(stage.seconds) for stage in receipt]
    first = min(begins, default=0.0)
    return [max(0.0, begin - first) for begin in begins]
