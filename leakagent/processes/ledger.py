"""The ledger: which process has started which, kept where it survives a crash, so that ``leakagent reap`` can prove what it ends.

The problem.  What a killed program leaves behind looks like any other process: a forked child has its starter's command line, a child of
a fork server the server's, and parent 1 is what every daemon has.  A pid alone may be somebody else's by now.

What we do.  A process that starts another writes a line about it, into a file of its own (so that nobody waits for anybody), in the
user's private runtime folder: pid and start time of both, kind, name, the line of code.  One appended write per process started, none
for a program that starts none.  The file is removed at the end of the program; it is left behind by a program that is killed or
crashes, and removed by a later one when none of its processes runs any more.

What a file says is believed only in the boot and the pid namespace it was written in, if it belongs to the user and to nobody else, and is no
link.  Its lines are Python literals: programs that never import `json` do not import it because of us.
"""

from __future__ import annotations

import os
import stat
import time

from leakagent import config
from leakagent.core.sites import UNKNOWN, Site, resolve
from leakagent.shutdown import interpreter

from .family import runtime_folder
from .identity import is_gone, is_running, look, place, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

#: Kind of the helper processes of `multiprocessing`, which end by themselves when those that they serve are gone.
HELPER = "helper"

_PREFIX, _SUFFIX = "ledger-", ".log"
_LARGEST = 4 * 1024 * 1024
_LONGEST_TEXT = 300

#: Lines after which a file is written anew, if more than half of them are about processes that have ended.
_MANY = 64

#: Files of dead programs that one program removes at most.
_MOST_SWEPT = 100

#: Processes that the report tells at most.
MOST_TOLD = 200

_OPEN = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) if hasattr(os, "O_CLOEXEC") else 0


