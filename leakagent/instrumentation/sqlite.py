"""Connections of ``sqlite3``.

The problem.  ``sqlite3.Connection`` is written in C and immutable, and nothing can refer to it weakly: its methods can't be patched, and nobody
says when one is dropped.  An audit hook sees each connection, but can't be removed and slows down all the other events.

What we do.  ``sqlite3.connect`` is replaced by a function that notes the line; the connection is only known by its number (``id``).  At the
end, once, the collector is asked which connections there are (`gc.get_objects`), if the program's own code made any; those
that have a note are looked at.  A number can belong to a younger connection by then: it has the line of that one, since each call notes it anew.

What is told.  An open connection with an *uncommitted transaction*: what it has written is lost.  It is left as it is, since
only the program knows whether to commit.  Ten or more open ones of one place.  One connection for the whole program is left alone.  A dropped one is in a
cycle with its cache of statements (3.11 to 3.15): it stays open, with its file and its locks, until the collector comes, and counts as
open until then.  With ``autocommit=False`` (3.12) a transaction is always open, and says nothing.

What is still open.  A name that was imported before `leakagent.install` (``from sqlite3 import connect``) and ``sqlite3.Connection(...)`` itself are not seen.
A warning that ``connect`` gives about its arguments names the agent's line.
"""

from __future__ import annotations

import time

from leakagent import guard
from leakagent.core.records import SQLITE_CONNECTION, Record
from leakagent.core.sites import capture_stack
from leakagent.shutdown import interpreter

from .closables import MANY, creator
from .patching import hide_frames
from .protocol import Instrumentation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType, ModuleType
    from typing import Any, ClassVar

    from leakagent.config import Settings
    from leakagent.core.registry import Registry

    from .patching import Patches

#: So many connections are remembered at most, the youngest.
KNOWN = 1000


class SqliteConnections(Instrumentation):
    """Sees what ``sqlite3.connect`` returns."""

    kinds: ClassVar[Mapping[str, str]] = {
        SQLITE_CONNECTION: "connection.close() in a finally block, or `with contextlib.closing(sqlite3.connect(...)) as connection:`"
    }

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Start without connections."""
        super().__init__(registry, settings)
        #: ``id`` of a connection -> its record, which does not refer to it.
        self._made: dict[int, Record] = {}
        self._module: Any = None

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch ``sqlite3``."""
        self._module = module
        for place in (module, module.dbapi2):
            patches.replace(place, "connect", self._make_connect)

    def _make_connect(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def connect(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            try:
                connection = original(*args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            if self.part not in guard.disabled:
                guard.call(self.part, self._note, connection, args, interpreter.caller(1))
            return connection

        return connect

    def _note(self, connection: object, args: tuple[Any, ...], frame: FrameType | None) -> None:
        outside = creator(frame, connection)
        self._made.pop(id(connection), None)
        if outside is None:
            return
        if len(self._made) >= KNOWN:
            self._made.pop(next(iter(self._made)))
        code, lasti = (None, 0) if self.registry.level == "count" else (outside.f_code, outside.f_lasti)
        stack = capture_stack(outside) if self.registry.level == "stack" else None
        name = args[0] if args and isinstance(args[0], str) else ""
        # Not one of the registry's: nobody would say when it is over.
        record = Record(0, SQLITE_CONNECTION, code, lasti, time.monotonic(), self.registry.pid, name=name, stack=stack)
        record.detail["place"] = outside.f_code, outside.f_lasti
        self._made[id(connection)] = record

    def is_used(self) -> bool:
        """Say whether the program's own code has made a connection."""
        return bool(self._made)

    def left_over(self) -> list[Record]:
        """Return the records of what is told; nothing while the program runs, since looking for connections takes time."""
        if not self._made or not self.ends:
            return []
        import gc

        told: list[Record] = []
        places: dict[object, list[Record]] = {}
        for connection in gc.get_objects():
            record = self._made.get(id(connection))
            # Not `isinstance`, which asks ``__class__``: proxies load what they stand for.
            if record is None or not issubclass(type(connection), self._module.Connection) or not self._is_open(connection):
                continue
            if connection.in_transaction and getattr(connection, "autocommit", True) is not False:
                record.detail["evidence"] = ["its transaction was not committed: what it has written is lost"]
                record.detail["fix"] = "connection.commit() and connection.close() in a finally block"
                told.append(record)
            else:
                places.setdefault(record.detail["place"], []).append(record)
        return told + [record for records in places.values() if len(records) >= MANY for record in records]

    def _is_open(self, connection: Any) -> bool:  # noqa: ANN401
        try:
            return bool(connection.total_changes >= 0)
        except self._module.ProgrammingError:  # it is closed
            return False

    def evidence(self, record: Record) -> list[str]:
        """Return what was open in it."""
        return list(record.detail.get("evidence", ()))

    def close(self, record: Record) -> bool:  # noqa: ARG002 - see the module
        """Close nothing: a connection belongs to its thread, and only the program knows whether to commit."""
        return False

    def forked(self) -> None:
        """Forget the parent's."""
        self._made.clear()
