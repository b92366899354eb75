"""How much memory a process has to itself (USS): what the system gets back when it ends."""

from __future__ import annotations


def private_bytes(pid: int) -> int | None:
    """Return the bytes that a process shares with nobody, None if that can't be known."""
    import psutil  # only when it is told

    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except (psutil.Error, OSError, AttributeError):
        return None


def resident_bytes() -> int | None:
    """Return the bytes of physical memory that this process takes (RSS), None if that can't be known."""
    import psutil  # only when it is asked for

    try:
        return int(psutil.Process().memory_info().rss)
    except (psutil.Error, OSError):
        return None
