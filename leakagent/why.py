"""Why a process does not end: what keeps it alive, the culprit first.

While the main thread runs, it is the first answer itself.  When it has ended, Python waits for workers of pools, then for threads that are
no daemons, then for children of `multiprocessing` that are none: these are what is told, in this order.  What has a line of
the program's own comes before what a library made.
"""

from __future__ import annotations

import sys
import time

from .core.findings import BLOCKS_EXIT
from .core.records import PROCESS, THREAD, THREAD_POOL
from .core.sites import YOURS, resolve, shown_path
from .shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Thread
    from types import FrameType
    from typing import Any

    from .agent import Agent
    from .core.records import Record

#: Frames of a stack that are told.
_FRAMES = 8


def why(agent: Agent) -> dict[str, Any]:
    """Return what keeps this process alive.

    Returns:
        ``state`` (``running`` or ``ending``), ``main`` (frames of the main thread, innermost first), and ``culprits``: each with ``kind``,
        ``name``, ``owner``, ``site``, ``source``, ``age_s``, ``frames`` (innermost first) and ``fix``.

    """
    threading: Any = sys.modules.get("threading")
    ending = agent.signals.main_has_ended
    found = [*_of_threads(agent, threading), *_of_children(agent)] if threading is not None else _of_children(agent)
    found.sort(key=lambda one: one["owner"] != YOURS)
    main = threading.main_thread() if threading is not None else None
    return {
        "state": "ending" if ending else "running",
        "main": [] if main is None else _frames(interpreter.thread_frame(main), agent.base),
        "culprits": found,
    }


def _of_threads(agent: Agent, threading: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - the module
    pools: dict[Thread, Record] = {}
    for record in agent.registry.of_kind(THREAD_POOL):
        resource = record.resource()
        if hasattr(resource, "submit"):
            pools.update(dict.fromkeys(interpreter.pool_threads(resource), record))
    records = {record.resource(): record for record in agent.registry.of_kind(THREAD)}
    workers = set(interpreter.worker_threads())
    main = threading.main_thread()
    found = []
    for thread in threading.enumerate():
        if thread is main or (thread.daemon and thread not in workers):
            continue
        frames = _frames(interpreter.thread_frame(thread), agent.base)
        made = pools.get(thread) or records.get(thread)
        if thread in workers and _is_idle(frames):
            continue  # ends when it is told to
        kind = THREAD_POOL if thread in workers else THREAD
        found.append(_entry(agent, made, kind, thread.name, frames))
    return found


def _is_idle(frames: list[str]) -> bool:
    return bool(frames) and frames[0].startswith("concurrent/futures/thread.py:") and frames[0].endswith(" _worker")


def _of_children(agent: Agent) -> list[dict[str, Any]]:
    found = []
    for record in agent.registry.of_kind(PROCESS):
        process = record.resource()
        if process is None or record.pid != agent.pid or process.daemon or not _runs(process):
            continue
        found.append(_entry(agent, record, PROCESS, f"{record.name or process.name} (pid {process.pid})", []))
    return found


def _runs(process: Any) -> bool:  # noqa: ANN401 - a multiprocessing.Process
    from .processes.identity import look

    seen = look(process.pid)  # asking the object would take the exit status away from whoever waits for it
    return seen is not None and seen.runs


def _entry(agent: Agent, record: Record | None, kind: str, name: str, frames: list[str]) -> dict[str, Any]:
    from .report.fingerprint import source_line
    from .report.fixes import fix_for

    site = resolve(record.code, record.lasti, base=agent.base) if record is not None else resolve(None, 0)
    return {
        "kind": kind,
        "name": name,
        "owner": site.owner,
        "site": {"function": site.function, "file": site.file, "line": site.line},
        "source": source_line(site),
        "age_s": round(max(0.0, time.monotonic() - record.created), 3) if record is not None else None,
        "frames": frames,
        "fix": fix_for(BLOCKS_EXIT, kind),
    }


def _frames(frame: FrameType | None, base: str) -> list[str]:
    found: list[str] = []
    while frame is not None and len(found) < _FRAMES:
        found.append(f"{shown_path(frame.f_code.co_filename, base)}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return found
