"""All of a user's processes in one view: what is open in each, how it has grown, and what leaks; used by ``leakagent top``."""

from __future__ import annotations

from . import client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def everybody(seconds: float = client.SECONDS) -> list[dict[str, Any]]:
    """Return each process that can be asked, those with the most leaks first.

    Args:
        seconds: How long each may take to answer.

    Returns:
        What ``leakagent ps`` says of it, with ``kinds`` (kind -> ``live``, ``created``, ``finished``, ``peak``, ``findings``),
        ``findings`` and ``growth`` (as in the JSON report).  One that does not answer is as in
        `client.everybody`, with nothing in the three.

    """
    found = [_whole(one, seconds) for one in client.everybody(seconds)]
    return sorted(found, key=lambda one: (-len(one["findings"]), one["pid"]))


def _whole(one: dict[str, Any], seconds: float) -> dict[str, Any]:
    findings, growth, kinds = [], [], {}
    if one["state"] != "silent":
        try:
            report = client.ask(one["pid"], "dump", seconds)
        except client.NoAnswerError:  # it has ended in the meantime
            report = {"findings": [], "totals": {}}
        findings, growth = report["findings"], report.get("growth", [])
        kinds = {kind: {**counts, "findings": 0} for kind, counts in report["totals"].items()}
        for finding in findings:
            counts = kinds.setdefault(finding["kind"], {"live": 0, "created": 0, "finished": 0, "peak": 0, "findings": 0})
            counts["findings"] += finding["count"]
    return {**one, "kinds": kinds, "findings": findings, "growth": growth}


class Row:
    """One line of the view: a kind of resource in a process.

    Attributes:
        process: The process, from `everybody`.
        kind: The kind; empty for a process in which nothing is open.
        counts: Its counts.
        growth: By how much more are open than when the process was first seen.
        places: How the count of each of its places has changed, as the process itself knows it (``growth`` of the JSON report).

    """

    __slots__ = ("counts", "growth", "kind", "places", "process")

    def __init__(self, process: dict[str, Any], kind: str, growth: int) -> None:
        """Keep them."""
        self.process = process
        self.kind = kind
        self.counts: dict[str, int] = process["kinds"].get(kind, {"live": 0, "created": 0, "peak": 0, "findings": 0})
        self.growth = growth
        self.places: list[dict[str, Any]] = [one for one in process.get("growth", ()) if one["kind"] == kind]

    @property
    def per_minute(self) -> float:
        """By how many it grows in a minute, all places together; since the process began to count, or for hours."""
        return float(sum(one["per_minute"] for one in self.places))

    @property
    def key(self) -> str:
        """What stays the same from one look to the next."""
        return f"{self.process['pid']} {self.process.get('started', '')} {self.kind}"

    def contains(self, word: str) -> bool:
        """Say whether a word is in its program, its kind or its pid."""
        return word.lower() in f"{self.process['pid']} {self.process.get('program', '')} {self.kind}".lower()


#: Name of an order -> its key; what comes first needs a look most.
ORDERS = {
    "leaks": lambda row: (-row.counts["findings"], -row.growth, -row.counts["live"]),
    "live": lambda row: (-row.counts["live"],),
    "growth": lambda row: (not any(one["growing"] for one in row.places), -row.per_minute, -row.growth),
    "pid": lambda row: (row.process["pid"], row.kind),
}


class View:
    """What is shown, from one look to the next: remembers what each process began with."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._first: dict[str, int] = {}

    def rows(self, processes: list[dict[str, Any]], *, order: str = "leaks", word: str = "") -> list[Row]:
        """Return the lines.

        Args:
            processes: From `everybody`.
            order: A key of `ORDERS`.
            word: Only lines that contain it.

        """
        rows = []
        for process in processes:
            kinds = [kind for kind, counts in process["kinds"].items() if counts["live"] or counts["findings"]]
            for kind in kinds or [""]:
                row = Row(process, kind, 0)
                row.growth = row.counts["live"] - self._first.setdefault(row.key, row.counts["live"])
                rows.append(row)
        return sorted((row for row in rows if row.contains(word)), key=ORDERS[order])


def details(row: Row) -> list[str]:
    """Return what is known about a line: its findings, each with its line, its creation stack, where it waits, and the fix; what has grown."""
    if row.process["state"] == "silent":
        return ["does not answer: it is stopped, or busy in code that keeps its other threads from running"]
    lines: list[str] = []
    for one in [one for one in row.process["findings"] if one["kind"] == row.kind]:
        site = one["site"]
        place = f"{site['file']}:{site['line']} {site['function']}" if site["line"] else "(created at an unknown place)"
        lines.append(f"{one['count']} x {one['reason']}  {one['owner']}  {place}")
        lines += [f"  > {site['source']}"] if site["source"] else []
        lines += [f"  {', '.join(one['names'])}"] if one["names"] else []
        lines += [f"  {text}" for text in one["evidence"]]
        lines += [f"  called from {text}" for text in one["stack"][1:9]]
        lines.append(f"  fix  {one['fix']}")
    for one in [one for one in row.places if one["growing"] or one["per_minute"] > 0]:
        site, word = one["site"], "keeps growing" if one["growing"] else "has grown"
        lines.append(f"{word}  {one['owner']}  {site['file']}:{site['line']} {site['function']}")
        lines.append(f"  from {one['was']} to {one['live']} in {one['seconds']:.0f} s, {one['per_minute']:.1f} a minute")
    return lines


def places(row: Row, inventory: list[dict[str, Any]]) -> list[str]:
    """Return where the resources of a line were made, and where the oldest of each place is now.

    Args:
        row: The line.
        inventory: What its process says of all that is open in it (`leakagent.inventory`).

    """
    lines: list[str] = []
    for one in [one for one in inventory if one["kind"] == row.kind]:
        site = one["site"]
        place = f"{site['file']}:{site['line']} {site['function']}" if site["line"] else "(created at an unknown place)"
        lines.append(f"{one['count']} open  {one['owner']}  {place}  oldest {one['oldest_age_s']:.1f} s")
        lines += [f"  > {one['source']}"] if one["source"] else []
        lines += [f"  {', '.join(one['names'])}"] if one["names"] else []
        lines += [f"  now in {frame}" if not number else f"         {frame}" for number, frame in enumerate(one["now"])]
        lines += [f"  called from {text}" for text in one["stack"][1:]]
    return lines
