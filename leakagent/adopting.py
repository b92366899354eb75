"""What was there before the agent: an agent that was attached to a running program takes it up (`leakagent.cli.attach`).

The problem.  Everything else learns of a resource at its constructor, and those have run.

What we do.  Threads and children of `multiprocessing` are on lists of the standard library's own.  Executors, loops and children of
`subprocess` are on none: the garbage collector knows every object, and is asked once (about 0.1 s for a million objects).  Who made a
resource is not known.  What stands for it is the first line of what it runs (a task's coroutine, a thread's target), and for the
others the name by which a module refers to them.

What is still open.  Ages count from the moment in which the agent was attached.  What a module of the program has imported by name
before that and the agent replaces in that module is not seen (asyncio's `create_task` ends in the loop's method, which is).
"""

from __future__ import annotations

import sys

from . import guard
from .core.records import EVENT_LOOP, PROCESS, PROCESS_POOL, SUBPROCESS, TASK, THREAD, THREAD_POOL
from .shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .agent import Agent

#: Module of the program -> the class in it, and its kind.
_CLASSES = {
    "concurrent.futures.thread": ("ThreadPoolExecutor", THREAD_POOL),
    "concurrent.futures.process": ("ProcessPoolExecutor", PROCESS_POOL),
    "multiprocessing.pool": ("Pool", PROCESS_POOL),
    "multiprocessing.managers": ("BaseManager", "manager"),
    "subprocess": ("Popen", SUBPROCESS),
    "asyncio.events": ("AbstractEventLoop", EVENT_LOOP),
}

#: Names of modules that are looked through for one that refers to an object.
_MOST_NAMES = 100_000


def adopt(agent: Agent) -> dict[str, int]:
    """Take up what the program has made before the agent came.

    Returns:
        How many of each kind were taken up.

    """
    found = _objects()
    loops = [loop for loop in found.get(EVENT_LOOP, ()) if interpreter.is_open_loop(loop)]
    pools = [pool for kind in (THREAD_POOL, PROCESS_POOL) for pool in found.get(kind, ()) if interpreter.is_open_pool(pool)]
    workers = interpreter.workers_of_pools(pools, found.get("manager", []))
    parts = agent.parts
    counts = {}
    for kind, part, objects in (
        (TASK, "asyncio", loops),
        (EVENT_LOOP, "stalls", loops),
        (THREAD, "threads", interpreter.started_threads()),
        (PROCESS, "processes", [(process, workers.get(process.pid, "")) for process in interpreter.children()]),
        (SUBPROCESS, "subprocesses", [popen for popen in found.get(SUBPROCESS, ()) if popen.returncode is None]),
        (THREAD_POOL, "executors", [(pool, _name_of(pool)) for pool in pools if interpreter.is_thread_pool(pool)]),
        (PROCESS_POOL, "executors", [(pool, _name_of(pool)) for pool in pools if not interpreter.is_thread_pool(pool)]),
    ):
        if part in parts and part not in guard.disabled:
            adopted = guard.call(part, parts[part].adopt, objects)
            counts[kind] = adopted or 0
    return {kind: number for kind, number in counts.items() if number}


def _objects() -> dict[str, list[Any]]:
    """Return the objects of the classes that are looked for, by kind."""
    import gc

    wanted = [
        (getattr(module, name), kind)
        for module_name, (name, kind) in _CLASSES.items()
        if hasattr(module := sys.modules.get(module_name), name)
    ]
    kinds: dict[type, str] = {}
    found: dict[str, list[Any]] = {}
    for one in gc.get_objects():
        made = type(one)
        kind = kinds.get(made)
        if kind is None:
            # Asked of the type: an object's own ``__class__`` can run code of the program's.
            kind = kinds[made] = next((kind for base, kind in wanted if base in made.__mro__), "")
        if kind:
            found.setdefault(kind, []).append(one)
    return found


def _name_of(resource: object) -> str:
    """Return the name by which a module refers to an object, empty if none does."""
    looked = 0
    for module_name, module in list(sys.modules.items()):
        names = getattr(module, "__dict__", None)
        if type(names) is not dict:
            continue
        looked += len(names)
        for name, value in list(names.items()):
            if value is resource:
                return f"{module_name}.{name}"
        if looked > _MOST_NAMES:
            break
    return ""
