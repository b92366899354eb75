"""Why a process does not end: what keeps it alive, the culprit first.

While the main thread runs, it is the first answer itself: with the await chain of the main task where it runs an event loop.  A loop
that is told to end waits for tasks that were cancelled and go on, and a server for its requests and its lifespan.  When the main thread
has ended, Python waits for workers of pools, then for threads that are no daemons, then for children of `multiprocessing` that are none.
This is the order in which they are told, but for two things: what has a line of the program's own comes before what a
library made, and a thread that waits for another one comes last, since it is not why.
"""

from __future__ import annotations

import sys
import time

from .core.findings import BLOCKS_EXIT, REFUSED_CLEANUP
from .core.records import PROCESS, PROCESS_POOL, TASK, THREAD, THREAD_POOL
from .core.sites import YOURS, resolve, shown_path
from .instrumentation import SERVERS
from .shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Thread
    from types import CodeType, FrameType
    from typing import Any

    from .agent import Agent
    from .core.records import Record

#: Frames of a stack that are told.
_FRAMES = 8

_LIFESPAN = "lifespan"

#: Tasks that are told.
_TASKS = 20


def why(agent: Agent) -> dict[str, Any]:
    """Return what keeps this process alive.

    Returns:
        ``state`` (``running`` or ``ending``: whether the main thread has ended), ``ending`` (whether an event loop or a server was told to
        end), ``main`` (frames of the main thread, innermost first), and ``culprits``: each with ``kind``, ``name``, ``owner``, ``site``,
        ``source``, ``age_s``, ``frames`` (innermost first) and ``fix``.

    """
    threading: Any = sys.modules.get("threading")
    ended = agent.signals.main_has_ended
    tasks = [] if ended else list(_of_tasks(agent))
    if any(one["name"] != _LIFESPAN for one in tasks):
        tasks = [one for one in tasks if one["name"] != _LIFESPAN]  # it waits to be told that the requests have ended
    found = [*tasks, *(_of_threads(agent, threading) if threading is not None else ()), *_of_children(agent)]
    found.sort(key=lambda one: (one["waits_for_a_thread"], one["owner"] != YOURS))
    for one in found:
        del one["waits_for_a_thread"]
    main = threading.main_thread() if threading is not None else None
    frame = None if main is None else interpreter.thread_frame(main)
    return {
        "state": "ending" if ended else "running",
        "ending": ended or bool(tasks),
        "main": (_of_main_task(agent, frame) + _frames(frame, agent.base))[:_FRAMES],
        "culprits": found,
    }


def _of_main_task(agent: Agent, frame: FrameType | None) -> list[str]:
    """Return where the coroutine waits that ``asyncio.run`` was called with, innermost first; nothing if it does not wait."""
    from .instrumentation.task_notes import awaiting

    tasks = agent.parts.get("asyncio")
    coroutines = []
    while frame is not None:
        if frame.f_code.co_name in {"run", "run_until_complete"}:
            coroutines += [frame.f_locals.get(name) for name in ("main", "coro", "future")]
        frame = frame.f_back
    for entry in tasks.entries() if tasks is not None and coroutines else ():
        task = entry.ref()
        if task is not None and any(one is task or one is task.get_coro() for one in coroutines if one is not None):
            return [_step(*step, agent.base) for step in reversed(awaiting(task)) if step[0]]
    return []


def _step(path: str, line: int, function: str, base: str) -> str:
    return f"{shown_path(path, base)}:{line} {function}"


# -- tasks -----------------------------------------------------------------------------------------------------------


def _of_tasks(agent: Agent) -> Iterator[dict[str, Any]]:
    """Return the tasks that an ending loop, or a server that was told to end, waits for."""
    tasks = agent.parts.get("asyncio")
    servers = [agent.parts[name] for name in SERVERS.intersection(agent.parts)]
    told = any(server.is_told() for server in servers)
    entries = [] if tasks is None else tasks.entries()
    number = 0
    for entry in entries:
        task = entry.ref()
        if task is None or task.done() or number >= _TASKS:
            continue
        request = _request(agent, task) if told else None
        if request is not None:
            number += 1
            yield request
        elif entry.told and not task.get_loop().is_closed():
            number += 1
            yield _task(agent, tasks, entry, task)


def _task(agent: Agent, tasks: Any, entry: Any, task: Any) -> dict[str, Any]:  # noqa: ANN401 - of asyncio
    from .instrumentation.task_notes import Observation, awaiting
    from .report.fixes import fix_for

    chain = awaiting(task)
    record = tasks.record(Observation(entry, task.get_name(), chain))
    frames = [_step(*step, agent.base) for step in reversed(chain) if step[0]]
    return _entry(agent, record, TASK, task.get_name(), frames, fix=fix_for(REFUSED_CLEANUP, TASK))


