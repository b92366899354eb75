"""Finds what dead programs have left behind, and ends what is proven to be theirs.

The problem.  Ending the wrong process is worse than leaving a thousand.  A pid is given again, a file can be old or forged, a command
line looks like another one, and between looking and signalling a process can end and its pid be somebody else's.

What does not work.  Killing by command line, by parent 1, by a pid file.

What we do.  An orphan is proven when all of this holds: a file of the user's own ledger (`leakagent.processes.ledger`) names its pid
and start time; the starter that the file is named after is gone; the process runs, belongs to the user, and is younger than its starter;
and it carries the starter's mark itself: the variable that the agent sets for its children, or, forked without a new program, the starter's
command line.  One that has left the session of its starter has done so on purpose, and is left alone.  All of this is looked at again
after a pidfd was opened, which can't be another process's any more, and the signals go through it: SIGTERM, a wait, SIGKILL.
Helpers of `multiprocessing` are the last, and end by themselves as a rule: the resource tracker removes the semaphores first.

What programs without the agent have left is recognised by its looks only, shown as not proven, and ended only if its pid is named.

What is still open.  Works on Linux only, where start times and pidfds are.  A forked child that has changed its command line
(``setproctitle``) is shown as not proven.
"""

from __future__ import annotations

import os
import select
import signal
import time

from leakagent import config

from . import ledger
from .identity import is_running, look, user_of, words_of
from .memory import private_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from .ledger import Page

#: Seconds between SIGTERM and SIGKILL.
TERM_SECONDS = 2.0

#: Seconds that a killed process gets to be gone, and helpers to end by themselves.
_GONE_SECONDS = 5.0

#: Orphans can be starters themselves: their children are orphans in the next round.
_ROUNDS = 10

#: What the command lines of `multiprocessing` and loky look like.
_LOOKS = (
    "--multiprocessing-fork",
    "from multiprocessing.spawn import",
    "from multiprocessing.forkserver import",
    "from multiprocessing.resource_tracker import",
    "joblib.externals.loky.backend",
    "loky.backend.popen_loky_posix",
)


class Orphan:
    """A process that its starter has left behind.

    Attributes:
        pid, start: Which process it is.
        kind: A kind of `leakagent.core.records`, or ``helper``.
        name: What people call it.
        site: The line of code that started it.
        age: Seconds since then.
        starter: Pid of its starter.
        command: Command line of its starter; its own if it is not proven.
        proven: Whether it may be ended.
        why: Why it is not proven.
        memory: Bytes that the system gets back when it ends (USS), None if that can't be known.
        action: What was done: ``terminated``, ``killed``, ``gone`` (it had ended by then), ``refused``, ``none``.

    """

    def __init__(self, pid: int, start: str, **facts: Any) -> None:  # noqa: ANN401 - the attributes
        """Note what is known."""
        self.pid, self.start = pid, start
        self.kind: str = facts.get("kind", "")
        self.name: str = facts.get("name", "")
        self.site: str = facts.get("site", "")
        self.age: float = facts.get("age", 0.0)
        self.starter: int = facts.get("starter", 0)
        self.command: str = facts.get("command", "")
        self.proven: bool = not facts.get("why", "")
        self.why: str = facts.get("why", "")
        self.path: str = facts.get("path", "")
        self.memory: int | None = None
        self.action = "none"

    def as_dict(self) -> dict[str, Any]:
        """Return it for the JSON output."""
        return {
            "pid": self.pid,
            "kind": self.kind,
            "name": self.name,
            "site": self.site,
            "age_s": round(self.age, 1),
            "starter": self.starter,
            "command": self.command,
            "proven": self.proven,
            "why": self.why,
            "uss_bytes": self.memory,
            "action": self.action,
        }


def find(older_than: float = 0.0) -> list[Orphan]:
    """Return what dead programs have left behind, proven ones first, each group by age.

    Args:
        older_than: Seconds that a process must have run.

    """
    known: dict[int, Orphan] = {}
    for page in ledger.pages():
        if page.starter_is_gone:
            for entry in page.entries:
                orphan = _orphan(page, entry)
                if orphan is not None:
                    known[orphan.pid] = orphan
    for orphan in _by_looks():
        known.setdefault(orphan.pid, orphan)
    found = [orphan for orphan in known.values() if orphan.age >= older_than]
    return sorted(found, key=lambda orphan: (not orphan.proven, -orphan.age))


def _orphan(page: Page, entry: dict[str, Any]) -> Orphan | None:
    if not is_running(entry["pid"], entry["start"]):
        return None
    facts = {key: entry[key] for key in ("kind", "name", "site")}
    facts |= {"starter": page.head["pid"], "command": " ".join(map(str, page.head["command"])), "path": page.path}
    return Orphan(entry["pid"], entry["start"], age=_age(entry["start"]), why=_doubt(page, entry), **facts)


def _doubt(page: Page, entry: dict[str, Any]) -> str:
    """Return why a running process that the ledger names is not proven to be the dead starter's; empty if it is."""
    pid, seen = entry["pid"], look(entry["pid"])
    if seen is None or seen.start != entry["start"] or not seen.start.isdecimal() or not page.head["start"].isdecimal():
        return "it is another process"
    if user_of(pid) != os.getuid():
        return "it belongs to another user"
    if int(seen.start) < int(page.head["start"]):
        return "it is older than its starter"
    if seen.session != page.head["session"]:
        return "it has left the session of its starter"
    marker = page.head["root"]
    marked = bool(marker) and _marker_of(pid) == marker
    if not marked and words_of(pid) != page.head["command"]:
        return "nothing in it names its starter"
    return ""


