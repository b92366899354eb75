"""What server and client agree on: where a socket is, and how much is said.

One line of JSON goes in, one JSON document comes out, and the connection is closed.  A line is ``{"version": 1, "ask": WORD}``; an
answer has ``"version"`` and either ``"answer"`` or ``"error"``.
"""

from __future__ import annotations

import os

from leakagent.processes.family import runtime_folder
from leakagent.processes.identity import is_gone, place

VERSION = 1

#: Longest question, in bytes.
QUESTION = 1024

#: Longest answer, in bytes.
ANSWER = 16 * 1024 * 1024

_PREFIX, _SUFFIX = "live-", ".sock"

#: Sockets of dead programs that are removed at once.
_MOST_SWEPT = 100


def name_of(pid: int, start: str) -> str:
    """Return the name of a process's socket in the runtime folder; empty where processes can't be told apart."""
    here = place()
    return f"{_PREFIX}{pid}-{start}-{here}{_SUFFIX}" if here else ""


def sockets() -> list[tuple[int, str]]:
    """Return pid and name of every socket of a process that is not proven gone, and remove those of processes that are."""
    folder, here = runtime_folder(create=False), place()
    try:
        names = sorted(os.listdir(folder)) if folder and here else []
    except OSError:
        return []
    found, swept = [], 0
    for name in names:
        pid, _, start = name.removeprefix(_PREFIX).removesuffix(f"-{here}{_SUFFIX}").partition("-")
        if not (pid.isascii() and pid.isdecimal() and start.isdecimal()) or name != f"{_PREFIX}{pid}-{start}-{here}{_SUFFIX}":
            continue
        if not is_gone(int(pid), start):
            found.append((int(pid), name))
        elif swept < _MOST_SWEPT:
            swept += 1
            remove(os.path.join(folder, name))
    return sorted(found)


def remove(path: str) -> None:
    """Remove a socket's file; it may be gone already."""
    try:
        os.unlink(path)
    except OSError:
        return
