"""What is told of chromadb's clients while the program runs, because afterwards it is too late.

A program with sixty sessions a day never comes to its end, and runs out of file descriptors on the way.  Told, once per place:

- a client that was dropped open, when nobody uses its System any more: seen by two looks, so that a client that is being handed on is none;
- one directory that several Systems have open, because it was spelled in several ways or opened by several threads at the same moment
  (chromadb does not lock that: most of them fail);
- `MANY` clients of one line that were dropped and are still counted by the System that they share (a rerun of Streamlit makes one each time):
  no ``close()`` can stop it any more;
- `MANY` Systems that ``HttpClient.close()`` of chromadb itself has left, each with a socket.

Dropped clients of one line and one System are one record with a number, so that a server that makes one per request does not fill the
registry.
"""

from __future__ import annotations

from leakagent.core.findings import GROWING, NOT_CLOSED
from leakagent.core.records import CHROMADB_CLIENT, DROPPED, LIVE, Record
from leakagent.detect.stalled import Stall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leakagent.core.registry import Registry

    from .chroma_systems import Held

#: Seconds between two looks.
PAUSE = 1.0

#: As many of one line are no accident.
MANY = 10

DROPPED_OPEN = "dropped without close()"

_SAME_DIRECTORY = "open each directory once, by one absolute path, before threads start, and share the client"


class Looks:
    """Judges what is open while the program runs."""

    def __init__(self, registry: Registry) -> None:
        """Know of nothing."""
        self.registry = registry
        #: Systems whose client was closed, and where it was made: chromadb keeps them (`chroma_systems`).
        self.residue: list[tuple[Held, Record]] = []
        #: By directory: a client that several threads were making at the same moment, and these threads.
        self.raced: dict[str, tuple[Record, set[int]]] = {}
        self._unused: set[int] = set()

    def look(self) -> list[Stall]:
        """Return what there is to tell; what is said of dropped clients, two looks have seen."""
        self.fold()
        by_system = self._by_system()
        return self._unused_systems(by_system) + self.growing(by_system)

    def growing(self, by_system: dict[Held, list[Record]] | None = None) -> list[Stall]:
        """Return what there is too much of, be it in use or not."""
        by_system = self._by_system() if by_system is None else by_system
        # A race is why one directory is open several times: of one place, what comes first is told.
        return self._too_many(by_system) + self._raced() + self.directories(by_system) + self._left_by_close()

    def _by_system(self) -> dict[Held, list[Record]]:
        found: dict[Held, list[Record]] = {}
        for record in clients(self.registry):
            if record.detail["held"].is_running:
                found.setdefault(record.detail["held"], []).append(record)
        return found

    def fold(self) -> None:
        """Make dropped clients of one line and one System one record."""
        first: dict[object, Record] = {}
        for record in clients(self.registry):
            if record.state != DROPPED or "scope" in record.detail:
                continue
            place = record.code, record.lasti, record.detail["held"]
            other = first.setdefault(place, record)
            if other is not record:
                other.detail["count"] = count(other) + count(record)
                self.registry.records.pop(record.id, None)

    def _unused_systems(self, by_system: dict[Held, list[Record]]) -> list[Stall]:
        found: list[Record] = []
        seen = set()
        for held, records in by_system.items():
            if any(record.state == LIVE for record in records) or held.sees_use():
                continue
            seen.add(id(held))
            if id(held) in self._unused:
                found += records
        self._unused = seen
        places: dict[object, list[Record]] = {}
        for record in found:
            places.setdefault((record.code, record.lasti), []).append(record)
        return [_dropped(records, self.evidence(records[0])) for records in places.values()]

    def evidence(self, record: Record) -> list[str]:
        """Say what is known about a client that was not closed."""
        held = record.detail["held"]
        if record.state != DROPPED:
            return []
        if not held.is_running:
            return [DROPPED_OPEN]
        use = "is still in use, by a collection or another client" if held.sees_use() else "runs on, and nobody uses it any more"
        return [DROPPED_OPEN, f"its System {use}", *_counted(record)]

    def _too_many(self, by_system: dict[Held, list[Record]]) -> list[Stall]:
        # Of a System that nobody uses that is told anyway.
        records = [record for held, records in by_system.items() if held.sees_use() for record in records]
        return [Stall(record, GROWING, [], text) for record in records if (text := _counted(record))]

    def directories(self, by_system: dict[Held, list[Record]] | None = None) -> list[Stall]:
        """Return the directories that several Systems have open."""
        by_system = self._by_system() if by_system is None else by_system
        found = []
        folders: dict[str, list[Held]] = {}
        for held in by_system:
            if held.folder:
                folders.setdefault(held.folder, []).append(held)
        for systems in folders.values():
            if len(systems) > 1:
                spellings = ", ".join(repr(name) for name in dict.fromkeys(held.spelling for held in systems))
                text = (
                    f"the directory is open {len(systems)} times, as {spellings}: each has threads, files and caches of its own"
                )
                newest = max((record for held in systems for record in by_system[held]), key=lambda record: record.id)
                found.append(Stall(newest, GROWING, [], [text], fix=_SAME_DIRECTORY))
        return found

    def _raced(self) -> list[Stall]:
        moment = "threads were opening this directory at the same moment: chromadb does not lock that, and most of them fail"
        raced = list(self.raced.values())
        return [Stall(record, GROWING, [], [f"{len(threads)} {moment}"], fix=_SAME_DIRECTORY) for record, threads in raced]

    def _left_by_close(self) -> list[Stall]:
        self.residue = [(held, record) for held, record in self.residue if held.identifiers()]
        places: dict[object, list[Record]] = {}
        for _, record in self.residue:
            places.setdefault((record.code, record.lasti), []).append(record)
        return [
            Stall(
                records[0],
                GROWING,
                [],
                [f"close() was called: chromadb itself has kept a System and a socket of each of {len(records)} clients"],
            )
            for records in places.values()
            if len(records) >= MANY
        ]

    def forget(self) -> None:
        """Drop all that is known: a forked child has no part in it."""
        self.residue.clear()
        self.raced.clear()
        self._unused.clear()


def _dropped(records: list[Record], evidence: list[str]) -> Stall:
    systems = f"{len(records)} Systems of this line by now" if len(records) > 1 else ""
    return Stall(records[0], NOT_CLOSED, [], [*evidence, *([systems] if systems else [])])


def _counted(record: Record) -> list[str]:
    users = record.detail["held"].users()
    if count(record) < MANY or users < MANY:
        return []
    dropped = f"{count(record)} clients of this line were dropped without close()"
    return [f"{dropped}; the System that they share counts {users} users, and no close() can stop it any more"]


def clients(registry: Registry) -> list[Record]:
    """Return the records of clients; one that is just being noted in another thread is none yet."""
    return [record for record in registry.of_kind(CHROMADB_CLIENT) if "held" in record.detail]


def count(record: Record) -> int:
    """Return how many clients a record stands for."""
    number: int = record.detail.get("count", 1)
    return number