def _marker_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return ""
    name = config.ROOT_VARIABLE.encode() + b"="
    return next((word[len(name) :].decode(errors="replace") for word in words if word.startswith(name)), "")


def _age(start: str) -> float:
    try:
        with open("/proc/uptime", encoding="ascii") as file:
            return max(0.0, float(file.read().split()[0]) - int(start) / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError):
        return 0.0


def _by_looks() -> list[Orphan]:
    """Return processes that look like children of `multiprocessing`, and whose parent is the first process."""
    first = os.path.basename((words_of(1) or [""])[0])
    if first.startswith("python"):
        return []  # a container whose program is the first process: these are its children
    served = {entry["pid"] for page in ledger.pages() for entry in page.entries}
    own, found = os.getuid(), []
    for name in os.listdir("/proc"):
        pid = int(name) if name.isdecimal() else 0
        text = " ".join(words_of(pid)) if pid > 1 and pid not in served else ""
        if not any(look_ in text for look_ in _LOOKS) or user_of(pid) != own:
            continue
        seen = look(pid)
        if seen is not None and seen.runs and seen.parent == 1:
            why = "the program ran without leakagent"
            found.append(Orphan(pid, seen.start, kind="process", command=text, age=_age(seen.start), why=why))
    return found


def measure(orphans: list[Orphan]) -> None:
    """Find out how much memory the system gets back from each: what it shares with nobody (USS), never the resident size."""
    for orphan in orphans:
        memory = private_bytes(orphan.pid)
        if is_running(orphan.pid, orphan.start):
            orphan.memory = memory


def clean(older_than: float = 0.0, named: Collection[int] = (), seconds: float = TERM_SECONDS) -> list[Orphan]:
    """End the proven orphans, and those that are named although they are not proven.

    Args:
        older_than: Seconds that a process must have run.
        named: If there are any, only these pids are ended.
        seconds: Between SIGTERM and SIGKILL.

    Returns:
        All that was found, each with what was done about it.

    """
    all_found: dict[int, Orphan] = {}
    for _ in range(_ROUNDS):
        found = [orphan for orphan in find(older_than) if orphan.pid not in all_found]
        if not found:
            break
        measure(found)
        all_found.update({orphan.pid: orphan for orphan in found})
        wanted = [orphan for orphan in found if (orphan.pid in named if named else orphan.proven)]
        _end([orphan for orphan in wanted if orphan.kind != ledger.HELPER], seconds)
        helpers = [orphan for orphan in wanted if orphan.kind == ledger.HELPER]
        _wait(lambda helpers=helpers: not any(is_running(one.pid, one.start) for one in helpers), _GONE_SECONDS)  # type: ignore[misc]
        _end(helpers, seconds)
    ledger.sweep()
    return list(all_found.values())


def _end(orphans: list[Orphan], seconds: float) -> None:
    """Ask, wait, kill; each through a descriptor that can't be another process's."""
    opened: dict[int, Orphan] = {}
    try:
        for orphan in orphans:
            descriptor = _open(orphan)
            if descriptor is not None:
                opened[descriptor] = orphan
        for action, number, wait in (("terminated", signal.SIGTERM, seconds), ("killed", signal.SIGKILL, _GONE_SECONDS)):
            asked = [descriptor for descriptor, orphan in opened.items() if orphan.action == "none" and _send(descriptor, number)]
            for descriptor in _ended(asked, wait):
                opened[descriptor].action = action
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _open(orphan: Orphan) -> int | None:
    """Return a pidfd of an orphan that is still what it was taken for."""
    try:
        descriptor = os.pidfd_open(orphan.pid)
    except ProcessLookupError:
        orphan.action = "gone"
        return None
    except (OSError, AttributeError):
        orphan.action = "refused"
        return None
    if _is_still(orphan):
        return descriptor
    os.close(descriptor)
    orphan.action = "refused" if is_running(orphan.pid, orphan.start) else "gone"
    return None


def _is_still(orphan: Orphan) -> bool:
    if not is_running(orphan.pid, orphan.start) or user_of(orphan.pid) != os.getuid():
        return False
    if not orphan.path:
        return not orphan.proven  # it was named
    page = ledger.read(orphan.path)
    entries = [] if page is None else [one for one in page.entries if (one["pid"], one["start"]) == (orphan.pid, orphan.start)]
    if page is None or not entries or not page.starter_is_gone:
        return False
    return not orphan.proven or _doubt(page, entries[0]) == ""


def _send(descriptor: int, number: int) -> bool:
    try:
        signal.pidfd_send_signal(descriptor, number)
    except OSError:  # it has ended, or may not be signalled
        return False
    return True


def _ended(descriptors: list[int], seconds: float) -> list[int]:
    """Return those of the pidfds whose process ends within some seconds."""
    waiting = select.poll()
    for descriptor in descriptors:
        waiting.register(descriptor, select.POLLIN)
    left, ended = set(descriptors), []
    end = time.monotonic() + seconds
    while left and time.monotonic() < end:
        for descriptor, _ in waiting.poll(100):
            waiting.unregister(descriptor)
            left.discard(descriptor)
            ended.append(descriptor)
    return ended


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
