"""Clients, sessions and connections that a program has to close: one base for the libraries whose classes are written in Python.

What is seen.  The constructor and the methods that end an object are replaced on its class.  What a library makes for itself (a client
inside of an SDK that is made in a method of it, a session of a file system) is that library's business and is not noted; what an SDK's
constructor makes belongs to the line that calls the constructor.

What is told, and what is not.  Most of these objects may live as long as the program: a session, a client, an engine at module
level is what the libraries' own documentation asks for, and the operating system closes its sockets.  So three things are told:

- one that was *dropped* open with connections in it: if it is asynchronous from the first one on, since its sockets stay in the event loop; else
  `Closables.DROPPED_TOLD` or more of one place, which pay for a new connection each time.  One whose finalizer closes it is
  not told, nor one without a connection;
- `Closables.MANY` or more of one place that are open at the end: they pile up;
- one that is open at the end where that has a consequence (`Closables.has_consequence`), each library's module says which.

How a dropped one is asked.  A weak reference is dead when its callback runs, but what hangs on the object lives on for that long: a
second weak reference to such a part (`Closables.inner`: a pool, a transport) still answers, and tells of connections.  Where the collector drops
the whole in a cycle, it has cleared all of them by then: nothing is known, and nothing told.  Of dropped ones a place
keeps one record and a count.

At the end what is told is closed, newest first, by the object's own method; asynchronous ones can only be closed in their event loop, which
is gone by then, and are only told.  So is everything while a daemon thread runs the program's code: it would go on for a
moment, and fail.
"""

from __future__ import annotations

import os
import sys
import weakref

from leakagent import guard
from leakagent.core.records import DROPPED, FINISHED
from leakagent.core.sites import YOURS, owner_of
from leakagent.shutdown import interpreter

from .patching import hide_frames
from .protocol import Instrumentation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.records import Record
    from leakagent.core.registry import Registry

    from .patching import Patches

#: So many open ones of one place are no longer shared by anybody.
MANY = 10

#: Flag of code objects of ``async def`` (`inspect.CO_COROUTINE`).
_COROUTINE = 0x80


