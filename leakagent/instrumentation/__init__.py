"""One file per target library; `patching` applies and undoes what they ask for."""

from __future__ import annotations

#: Part -> (module of this package, class).  A part is loaded when the first of its targets arrives.
PARTS = {
    "asyncio": ("asyncio_tasks", "Tasks"),
    "executors": ("executors", "Executors"),
    "threads": ("threads", "Threads"),
    "processes": ("multiprocess", "Processes"),
    "subprocesses": ("subprocesses", "Subprocesses"),
    "chromadb": ("chromadb", "ChromaClients"),
    "lancedb": ("lancedb", "LanceConnections"),
}

#: Module of the program -> the part that patches it.
TARGETS = {
    "asyncio.base_events": "asyncio",
    "asyncio.runners": "asyncio",
    "uvloop": "asyncio",
    "threading": "threads",
    "concurrent.futures.thread": "executors",
    "concurrent.futures.process": "executors",
    "multiprocessing.pool": "executors",
    "multiprocessing.process": "processes",
    "subprocess": "subprocesses",
    "chromadb.api.client": "chromadb",
    "chromadb.api.shared_system_client": "chromadb",
    "lancedb.db": "lancedb",
    "lancedb.table": "lancedb",
    "lancedb.background_loop": "lancedb",
}

#: Modules in whose children `starters` finds out who has started them.
STARTERS = ("multiprocessing.process", "gunicorn.workers.base", "werkzeug._reloader")