class Ledger:
    """What this process has started."""

    def __init__(self) -> None:
        """Start without a file."""
        #: Pid, kind, name, code and offset of the first processes, for the report; those that have ended as well.
        self.started: list[tuple[int, str, str, CodeType | None, int]] = []
        self._path = ""
        self._lines: dict[int, bytes] = {}
        self._started: dict[int, str] = {}
        self._limit = _MANY
        #: Code and offset that were resolved last, and what they are called.
        self._place: tuple[CodeType | None, int, str] = (None, 0, "")

    def note(self, pid: int, kind: str, name: str, code: CodeType | None, lasti: int) -> None:
        """Note a process that this one has just started.

        Args:
            pid: Its pid.
            kind: A kind of `leakagent.core.records`.
            name: What people call it.
            code: Code that started it, None if it is not known.
            lasti: Instruction in it.

        """
        if len(self.started) < MOST_TOLD:
            self.started.append((pid, kind, name, code, lasti))
        if not self._path:
            self._open()
        if self._path:
            self._append(pid, kind, name, self._site(code, lasti))
            for helper, number in interpreter.multiprocessing_helpers().items():
                if number not in self._started:
                    self._append(number, HELPER, helper, "")
            if len(self._lines) > self._limit:
                self._write_anew()

    def _open(self) -> None:
        folder, here, seen = runtime_folder(create=True), place(), look(os.getpid())
        if not folder or not here or seen is None:
            return
        head = {
            "format": 1,
            "place": here,
            "pid": os.getpid(),
            "start": seen.start,
            "session": seen.session,
            "root": os.environ.get(config.ROOT_VARIABLE, ""),
            "command": [word[:_LONGEST_TEXT] for word in words_of(os.getpid())[:50]],
        }
        self._path = os.path.join(folder, f"{_PREFIX}{os.getpid()}-{seen.start}-{here}{_SUFFIX}")
        self._lines = {0: _line(head)}
        self._write(self._lines[0])

    def _site(self, code: CodeType | None, lasti: int) -> str:
        """Return a line of code as people read it; where the program runs from is not known to those who read it later."""
        if self._place[:2] != (code, lasti):
            site = resolve(code, lasti)
            self._place = code, lasti, f"{site.file}:{site.line} {site.function}" if site.line else ""
        return self._place[2]

    def _append(self, pid: int, kind: str, name: str, site: str) -> None:
        seen = look(pid)
        if seen is None or not seen.runs:
            return
        self._started[pid] = seen.start
        entry = {"pid": pid, "start": seen.start, "kind": kind, "name": name[:_LONGEST_TEXT], "site": site[:_LONGEST_TEXT]}
        self._lines[pid] = _line({**entry, "since": time.time()})
        self._write(self._lines[pid])

    def _write(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _OPEN, 0o600)
        try:
            # Empty at first, and again if somebody has tidied up.
            os.write(descriptor, line if os.fstat(descriptor).st_size else b"".join(self._lines.values()))
        finally:
            os.close(descriptor)

    def _write_anew(self) -> None:
        for pid in [pid for pid, start in self._started.items() if not is_running(pid, start)]:
            del self._started[pid], self._lines[pid]
        self._limit = max(_MANY, 2 * len(self._lines))
        descriptor = os.open(self._path + ".part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _OPEN, 0o600)
        try:
            os.write(descriptor, b"".join(self._lines.values()))
        finally:
            os.close(descriptor)
        os.replace(self._path + ".part", self._path)

    def close(self, *, kinds: tuple[str, ...]) -> None:
        """Remove the file at the end of the process, unless a process of one of these kinds still runs."""
        if self._path and not any(
            entry["kind"] in kinds and is_running(entry["pid"], entry["start"]) for entry in self._entries()
        ):
            path, self._path = self._path, ""
            _remove(path)

    def _entries(self) -> list[dict[str, Any]]:
        found = read(self._path)
        return [] if found is None else found.entries

    def forked(self) -> None:
        """Forget everything in a forked child: the file is its parent's."""
        Ledger.__init__(self)


class Page:
    """One file of the ledger that can be believed.

    Attributes:
        path: Where it is.
        head: The starter: ``pid``, ``start``, ``session``, ``root`` (pid and start time of the program), ``command``.
        entries: The started: ``pid``, ``start``, ``kind``, ``name``, ``site``, ``since`` (seconds since the epoch).

    """

    def __init__(self, path: str, head: dict[str, Any], entries: list[dict[str, Any]]) -> None:
        """Keep what was read."""
        self.path, self.head, self.entries = path, head, entries

    @property
    def starter_is_gone(self) -> bool:
        """Whether it is proven that the starter has ended."""
        return is_gone(self.head["pid"], self.head["start"])


_HEAD = {"format": int, "place": str, "pid": int, "start": str, "session": int, "root": str, "command": list}
_ENTRY = {"pid": int, "start": str, "kind": str, "name": str, "site": str, "since": float}


def read(path: str) -> Page | None:
    """Return what a file says; None if it is not ours, not of this boot and namespace, or not what we write."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _OPEN)
    except (OSError, AttributeError):
        return None
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        private = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
        if not private or found.st_size > _LARGEST:
            return None
        lines = file.read().splitlines()
    head, *entries = [_parsed(line) for line in lines] or [None]
    if head is None or not _is(head, _HEAD) or head["format"] != 1 or head["place"] != place():
        return None
    if os.path.basename(path) != f"{_PREFIX}{head['pid']}-{head['start']}-{head['place']}{_SUFFIX}":
        return None
    # The last line of a program that was killed may be half of one.
    return Page(path, head, [entry for entry in entries if entry is not None and _is(entry, _ENTRY) and entry["pid"] > 1])


def pages() -> list[Page]:
    """Return every file of this user's ledger that can be believed."""
    return [page for path in _paths() if (page := read(path)) is not None]


def site_of(pid: int, base: str) -> Site:
    """Return the line that started a process, as its starter has noted it.

    Args:
        pid: A process that runs.
        base: Folder that the program's own paths are shown relative to.

    Returns:
        The line, `UNKNOWN` where nothing was noted, or what was noted is gone.

    """
    seen = look(pid)
    if seen is None:
        return UNKNOWN
    noted = (entry for page in pages() for entry in page.entries if (entry["pid"], entry["start"]) == (pid, seen.start))
    where, _, function = next(noted, {"site": ""})["site"].rpartition(" ")
    path, _, line = where.rpartition(":")
    return Site(function, path, int(line), base=base) if line.isdecimal() else UNKNOWN


def sweep() -> None:
    """Remove the files of programs that are gone, and so is all that they have started."""
    here = place()
    for path in _paths()[:_MOST_SWEPT]:
        page = read(path)
        if page is None:
            if here and not path.endswith(here + _SUFFIX) and _is_from_before_the_boot(path):
                _remove(path)
        elif page.starter_is_gone and not any(is_running(entry["pid"], entry["start"]) for entry in page.entries):
            _remove(path)


def _paths() -> list[str]:
    folder = runtime_folder(create=False) if hasattr(os, "getuid") else ""
    try:
        names = sorted(os.listdir(folder)) if folder else []
    except OSError:
        return []
    return [os.path.join(folder, name) for name in names if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]


def _is_from_before_the_boot(path: str) -> bool:
    try:
        with open("/proc/uptime", encoding="ascii") as file:
            booted = time.time() - float(file.read().split()[0])
        found = os.lstat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and found.st_mtime < booted - 60


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:  # somebody else was faster: another program, or who tidies up old files
        return


def _line(content: dict[str, Any]) -> bytes:
    return ascii(content).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    import ast

    try:
        found = ast.literal_eval(line.decode("ascii"))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is(content: dict[str, Any], types: dict[str, type]) -> bool:
    return all(type(content.get(key)) is kind for key, kind in types.items())


#: Of this process.
own = Ledger()
