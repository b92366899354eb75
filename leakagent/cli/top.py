"""``leakagent top``: all of a user's processes under leakagent in one view, warnings first."""

from __future__ import annotations

import json
import sys

from leakagent.live import client, overview
from leakagent.report.words import safe

_USAGE = "leakagent: usage: leakagent top [--once] [--json]\n"

#: Smallest growth a minute that is shown.
_SHOWN = 0.05
_HEADS = ("PID", "STATE", "KIND", "LIVE", "+/MIN", "PEAK", "CREATED", "LEAKS", "PROGRAM")


def main(words: list[str]) -> None:
    """Show the view until it is left, or print it once; status 2 for wrong usage, 1 without what the view needs."""
    if set(words) - {"--once", "--json"}:
        sys.stderr.write(_USAGE)
        raise SystemExit(2)
    if words:
        processes = overview.everybody()
        print("\n".join(_document(processes) if "--json" in words else _table(processes)))  # noqa: T201 - the output
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        sys.stderr.write("leakagent: top needs a terminal; leakagent top --once prints the view\n")
        raise SystemExit(1)
    try:
        from .top_screen import Screen
    except ImportError:
        sys.stderr.write("leakagent: top needs textual: pip install 'leakagent[tui]'; leakagent top --once does without\n")
        raise SystemExit(1) from None
    Screen().run()


def _document(processes: list[dict[str, object]]) -> list[str]:
    return [json.dumps({"schema": "leakagent.top/1", "processes": processes}, indent=1)]


def _table(processes: list[dict[str, object]]) -> list[str]:
    rows = overview.View().rows(processes)
    if not rows:
        return [f"leakagent: {client.NOBODY}"]
    lines = [cells(row) for row in rows]
    widths = [max(len(line[at]) for line in [_HEADS, *lines]) for at in range(len(_HEADS) - 1)]
    shown = [" ".join([*map(str.ljust, line[:-1], widths), line[-1]]).rstrip() for line in [_HEADS, *lines]]
    for row in rows:
        if row.counts["findings"]:
            shown += ["", f"{row.process['pid']} {safe(row.kind)}:", *(f"  {safe(text, 400)}" for text in overview.details(row))]
    return shown


def cells(row: overview.Row) -> tuple[str, ...]:
    """Return a line's cells, in the order of the table's heads."""
    counts = row.counts
    if row.process["state"] == "silent":
        return (str(row.process["pid"]), "silent", "-", "", "", "", "", "", safe(str(row.process["program"]), 60))
    return (
        str(row.process["pid"]),
        safe(str(row.process["state"])),
        safe(row.kind) or "-",
        str(counts["live"]),
        f"{row.per_minute:+.1f}" if abs(row.per_minute) >= _SHOWN else "",
        str(counts["peak"]),
        str(counts["created"]),
        str(counts["findings"]),
        safe(str(row.process.get("program", "")), 60),
    )
