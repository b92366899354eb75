"""Every record of this process, and the counts per kind.

No lock: one dictionary and plain integers under the interpreter lock.  It is written from patched constructors, weak
reference callbacks and finalizers, where a lock could be met by the thread that already holds it.
"""

from __future__ import annotations

import _thread
import itertools
import os
import sys
import time

from .records import DROPPED, FINISHED, LIVE, Record
from .sites import BEFORE_THE_CODE, capture_stack, creating_frame
from .tracing import span_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType
    from typing import Any

#: What the agent's own threads call.
_OWN_PACKAGES = frozenset({"opentelemetry", "grpc"})


class Counts:
    """Created, finished and peak of one kind."""

    __slots__ = ("created", "finished", "peak")

    def __init__(self) -> None:
        """Start at zero."""
        self.created = 0
        self.finished = 0
        self.peak = 0

    def add(self, created: int, finished: int) -> None:
        """Count creations and ends."""
        self.created += created
        self.finished += finished
        self.peak = max(self.peak, self.created - self.finished)

    def as_totals(self) -> dict[str, int]:
        """Return the JSON report's ``totals`` entry."""
        live = max(0, self.created - self.finished)
        return {"created": self.created, "finished": self.finished, "live": live, "peak": max(self.peak, live)}


class Registry:
    """The records of one process; a forked child starts with an empty one."""

    def __init__(self, level: str = "site") -> None:
        """Start empty; ``level`` is ``count``, ``site`` or ``stack``."""
        self.level = level
        self.pid = os.getpid()
        self.records: dict[int, Record] = {}
        self.counts: dict[str, Counts] = {}
        #: Called with each new record while a `leakagent.scope` is open.
        self.scoped: Callable[[Record], None] | None = None
        #: Called with each new record while somebody wants to know who creates what (`leakagent.owners`).
        self.owned: Callable[[Record], None] | None = None
        #: Identities of the agent's own threads (`is_own`).
        self.own: set[int] = set()
        #: Called after each new record.
        self.on_add: Callable[[], object] | None = None
        #: Called before the counts are read, by those who keep them up to date at intervals only.
        self.settle: Callable[[], object] | None = None
        self._numbers = itertools.count(1)

    def is_own(self, frame: FrameType | None) -> bool:
        """Say whether ``frame`` creates something for the agent: OpenTelemetry's code, in a thread of the agent's own.

        Other code that runs there is the program's: finalizers run in the thread that a collection comes in.
        """
        if not self.own or _thread.get_ident() not in self.own:
            return False
        place = creating_frame(frame)
        return place is not None and str(place.f_globals.get("__name__")).partition(".")[0] in _OWN_PACKAGES

    def count(self, kind: str) -> Counts:
        """Return the counts of a kind."""
        found = self.counts.get(kind)
        if found is None:
            found = self.counts[kind] = Counts()
        return found

    def totals(self) -> dict[str, dict[str, int]]:
        """Return the counts of all kinds, as they are now."""
        if self.settle is not None:
            self.settle()
        return {kind: counts.as_totals() for kind, counts in sorted(self.counts.items())}

    def is_unused(self) -> bool:
        """Say whether nothing was created."""
        if self.settle is not None:
            self.settle()
        return not any(counts.created for counts in self.counts.values())

    def add(  # noqa: PLR0913 - what a note needs
        self,
        kind: str,
        resource: Any,  # noqa: ANN401 - whatever the program created
        frame: FrameType | None,
        *,
        name: str = "",
        weak: bool = True,
        dropped: Callable[[Record], None] | None = None,
        is_work: bool = True,
    ) -> Record:
        """Note that ``resource`` was created.

        Args:
            kind: Its kind.
            resource: The resource.
            frame: The frame that created it; frames that only pass the creation on are walked over.
            name: What people call it.
            weak: Refer to the resource weakly, and note when it is dropped without having been finished.
            is_work: It works in the background, so that the process may have to be asked what it does.
            dropped: Called then with the record, at any allocation of any thread: it must take no lock.

        """
        record = self.note(kind, frame, name=name)
        span = span_now()
        if span is not None:
            record.detail["span"] = span
        return self._keep(record, resource, weak=weak, dropped=dropped, is_work=is_work)

    def note(self, kind: str, frame: FrameType | None, *, name: str = "") -> Record:
        """Return a record of a place, which stands for no resource and is not kept; arguments as of `add`."""
        code, lasti, stack = None, 0, None
        if self.level != "count":
            place = creating_frame(frame)
            if place is not None:
                code, lasti = place.f_code, place.f_lasti
            if self.level == "stack":
                stack = capture_stack(place)
        return Record(next(self._numbers), kind, code, lasti, time.monotonic(), self.pid, name=name, stack=stack)

    def adopt(self, kind: str, resource: Any, code: CodeType | None, *, name: str = "", weak: bool = True) -> Record:  # noqa: ANN401
        """Note a resource that was there before the agent.

        Args:
            kind: Its kind.
            resource: The resource.
            code: What it runs, whose first line stands for the one that made it; None if that is not known.
            name: What people call it.
            weak: As for `add`.

        """
        place = code if self.level != "count" else None
        record = Record(next(self._numbers), kind, place, BEFORE_THE_CODE, time.monotonic(), self.pid, name=name)
        record.detail["adopted"] = True
        return self._keep(record, resource, weak=weak)

    def _keep(
        self,
        record: Record,
        resource: Any,  # noqa: ANN401 - whatever the program created
        *,
        weak: bool,
        dropped: Callable[[Record], None] | None = None,
        is_work: bool = True,
    ) -> Record:
        if weak:
            import weakref  # with all that it brings, 1 ms that a program without any resource does not pay

            record.ref = weakref.ref(resource, _Dropped(record, dropped))
        else:
            record.ref = lambda: resource
        self.records[record.id] = record
        self.count(record.kind).add(1, 0)
        if self.scoped is not None:
            self.scoped(record)
        if self.owned is not None:
            self.owned(record)
        if is_work and self.on_add is not None:
            self.on_add()
        return record

    def finish(self, record: Record) -> None:
        """Note that a resource was ended properly: its record is forgotten."""
        if record.state != FINISHED:
            record.state = FINISHED
            self.count(record.kind).add(0, 1)
        self.records.pop(record.id, None)

    def of_kind(self, *kinds: str) -> list[Record]:
        """Return the records of these kinds, oldest first."""
        return [record for record in list(self.records.values()) if record.kind in kinds]

    def __iter__(self) -> Iterator[Record]:
        """Iterate over a copy, oldest first."""
        return iter(list(self.records.values()))

    def __len__(self) -> int:
        """Return how many resources are noted."""
        return len(self.records)

    def forget(self) -> None:
        """Drop everything: a forked child has no part in its parent's resources."""
        self.records.clear()
        self.counts.clear()
        self.pid = os.getpid()

    def memory(self) -> int:
        """Return about how many bytes the records take."""
        return sum(sys.getsizeof(record) + 200 for record in self)


class _Dropped:
    """Called when a resource is collected: plain attribute writes, since this can run at any allocation."""

    __slots__ = ("record", "then")

    def __init__(self, record: Record, then: Callable[[Record], None] | None) -> None:
        self.record = record
        self.then = then

    # As a default, since the module may be empty by the time of the last call.
    def __call__(self, _reference: object, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if self.record.state == LIVE:
            self.record.state = DROPPED
            if self.then is not None and not is_finalizing():
                self.then(self.record)
