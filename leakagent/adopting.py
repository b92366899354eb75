"""What was there before the agent: an agent that was attached to a running program takes it up (`leakagent.cli.attach`).

The problem.  Everything else learns of a resource at its constructor, and those have run.

What we do.  Threads and children of `multiprocessing` are on lists of the standard library's own.  Executors, loops, children of `subprocess`, and clients of chromadb and
lancedb are on none: the garbage collector knows every object, and is asked once (about 0.1 s for a million objects).  Who made a
resource is not known.  What stands for it is the first line of what it runs (a task's coroutine, a thread's target), and for the
others the name by which a module refers to them.  A pool that a module of an installed package refers to is that package's.

What is still open.  Ages count from the moment in which the agent was attached.  Clients of other libraries that exist already are not taken up:
what is told of them is mostly that they were dropped, and those of before are not there to be found.  What a module of the program has imported by name
before that and the agent replaces in that module is not seen (asyncio's `create_task` ends in the loop's method, which is).
"""

from __future__ import annotations

import sys

from . import guard
from .core.records import (
    CHROMADB_CLIENT,
    EVENT_LOOP,
    LANCEDB_CONNECTION,
    PROCESS,
    PROCESS_POOL,
    SUBPROCESS,
    TASK,
    THREAD,
    THREAD_POOL,
)
from .core.sites import LIBRARY, owner_of
from .shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .agent import Agent

#: Modules of the program, the class in each, and its kind.
_CLASSES = (
    ("concurrent.futures.thread", "ThreadPoolExecutor", THREAD_POOL),
    ("concurrent.futures.process", "ProcessPoolExecutor", PROCESS_POOL),
    ("multiprocessing.pool", "Pool", PROCESS_POOL),
    ("multiprocessing.managers", "BaseManager", "manager"),
    ("subprocess", "Popen", SUBPROCESS),
    ("asyncio.events", "AbstractEventLoop", EVENT_LOOP),
    ("chromadb.api.client", "SharedSystemClient", CHROMADB_CLIENT),
    ("lancedb.db", "AsyncConnection", LANCEDB_CONNECTION),
    ("lancedb.db", "LanceDBConnection", LANCEDB_CONNECTION),
    ("lancedb.remote.db", "RemoteDBConnection", LANCEDB_CONNECTION),
)

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
    clients = [*found.get(CHROMADB_CLIENT, ()), *found.get(LANCEDB_CONNECTION, ())]
    names = _names_of([*pools, *clients])
    mine = [(pool, names[id(pool)]) for pool in pools if not _is_a_librarys(names[id(pool)])]
    parts = agent.parts
    counts = {}
    for kind, part, objects in (
        (TASK, "asyncio", loops),
        (EVENT_LOOP, "stalls", loops),
        (THREAD, "threads", interpreter.started_threads()),
        (PROCESS, "processes", [(process, workers.get(process.pid, "")) for process in interpreter.children()]),
        (SUBPROCESS, "subprocesses", [popen for popen in found.get(SUBPROCESS, ()) if popen.returncode is None]),
        (THREAD_POOL, "executors", [(pool, name) for pool, name in mine if interpreter.is_thread_pool(pool)]),
        (PROCESS_POOL, "executors", [(pool, name) for pool, name in mine if not interpreter.is_thread_pool(pool)]),
        (CHROMADB_CLIENT, "chromadb", [(client, names[id(client)]) for client in found.get(CHROMADB_CLIENT, ())]),
        (LANCEDB_CONNECTION, "lancedb", [(client, names[id(client)]) for client in found.get(LANCEDB_CONNECTION, ())]),
    ):
        if part in parts and part not in guard.disabled:
            adopted = guard.call(part, parts[part].adopt, objects)
            counts[kind] = adopted or 0
    return {kind: number for kind, number in counts.items() if number}


def _is_a_librarys(name: str) -> bool:
    """Say whether a name is that of an installed package, which keeps the object for the whole process."""
    path = getattr(sys.modules.get(name.rpartition(".")[0]), "__file__", None)
    return path is not None and owner_of(path) == LIBRARY


def _objects() -> dict[str, list[Any]]:
    """Return the objects of the classes that are looked for, by kind."""
    import gc

    wanted = [
        (getattr(module, name), kind)
        for module_name, name, kind in _CLASSES
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


def _names_of(resources: list[Any]) -> dict[int, str]:
    """Return by identity the name by which a module refers to each object, empty if none does."""
    found = {id(resource): "" for resource in resources}
    looked = 0
    for module_name, module in list(sys.modules.items()) if found else ():
        names = getattr(module, "__dict__", None)
        if type(names) is not dict:
            continue
        looked += len(names)
        for name, value in list(names.items()):
            if found.get(id(value)) == "":
                found[id(value)] = f"{module_name}.{name}"
        if looked > _MOST_NAMES:
            break
    return found
