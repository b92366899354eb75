"""What programs of the support table count: what the process has by now, without what is the agent's."""

from __future__ import annotations

import collections
import gc
import os
import time
from pathlib import Path

#: How long what remains is waited for: threads and sockets need a moment to be gone.
SECONDS = 5.0


def native_threads() -> dict[str, int]:
    """Return the names of all threads of the process, those of C and Rust code as well, and how many have it."""
    from leakagent.watcher import own_threads

    own, found = own_threads(), collections.Counter()
    for folder in Path("/proc/self/task").iterdir():
        try:
            name = (folder / "comm").read_text().strip()
        except OSError:
            continue
        if int(folder.name) not in own:
            # What the names of a pool's workers have in common.
            found[name.rstrip("0123456789-")] += 1
    return dict(found)


def descriptors() -> dict[str, int]:
    """Return how many descriptors of each kind the process has: sockets, pipes, files and so on."""
    found = collections.Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        kind, _, rest = link.partition(":")
        found["files" if link.startswith("/") else (rest.strip("[]") if kind == "anon_inode" else kind) + "s"] += 1
    return dict(found)


def everything() -> dict[str, int]:
    """Return threads and descriptors by name."""
    gc.collect()
    return {f"{name} threads": number for name, number in native_threads().items()} | descriptors()


def more(before: dict[str, int], wanted: dict[str, int] | None = None) -> dict[str, int]:
    """Return what there is more than before, when that has come to rest.

    Args:
        before: What `everything` returned.
        wanted: What is waited for, at most `SECONDS`; nothing more by default.

    """
    end = time.monotonic() + SECONDS
    while True:
        now = everything()
        found = {name: now[name] - before.get(name, 0) for name in sorted(now) if now[name] > before.get(name, 0)}
        if found == (wanted or {}) or time.monotonic() > end:
            return found
        time.sleep(0.02)
