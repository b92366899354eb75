"""What is open in this process, leak or not, place by place, and how it has grown: for ``leakagent top`` and ``leakagent dump``.

A place is the line that made the resources.  For each: how many there are, the oldest one's age, its creation stack (at level ``stack``), and
where it is now: the await chain of a task, the frame of a thread.
"""

from __future__ import annotations

import time

from .core.records import TASK, THREAD
from .core.sites import line_of, resolve, shown_path, starts_the_program
from .shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType
    from typing import Any

    from .agent import Agent

#: Places that are told of each kind, the most crowded ones.
_PLACES = 20

#: Names that are told of each place.
_NAMES = 5

#: Frames that are told.
_FRAMES = 8


class _Place:
    """One line, and what it has made."""

    def __init__(self, kind: str, code: CodeType | None, lasti: int) -> None:
        self.kind = kind
        self.code = code
        self.lasti = lasti
        self.count = 0
        self.names: list[str] = []
        self.oldest: float | None = None
        self.now: Any = None
        self.stack: list[tuple[CodeType, int]] = []

    def add(self, name: str, created: float, resource: Any, stack: list[tuple[CodeType, int]] | None) -> None:  # noqa: ANN401
        self.count += 1
        if name and len(self.names) < _NAMES:
            self.names.append(name)
        if self.oldest is None or created < self.oldest:
            self.oldest, self.now, self.stack = created, resource, stack or []


def inventory(agent: Agent) -> list[dict[str, Any]]:
    """Return the places of all kinds, those with the most resources first.

    Returns:
        For each: ``kind``, ``count``, ``owner``, ``site``, ``source``, ``names``, ``oldest_age_s``, ``stack`` (its creation, innermost first) and
        ``now`` (where the oldest one is, innermost first), both as ``file:line function``.

    """
    places: dict[tuple[str, int, int], _Place] = {}
    for kind, code, lasti, rest in _resources(agent):
        key = kind, id(code), lasti
        if key not in places:
            places[key] = _Place(kind, code, lasti)
        places[key].add(*rest)
    found: list[dict[str, Any]] = []
    of_kind: dict[str, int] = {}
    for place in sorted(places.values(), key=lambda place: -place.count):
        of_kind[place.kind] = of_kind.get(place.kind, 0) + 1
        if of_kind[place.kind] <= _PLACES:
            found.append(_told(agent, place))
    return found


def growth(agent: Agent) -> list[dict[str, Any]]:
    """Return how the live count of each place has changed, the fastest growing first; nothing for places that made only a few.

    Returns:
        For each: ``kind``, ``owner``, ``site`` (as of a finding), ``live`` (at the last look), ``was`` (at the first one), ``seconds`` (between them),
        ``per_minute`` (`leakagent.detect.growth.speed`), and ``growing``: whether it is told as a leak.

    """
    from .detect.growth import speed
    from .report.fingerprint import SOURCE_LIMIT, source_line
    from .report.words import well_formed

    found = []
    for record, samples, growing in [] if agent.growing is None else agent.growing.courses():
        site = resolve(record.code, record.lasti, base=agent.base)
        (begin, was), (end, live) = samples[0], samples[-1]
        found.append(
            {
                "kind": record.kind,
                "owner": site.owner,
                "site": {
                    "function": well_formed(site.function),
                    "file": well_formed(site.file),
                    "line": max(site.line, 0),
                    "source": well_formed(source_line(site), SOURCE_LIMIT),
                },
                "live": live,
                "was": was,
                "seconds": round(end - begin, 3),
                "per_minute": round(60 * speed(samples), 3),
                "growing": growing,
            }
        )
    return sorted(found, key=lambda one: (not one["growing"], -one["per_minute"]))


def _resources(agent: Agent) -> Iterator[tuple[str, CodeType | None, int, tuple[Any, ...]]]:
    for record in agent.registry:
        yield record.kind, record.code, record.lasti, (record.name, record.created, record.resource(), record.stack)
    tasks = agent.parts.get("asyncio")
    for entry in tasks.entries() if tasks is not None else ():
        task = entry.ref()
        if task is not None and not task.done():
            code, lasti = (None, 0) if agent.registry.level == "count" else entry.site
            yield TASK, code, lasti, (task.get_name(), entry.created, task, entry.stack)


def _told(agent: Agent, place: _Place) -> dict[str, Any]:
    from .report.fingerprint import source_line

    site = resolve(place.code, place.lasti, base=agent.base)
    return {
        "kind": place.kind,
        "count": place.count,
        "owner": site.owner,
        "site": {"function": site.function, "file": site.file, "line": site.line},
        "source": source_line(site),
        "names": place.names,
        "oldest_age_s": round(max(0.0, time.monotonic() - (place.oldest or 0.0)), 3),
        "stack": [
            f"{shown_path(code.co_filename, agent.base)}:{line_of(code, lasti)} {code.co_name}"
            for code, lasti in place.stack[:_FRAMES]
            if not starts_the_program(code.co_filename)
        ],
        "now": _now(agent, place)[:_FRAMES],
    }


def _now(agent: Agent, place: _Place) -> list[str]:
    if place.kind == TASK:
        from .instrumentation.task_notes import awaiting

        return [f"{shown_path(path, agent.base)}:{line} {name}" for path, line, name in reversed(awaiting(place.now)) if path]
    found: list[str] = []
    frame = interpreter.thread_frame(place.now) if place.kind == THREAD and place.now is not None else None
    while frame is not None:
        found.append(f"{shown_path(frame.f_code.co_filename, agent.base)}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return found
