"""One file per target library; `patching` applies and undoes what they ask for."""

from __future__ import annotations

#: Part -> (module of this package, class).  A part is loaded when the first of its targets arrives.
PARTS = {
    "asyncio": ("asyncio_tasks", "Tasks"),
    "executors": ("executors", "Executors"),
    "threads": ("threads", "Threads"),
    "processes": ("multiprocess", "Processes"),
    "chromadb": ("chromadb", "ChromaClients"),
    "lancedb": ("lancedb", "LanceConnections"),
    "uvicorn": ("uvicorn", "Uvicorn"),
}

#: Parts that know a server (`leakagent.instrumentation.servers`).
SERVERS = frozenset({"uvicorn"})

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
    "chromadb.api.client": "chromadb",
    "chromadb.api.shared_system_client": "chromadb",
    "lancedb.db": "lancedb",
    "lancedb.table": "lancedb",
    "lancedb.background_loop": "lancedb",
    "uvicorn.server": "uvicorn",
    "uvicorn.lifespan.on": "uvicorn",
    "uvicorn.supervisors.multiprocess": "uvicorn",
    "uvicorn.supervisors.basereload": "uvicorn",
}
