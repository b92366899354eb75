"""The agent's plain counters -> the points of every metric.

Nothing here touches an instrument or a lock: the numbers are read from the registry when somebody collects, in a thread of the
agent's own.  The program's hot paths, finalizers and signal handlers know nothing of it (a synchronous instrument that is used in a
finalizer waits for itself for ever).

Sites have a bound of their own, not the SDK's, which lets the first ones in and hides a later, bigger one: the `names.SITES`
biggest are named, the rest is one point.  A site that is named counts twice in that comparison, so that equals don't take turns;
and a site of a counter is named for good, because its series would go backwards.
"""

from __future__ import annotations

import os
import time

from leakagent import guard
from leakagent.core.records import DROPPED, KINDS, TASK, THREAD
from leakagent.core.sites import UNKNOWN, resolve
from leakagent.processes.memory import resident_bytes

from . import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType
    from typing import Any

    from leakagent.core.findings import Finding, Report
    from leakagent.core.registry import Registry
    from leakagent.core.sites import Site

    #: Values of the attributes of a metric in the order of `names.METRICS`, empty for one that is absent, and the number.
    Point = tuple[tuple[str, ...], float]


def qualified(site: Site) -> str:
    """Return the function with its module, worked out from the file: ``rag.chat.stream_answer`` (conventions: fully qualified)."""
    path = site.file.removesuffix("/__init__.py").removesuffix(".py")
    if not site.file.endswith(".py"):
        return site.function
    # Outside of the working folder the path names the machine's folders, or its user.
    module = os.path.basename(path) if path.startswith(("/", ".")) or ":" in path else path.replace("/", ".")
    return f"{module}.{site.function}"


class Sites:
    """Chooses which functions are named."""

    def __init__(self, *, for_good: bool) -> None:
        """Start with none; ``for_good`` for counters."""
        self._for_good = for_good
        self._named: set[str] = set()

    def choose(self, counts: dict[str, int]) -> set[str]:
        """Return the functions to name.

        Args:
            counts: Function -> how many.

        """
        ranked = sorted(counts, key=lambda name: (-counts[name] * (2 if name in self._named else 1), name))
        if self._for_good:
            self._named |= set(ranked[: max(0, names.SITES - len(self._named))])
        else:
            self._named = set(ranked[: names.SITES])
        return self._named