class Closables(Instrumentation):
    """Sees objects that have to be closed; a subclass calls `watch` for each class when its module arrives.

    Attributes:
        DROPPED_TOLD: So many that were dropped open at one place are told.
        MANY: So many that are open at the end and come from one place are told.

    """

    DROPPED_TOLD = 2
    MANY = MANY

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Start with none seen."""
        super().__init__(registry, settings)
        self._open: dict[int, Record] = {}
        self._dropped: dict[object, Record] = {}

    # -- for subclasses ----------------------------------------------------------------------------------------------

    def watch(self, patches: Patches, owner: type, kind: str, ends: Sequence[str] = ("close",), begins: str = "__init__") -> None:
        """Note what is made of a class, and what is ended.

        Args:
            patches: The agent's.
            owner: The class; subclasses are seen as well.
            kind: One of `kinds`.
            ends: Its methods after which an object needs no closing any more; the first one is called at the end, unless it
                is a coroutine function.
            begins: Its method after which an object has to be closed.

        """
        replace = patches.replace if begins in vars(owner) else patches.override
        package = owner.__module__.partition(".")[0]
        replace(owner, begins, lambda original: self._make_begin(original, kind, ends[0], package))
        for name in ends:
            replace = patches.replace if name in vars(owner) else patches.override
            replace(owner, name, self._make_end)

    def name(self, resource: Any) -> str:  # noqa: ANN401, ARG002
        """Return what people call it: an address, a path; empty for nothing."""
        return ""

    def concerns(self, resource: Any, frame: FrameType | None) -> bool:  # noqa: ANN401, ARG002
        """Say whether this one has to be closed by whoever made it; ``frame`` called the constructor."""
        return True

    def closes_itself(self, resource: Any) -> bool:  # noqa: ANN401
        """Say whether it closes itself when it is dropped."""
        return hasattr(type(resource), "__del__")

    def inner(self, resource: Any) -> Any:  # noqa: ANN401, ARG002
        """Return the part of it that knows its connections and can be referred to weakly, or None: it always has some."""
        return None

    def connections(self, inner: Any) -> int:  # noqa: ANN401, ARG002
        """Return how many connections are open in such a part; called when its object is dropped: no lock, no wait."""
        return 1

    def is_open(self, resource: Any) -> bool:  # noqa: ANN401, ARG002
        """Say whether it is open, for objects that can be closed in other ways than by their methods."""
        return True

    def has_consequence(self, resource: Any, record: Record) -> bool:  # noqa: ANN401, ARG002
        """Say whether leaving this one open until the end has a consequence; may put texts into ``record.detail["evidence"]``."""
        return False

    # -- what the agent asks -----------------------------------------------------------------------------------------

    def is_used(self) -> bool:
        """Say whether one is open, or was dropped open."""
        return bool(self._open or self._dropped)

    def left_over(self) -> list[Record]:
        """Return the records of what is told (see the module)."""
        told: list[Record] = []
        places: dict[object, list[Record]] = {}
        for record in self.registry.of_kind(*self.kinds):
            resource = record.resource()
            if record.state == DROPPED:
                enough = 1 if record.detail["asynchronous"] else self.DROPPED_TOLD
                told += [record] if record.detail.get("count", 1) >= enough else []
            elif resource is None or not self.is_open(resource):
                continue
            elif self.has_consequence(resource, record):
                told.append(record)
            else:
                places.setdefault(record.detail["place"], []).append(record)
        return told + [record for records in places.values() if len(records) >= self.MANY for record in records]

    def is_alive(self, record: Record) -> bool:
        """Say whether it is open and has connections: without any it keeps nothing, as a client that talks to an application in the same process."""
        return super().is_alive(record) and self.is_open(record.resource()) and self._had_connections(record)

    def evidence(self, record: Record) -> list[str]:
        """Return how the agent knows."""
        found = list(record.detail.get("evidence", ()))
        if record.state == DROPPED:
            return [*found, "dropped without " + record.detail["end"] + "()"]
        if record.detail["asynchronous"] and self.ends:
            found.append("nobody can close it any more: that takes its event loop")
        return found

    def close(self, record: Record) -> bool:
        """Close one by its own method; nothing in a forked child, and nothing asynchronous."""
        resource = record.resource()
        if resource is None or record.detail["asynchronous"] or record.pid != os.getpid():
            return False
        if self.ends and _daemons_work():
            record.detail["evidence"] = [*record.detail.get("evidence", ()), "not closed, since a daemon thread may use it"]
            return False
        getattr(resource, record.detail["end"])()
        return True

    def forked(self) -> None:
        """Forget the parent's."""
        self._open.clear()
        self._dropped.clear()

    # -- seeing ------------------------------------------------------------------------------------------------------

    def _make_begin(self, original: Callable[..., Any], kind: str, end: str, package: str) -> Callable[..., Any]:
        def begin(resource: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            try:
                result = original(resource, *args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            if self.part not in guard.disabled:
                guard.call(self.part, self._note, resource, kind, end, package, interpreter.caller(1))
            return result

        return begin

    def _make_end(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def end(resource: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            guard.call(self.part, self._ended, resource)
            try:
                return original(resource, *args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise

        async def end_asynchronously(resource: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            guard.call(self.part, self._ended, resource)
            try:
                return await original(resource, *args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise

        # Who asks whether it is a coroutine function gets the same answer.
        return end_asynchronously if _is_asynchronous(original) else end

    def _note(self, resource: Any, kind: str, end: str, package: str, frame: FrameType | None) -> None:  # noqa: ANN401
        outside = creator(frame, resource, package)
        if outside is None or id(resource) in self._open or not self.concerns(resource, frame):
            return
        record = self.registry.add(kind, resource, outside, name=self.name(resource), dropped=self._was_dropped, is_work=False)
        record.detail["end"] = end
        # The record itself has none at level ``count``.
        record.detail["place"] = kind, outside.f_code, outside.f_lasti
        record.detail["asynchronous"] = _is_asynchronous(getattr(type(resource), end, None))
        record.detail["inner"] = _weak(self.inner(resource))
        record.detail["closes_itself"] = self.closes_itself(resource)
        record.detail["id"] = id(resource)
        self._open[id(resource)] = record

    def _ended(self, resource: object) -> None:
        record = self._open.get(id(resource))
        if record is not None and record.resource() is resource:
            self._finish(record)

    def _finish(self, record: Record) -> None:
        self._open.pop(record.detail["id"], None)
        self.registry.finish(record)

    def _was_dropped(self, record: Record) -> None:
        """Be called by a finalizer (`leakagent.core.registry`)."""
        try:
            self._count_dropped(record)
        except Exception as error:  # noqa: BLE001 - the program must never see it
            guard.failed(self.part, error)

    def _count_dropped(self, record: Record) -> None:
        """Keep one record of each place."""
        self._open.pop(record.detail["id"], None)
        if record.detail["closes_itself"] or not self._had_connections(record):
            self.registry.finish(record)
            return
        first = self._dropped.setdefault(record.detail["place"], record)
        if first is not record and first.state != FINISHED:
            first.detail["count"] = first.detail.get("count", 1) + 1
            self.registry.finish(record)

    def _had_connections(self, record: Record) -> bool:
        reference = record.detail["inner"]
        if reference is None:
            return True
        inner = reference()
        return inner is not None and self.connections(inner) > 0


def _weak(inner: object) -> Callable[[], object] | None:
    if inner is None:
        return None
    try:
        return weakref.ref(inner)
    except TypeError:  # somebody's own, with ``__slots__``: nothing will be known of it
        return lambda: None


def _daemons_work() -> bool:
    """Say whether a thread that Python does not wait for is in the program's own code, which would see what was closed and fail."""
    threading = sys.modules.get("threading")
    for thread in threading.enumerate() if threading is not None else ():
        frame = interpreter.thread_frame(thread) if thread.daemon else None
        while frame is not None:
            if owner_of(frame.f_code.co_filename) == YOURS:
                return True
            frame = frame.f_back
    return False


def _is_asynchronous(function: object) -> bool:
    return bool(getattr(getattr(function, "__code__", None), "co_flags", 0) & _COROUTINE)


def creator(frame: FrameType | None, resource: object, package: str = "") -> FrameType | None:
    """Return the frame of the program's own code that asked for ``resource``, or None where a library did.

    Args:
        frame: The frame that called the constructor.
        resource: What was made; constructors of its subclasses are walked over, and all constructors of installed packages.
        package: The library that it comes from; its functions only pass the call on.

    """
    while frame is not None:
        code = frame.f_code
        inside = str(frame.f_globals.get("__name__")).partition(".")[0] == package
        # What a package has generated (`exec`) has no file, and so seems to be the program's.
        if owner_of(code.co_filename) == YOURS and not inside:
            own = code.co_argcount and frame.f_locals.get(code.co_varnames[0]) is resource
            if code.co_name != "__init__" or not own:
                return frame
        elif not code.co_name.endswith("__init__") and not inside:  # openai's are decorated: ``sync__init__``
            return None
        frame = frame.f_back
    return None
