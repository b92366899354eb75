"""Who a process is: its pid with its start time, which tells a reused pid from the real one (proc(5), field 22 of ``stat``)."""

from __future__ import annotations

import os

#: States of a process that has ended: a zombie, and one that is being taken away.
_ENDED = ("Z", "X")


class Seen:
    """What the kernel says of a process that exists.

    Attributes:
        state: Its state's letter, ``Z`` for a zombie.
        parent: Pid of its parent.
        session: Pid of its session's leader.
        start: When it started, in clock ticks since boot.

    """

    __slots__ = ("parent", "session", "start", "state")

    def __init__(self, text: bytes) -> None:
        """Read the text of ``/proc/PID/stat``."""
        fields = text.rpartition(b")")[2].split()
        self.state = fields[0].decode()
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.start = fields[19].decode()

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.state not in _ENDED


def look(pid: int) -> Seen | None:
    """Return what the kernel says of a process, None if it can't be seen.

    Linux only: elsewhere nothing is seen, and so nothing is ever proven.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return Seen(file.read())
    except (OSError, IndexError, ValueError):
        return None


def is_running(pid: int, start: str) -> bool:
    """Say whether the process of that pid and start time is seen to run."""
    seen = look(pid)
    return seen is not None and seen.start == start and seen.runs


def is_gone(pid: int, start: str) -> bool:
    """Say whether it is proven that the process of that pid and start time has ended; what can't be seen is not proven."""
    seen = look(pid)
    if seen is not None:
        return seen.start != start or not seen.runs
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no process has such a number
        return True
    except OSError:
        return False
    return False


def user_of(pid: int) -> int:
    """Return the real user of a process, -1 if it can't be seen (the owner of ``/proc/PID`` can be root for other people's processes)."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"Uid:")), -1)
    except (OSError, ValueError, IndexError):
        return -1


def words_of(pid: int) -> list[str]:
    """Return the command line of a process, empty if it can't be seen."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return [word.decode(errors="replace") for word in file.read().split(b"\0")[:-1]]
    except OSError:
        return []


def place() -> str:
    """Return where pids of this process mean something, boot and pid namespace; empty if that can't be known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read(8)}-{os.stat('/proc/self/ns/pid').st_ino}"
    except (OSError, ValueError):
        return ""
