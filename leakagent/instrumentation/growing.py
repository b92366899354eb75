"""Counts what is alive of each site now and then, and tells the sites whose count keeps growing (`leakagent.detect.growth`).

`leakagent.watcher` calls `Growing.look` in the agent's own thread, a few times per ``--stalled-after``; nothing is done where things are created.
A look reads the notes of tasks right after `leakagent.instrumentation.stalls` has swept them, at most `MOST` (every second, third, ...
one where there are more), and the records.  What it keeps is bounded: `SITES` sites, the biggest.
"""

from __future__ import annotations

import sys
import time

from leakagent.core.records import LIVE, PROCESS, SUBPROCESS, TASK, THREAD, Record
from leakagent.detect.growth import Series
from leakagent.processes.identity import is_running, look
from leakagent.shutdown import interpreter
from leakagent.shutdown.signals import state
from leakagent.watcher import watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import CodeType
    from typing import Any

    from leakagent.core.registry import Registry
    from leakagent.detect.growth import Trend

    Place = tuple[str, CodeType | None, int]

#: Notes of tasks that a look reads at most.
MOST = 20_000

#: Sites whose counts are kept.
SITES = 50

#: Resources of one site from which on its counts are kept.
FEW = 4


class Growth:
    """A site whose count keeps growing.

    Attributes:
        kind, code, lasti: What grows, and where it is created.
        trend: How it grows, as of the last judgement that found it.
        count: How many there were at the last look.
        oldest: When the oldest of them was created.

    """

    __slots__ = ("code", "count", "kind", "lasti", "oldest", "pid", "trend")

    def __init__(self, place: Place, trend: Trend, count: int, oldest: float, pid: int) -> None:
        """Note a site."""
        self.kind, self.code, self.lasti = place
        self.trend = trend
        self.count = count
        self.oldest = oldest
        self.pid = pid

    @property
    def record(self) -> Record:
        """The site as a record."""
        return Record(0, self.kind, self.code, self.lasti, self.oldest, self.pid)


class Growing:
    """Looks for sites whose count keeps growing."""

    def __init__(self, registry: Registry, parts: Mapping[str, Any], tell: Callable[[Growth], None]) -> None:
        """Start without samples; ``tell`` is called once per site, in the agent's own thread."""
        self.registry = registry
        self._parts = parts
        self._tell = tell
        self._series: dict[Place, Series] = {}
        self._found: dict[Place, Growth] = {}

    def start(self, threshold: float) -> None:
        """Have it called by the watcher; ``threshold`` is ``--stalled-after`` in seconds."""
        if self.look not in watcher.looks:
            watcher.looks.append(self.look)
            watcher.enable(threshold)

    def forget(self) -> None:
        """Drop all that is known: a forked child has no part in it."""
        self._series.clear()
        self._found.clear()

    def found(self) -> list[Growth]:
        """Return the sites that were told and have not shrunk to where they began."""
        return [one for one in list(self._found.values()) if one.count > one.trend.low]

    def courses(self) -> list[tuple[Record, list[tuple[float, int]], bool]]:
        """Return the sites whose counts are kept, each with its samples (time, count), and whether it keeps growing; for any thread."""
        growing = {(one.kind, one.code, one.lasti) for one in self.found()}
        return [
            (Record(0, *place, samples[0][0], self.registry.pid), samples, place in growing)
            for place, series in list(self._series.items())
            if len(samples := series.course()) > 1
        ]

    def look(self) -> None:
        """Take a sample of each site, and tell those that keep growing."""
        if state.number or sys.is_finalizing():
            return  # the program ends
        now = time.monotonic()
        alive = self._alive()
        biggest = sorted(alive, key=lambda place: -len(alive[place]))[:SITES]
        for place in list(self._series):
            if place not in alive and len(self._series) > SITES // 2:
                del self._series[place]
        for place in {*biggest, *self._series}:
            created = alive.get(place, [])
            series = self._series.get(place)
            if series is None:
                if len(created) < FEW or len(self._series) >= SITES:
                    continue
                series = self._series[place] = Series()
            trend = series.add(now, len(created), lambda created=created: created)  # type: ignore[misc]
            known = self._found.get(place)
            if known is not None:
                known.count = len(created)
                known.oldest = min(created, default=known.oldest)
                known.trend = trend or known.trend
            elif trend is not None:
                self._found[place] = growth = Growth(place, trend, len(created), min(created), self.registry.pid)
                self._tell(growth)

    def _alive(self) -> dict[Place, list[float]]:
        """Return when what is alive was created, by site."""
        alive: dict[Place, list[float]] = {}
        for kind, code, lasti, created in [*self._tasks(), *self._records()]:
            alive.setdefault((kind, code, lasti), []).append(created)
        return alive

    def _tasks(self) -> Iterable[tuple[str, CodeType | None, int, float]]:
        tasks = self._parts.get("asyncio")
        if tasks is None:
            return
        step = tasks.table.size() // MOST + 1
        for site in tasks.table.sites(step):
            for _ in range(step):
                yield TASK, *site

    def _records(self) -> Iterable[tuple[str, CodeType | None, int, float]]:
        workers = {id(thread) for thread in interpreter.worker_threads()}
        for record in self.registry:
            if record.code is not None and _is_alive(record) and id(record.resource()) not in workers:
                yield record.kind, record.code, record.lasti, record.created


def _is_alive(record: Record) -> bool:
    """Say whether a resource is there; without asking a process for its status, which is the program's to collect."""
    if record.state != LIVE:
        return False
    if record.kind == SUBPROCESS:
        return is_running(record.detail["pid"], record.detail["start"]) if "start" in record.detail else False
    resource = record.resource()
    if resource is None:
        return False
    if record.kind == PROCESS:
        return not record.detail.get("pool") and _runs(resource)
    return record.kind != THREAD or bool(resource.is_alive())


def _runs(process: Any) -> bool:  # noqa: ANN401 - of multiprocessing
    try:
        seen = look(process.pid)
    except ValueError:  # the object was closed
        return False
    return seen is not None and seen.runs