def _request(agent: Agent, task: Any) -> dict[str, Any] | None:  # noqa: ANN401 - a task
    """Return the request or lifespan that a task of a server works at, None if it is something else."""
    from .instrumentation.servers import FIX_LIFESPAN, FIX_REQUEST, place_of, request_name, scope_of, waiting_frames

    scope = scope_of(task)
    code, lasti = place_of(task)
    if not scope or code is None:
        return None
    frames = [_step(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, agent.base) for frame in waiting_frames(task)]
    is_lifespan = scope.get("type") == "lifespan"
    name, fix = (_LIFESPAN, FIX_LIFESPAN) if is_lifespan else (request_name(scope), FIX_REQUEST)
    return _entry(agent, None, TASK, name, frames[::-1][:_FRAMES], fix=fix, place=(code, lasti))


# -- threads and children --------------------------------------------------------------------------------------------


def _of_threads(agent: Agent, threading: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - the module
    pools: dict[Thread, Record] = {}
    idle: set[Thread] = set()
    for record in agent.registry.of_kind(THREAD_POOL, PROCESS_POOL):
        resource = record.resource()
        if hasattr(resource, "submit"):
            threads = interpreter.pool_waits_for(resource)
            pools.update(dict.fromkeys(threads, record))
            if record.kind == PROCESS_POOL and not interpreter.has_pending_jobs(resource):
                idle.update(threads)
    records = {record.resource(): record for record in agent.registry.of_kind(THREAD)}
    workers = set(interpreter.worker_threads())
    main = threading.main_thread()
    found = []
    for thread in threading.enumerate():
        if thread is main or thread in idle or (thread.daemon and thread not in workers):
            continue
        frames = _frames(interpreter.thread_frame(thread), agent.base)
        made = pools.get(thread) or records.get(thread)
        if thread in workers and _is_idle(frames):
            continue  # ends when it is told to
        kind = made.kind if made is not None else THREAD_POOL if thread in workers else THREAD
        name = thread.name
        if kind == PROCESS_POOL and made is not None:
            pids = ", ".join(str(process.pid) for process in interpreter.pool_processes(made.resource()))
            name, frames = f"its jobs have not ended (workers {pids})", []
        elif thread in workers and kind == THREAD:
            kind = THREAD_POOL  # a pool that was dropped, or shut down without waiting
        found.append(_entry(agent, made, kind, name, frames))
    return found


def _is_idle(frames: list[str]) -> bool:
    return bool(frames) and frames[0].startswith("concurrent/futures/thread.py:") and frames[0].endswith(" _worker")


def _waits_for_a_thread(frames: list[str]) -> bool:
    return any(frame.startswith("threading.py:") and frame.endswith((" join", " _wait_for_tstate_lock")) for frame in frames[:2])


def _of_children(agent: Agent) -> list[dict[str, Any]]:
    found = []
    for record in agent.registry.of_kind(PROCESS):
        process = record.resource()
        if process is None or record.pid != agent.pid or process.daemon or record.detail["pool"] or not _runs(process):
            continue
        found.append(_entry(agent, record, PROCESS, record.name or f"{process.name} (pid {process.pid})", []))
    return found


def _runs(process: Any) -> bool:  # noqa: ANN401 - a multiprocessing.Process
    from .processes.identity import look

    seen = look(process.pid)  # asking the object would take the exit status away from whoever waits for it
    return seen is not None and seen.runs


def _entry(  # noqa: PLR0913 - what is told of one
    agent: Agent,
    record: Record | None,
    kind: str,
    name: str,
    frames: list[str],
    *,
    fix: str = "",
    place: tuple[CodeType | None, int] = (None, 0),
) -> dict[str, Any]:
    from .report.fingerprint import source_line
    from .report.fixes import fix_for

    site = resolve(*(place if record is None else (record.code, record.lasti)), base=agent.base)
    return {
        "kind": kind,
        "name": name,
        "owner": site.owner,
        "site": {"function": site.function, "file": site.file, "line": site.line},
        "source": source_line(site),
        "age_s": round(max(0.0, time.monotonic() - record.created), 3) if record is not None else None,
        "frames": frames,
        "fix": fix or fix_for(BLOCKS_EXIT, kind),
        "waits_for_a_thread": _waits_for_a_thread(frames),
    }


def _frames(frame: FrameType | None, base: str) -> list[str]:
    found: list[str] = []
    while frame is not None and len(found) < _FRAMES:
        found.append(_step(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, base))
        frame = frame.f_back
    return found