class Numbers:
    """Reads the state of the agent of this process."""

    def __init__(
        self,
        registry: Registry,
        parts: dict[str, Any],
        findings: Callable[[], list[Finding]],
        *,
        base: str = "",
        memory: bool = False,
    ) -> None:
        """Read from these.

        Args:
            registry: The records and counts.
            parts: The agent's parts, of which tasks keep notes of their own.
            findings: Returns what was found so far.
            base: Folder that the program's own paths are relative to.
            memory: Whether the memory of the process is wanted.

        """
        self.base = base
        self.memory = memory
        self.registry = registry
        self.parts = parts
        self.findings = findings
        self.active = True
        #: At the end: the report, and all findings of this process.
        self.ended: Report | None = None
        self.final: list[Finding] | None = None
        self._live: dict[tuple[str, str, CodeType | None], int] = {}
        self._oldest: dict[str, float] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        self._found: dict[tuple[str, str, str], int] = {}
        self._live_sites = Sites(for_good=False)
        self._found_sites = Sites(for_good=True)

    def forget(self) -> None:
        """Start at zero in a forked child."""
        self.__init__(self.registry, self.parts, self.findings, base=self.base, memory=self.memory)  # type: ignore[misc]

    def collect(self) -> None:
        """Read everything, before the points are asked for."""
        self._live, self._oldest = {}, {}
        for kind, code, created, state in [*self._records(), *self._tasks()]:
            key = kind, state, code
            self._live[key] = self._live.get(key, 0) + 1
            self._oldest[kind] = min(created, self._oldest.get(kind, created))
        self._count()
        found: dict[tuple[str, str, str], int] = {}
        for one in self.findings() if self.final is None else self.final:
            place = one.reason, one.kind, qualified(one.site)
            found[place] = found.get(place, 0) + one.count
        # What was found stays found.
        for place, number in found.items():
            self._found[place] = max(number, self._found.get(place, 0))

    def _records(self) -> Iterable[tuple[str, Any, float, str]]:
        for record in self.registry:
            if record.kind == THREAD and not _runs(record.resource()):
                continue
            yield record.kind, record.code, record.created, names.DROPPED if record.state == DROPPED else names.LIVE

    def _tasks(self) -> Iterable[tuple[str, Any, float, str]]:
        tasks = self.parts.get("asyncio")
        for code, _lasti, created in [] if tasks is None else tasks.table.sites():
            yield TASK, code, created, names.LIVE

    def _count(self) -> None:
        live = dict.fromkeys(KINDS, 0)
        for (kind, _state, _code), number in self._live.items():
            live[kind] = live.get(kind, 0) + number
        for kind, counts in list(self.registry.counts.items()):
            created = counts.created
            tasks = self.parts.get("asyncio") if kind == TASK else None
            if tasks is not None:
                created = counts.finished + tasks.table.size()
            known = self._counts.get(kind, (0, 0))
            created = max(created, known[0])
            self._counts[kind] = created, max(created - live.get(kind, 0), known[1])

    # -- points ------------------------------------------------------------------------------------------------------

    def wanted(self) -> list[str]:
        """Return the names of the metrics that are sent."""
        return [name for name in names.METRICS if self.memory or name not in names.ON_REQUEST]

    def points(self, name: str) -> list[Point]:
        """Return the points of one metric of `names.METRICS`."""
        return _READERS[name](self)

    def resource_count(self) -> list[Point]:
        """Return how many there are."""
        functions = {code: self._function(code) for _kind, _state, code in self._live}
        sizes: dict[str, int] = {}
        for (_kind, _state, code), number in self._live.items():
            sizes[functions[code]] = sizes.get(functions[code], 0) + number
        named = self._live_sites.choose(sizes)
        points: dict[tuple[str, ...], int] = {}
        for (kind, state, code), number in self._live.items():
            function = functions[code] if functions[code] in named else names.OTHER
            points[kind, state, function] = points.get((kind, state, function), 0) + number
        return list(points.items())

    def resource_created(self) -> list[Point]:
        """Return how many were created."""
        return [((kind,), created) for kind, (created, _) in self._counts.items()]

    def resource_finished(self) -> list[Point]:
        """Return how many have ended."""
        return [((kind,), finished) for kind, (_, finished) in self._counts.items()]

    def resource_age(self) -> list[Point]:
        """Return the age of the oldest."""
        now = time.monotonic()
        return [((kind,), max(0.0, now - created)) for kind, created in self._oldest.items()]

    def found(self) -> list[Point]:
        """Return how many leaks were found."""
        sizes: dict[str, int] = {}
        for (_reason, _kind, function), number in self._found.items():
            sizes[function] = sizes.get(function, 0) + number
        named = self._found_sites.choose(sizes)
        points: dict[tuple[str, ...], int] = {}
        for (reason, kind, function), number in self._found.items():
            place = reason, kind, function if function in named else names.OTHER
            points[place] = points.get(place, 0) + number
        return list(points.items())

    def stage_resources(self) -> list[Point]:
        """Return what the stages did."""
        points: dict[tuple[str, ...], int] = {}
        for one in self._receipt():
            for outcome, error, number in (
                (names.ENDED, "", max(0, one.asked - one.forced)),
                (names.FORCED, names.TIMEOUT, one.forced),
            ):
                place = one.stage, outcome, error
                points[place] = points.get(place, 0) + number
        return list(points.items())

    def _receipt(self) -> list[Any]:
        return [] if self.ended is None else self.ended.receipt

    def agent_time(self) -> list[Point]:
        """Return the agent's own time."""
        return [] if self.ended is None else [((), float(self.ended.agent["seconds"]))]

    def agent_memory(self) -> list[Point]:
        """Return the memory of the agent's notes."""
        return [((), self.registry.memory())]

    def agent_disabled(self) -> list[Point]:
        """Return the parts that are off."""
        return [((part,), 1) for part in list(guard.disabled)]

    def process_memory(self) -> list[Point]:
        """Return the memory of the process."""
        taken = resident_bytes()
        return [] if taken is None else [((), taken)]

    def _function(self, code: CodeType | None) -> str:
        return UNKNOWN.function if code is None else qualified(resolve(code, 0, base=self.base))


_READERS: dict[str, Callable[[Numbers], list[Point]]] = {
    names.RESOURCE_COUNT: Numbers.resource_count,
    names.RESOURCE_CREATED: Numbers.resource_created,
    names.RESOURCE_FINISHED: Numbers.resource_finished,
    names.RESOURCE_AGE: Numbers.resource_age,
    names.FINDINGS: Numbers.found,
    names.STAGE_RESOURCES: Numbers.stage_resources,
    names.AGENT_TIME: Numbers.agent_time,
    names.AGENT_MEMORY: Numbers.agent_memory,
    names.AGENT_DISABLED: Numbers.agent_disabled,
    names.PROCESS_MEMORY: Numbers.process_memory,
}


def _runs(thread: Any) -> bool:  # noqa: ANN401 - a thread or None
    return thread is not None and thread.is_alive()
