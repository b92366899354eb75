"""One file per target library; `patching` applies and undoes what they ask for."""

from __future__ import annotations

#: Part -> (module of this package, class).  A part is loaded when the first of its targets arrives.
PARTS = {
    "asyncio": ("asyncio_tasks", "Tasks"),
    "stalls": ("stalls", "Stalls"),
    "executors": ("executors", "Executors"),
    "threads": ("threads", "Threads"),
    "processes": ("multiprocess", "Processes"),
    "chromadb": ("chromadb", "ChromaClients"),
    "lancedb": ("lancedb", "LanceConnections"),
}

#: Module of the program -> the part that patches it.
TARGETS = {
    "asyncio.tasks": "asyncio",
    "asyncio.base_events": "asyncio",
    "asyncio.runners": "asyncio",
    "uvloop": "asyncio",
    "threading": "threads",
    "concurrent.futures.thread": "executors",
    "concurrent.futures.process": "executors",
    "multiprocessing.pool": "executors",
    "multiprocessing.process": "processes",
    "chromadb.api.client": "chromadb",
    "chromadb.api.shared_system_client": "chromadb",
    "lancedb.db": "lancedb",
    "lancedb.table": "lancedb",
    "lancedb.background_loop": "lancedb",
}

#: Modules whose objects are looked at while the program runs (`leakagent.watcher`), after they were patched.
WATCHED = ("asyncio.base_events", "uvloop", "concurrent.futures.thread")
