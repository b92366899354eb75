"""One file per target library; `patching` applies and undoes what they ask for."""

from __future__ import annotations

#: Part -> (module of this package, class).  A part is loaded when the first of its targets arrives.
PARTS = {
    "asyncio": ("asyncio_tasks", "Tasks"),
    "stalls": ("stalls", "Stalls"),
    "executors": ("executors", "Executors"),
    "loky": ("loky", "Loky"),
    "billiard": ("billiard", "Billiard"),
    "loop signals": ("loop_signals", "LoopSignals"),
    "threads": ("threads", "Threads"),
    "processes": ("multiprocess", "Processes"),
    "subprocesses": ("subprocesses", "Subprocesses"),
    "shared memory": ("shared_memory", "SharedBlocks"),
    "chromadb": ("chromadb", "ChromaClients"),
    "lancedb": ("lancedb", "LanceConnections"),
    "httpx": ("httpx", "HttpxClients"),
    "aiohttp": ("aiohttp", "AiohttpSessions"),
    "requests": ("requests", "RequestsSessions"),
    "sqlalchemy": ("sqlalchemy", "Engines"),
    "redis": ("redis", "RedisClients"),
    "qdrant": ("qdrant", "QdrantClients"),
    "grpc": ("grpc", "Channels"),
    "sqlite3": ("sqlite", "SqliteConnections"),
    "tempfile": ("tempfiles", "TemporaryFiles"),
    "posthog": ("posthog", "Posthog"),
    "blockbuster": ("blockbuster", "Blockbuster"),
    "uvicorn": ("uvicorn", "Uvicorn"),
    "hypercorn": ("hypercorn", "Hypercorn"),
    "gunicorn": ("gunicorn", "Gunicorn"),
    "werkzeug": ("werkzeug", "Werkzeug"),
    "streamlit": ("streamlit", "Streamlit"),
}

#: Parts that know a server (`leakagent.instrumentation.servers`).
SERVERS = frozenset({"uvicorn", "hypercorn", "gunicorn", "werkzeug", "streamlit"})

#: Module of the program -> the part that patches it.
TARGETS = {
    "asyncio.tasks": "asyncio",
    "asyncio.base_events": "asyncio",
    "asyncio.taskgroups": "asyncio",
    "asyncio.runners": "asyncio",
    "uvloop": "asyncio",
    "uvicorn._compat": "asyncio",
    "taskgroup.runners": "asyncio",
    "threading": "threads",
    "concurrent.futures.thread": "executors",
    "concurrent.futures.process": "executors",
    "multiprocessing.pool": "executors",
    "loky.process_executor": "loky",
    "joblib.externals.loky.process_executor": "loky",
    "billiard.process": "billiard",
    "billiard.pool": "billiard",
    "multiprocessing.process": "processes",
    "subprocess": "subprocesses",
    "asyncio.subprocess": "subprocesses",
    "multiprocessing.shared_memory": "shared memory",
    "chromadb.api.client": "chromadb",
    "chromadb.api.shared_system_client": "chromadb",
    "lancedb.db": "lancedb",
    "lancedb.table": "lancedb",
    "lancedb.remote.db": "lancedb",
    "lancedb.background_loop": "lancedb",
    "httpx._client": "httpx",
    "httpx2._client": "httpx",
    "aiohttp.client": "aiohttp",
    "requests.sessions": "requests",
    "sqlalchemy.engine.base": "sqlalchemy",
    "redis.client": "redis",
    "redis.asyncio.client": "redis",
    "qdrant_client.qdrant_client": "qdrant",
    "qdrant_client.async_qdrant_client": "qdrant",
    "grpc._channel": "grpc",
    "grpc.aio._channel": "grpc",
    "sqlite3": "sqlite3",
    "tempfile": "tempfile",
    "posthog.consumer": "posthog",
    "blockbuster.blockbuster": "blockbuster",
    "uvicorn.server": "uvicorn",
    "uvicorn.lifespan.on": "uvicorn",
    "uvicorn.supervisors.multiprocess": "uvicorn",
    "uvicorn.supervisors.basereload": "uvicorn",
    "hypercorn.run": "hypercorn",
    "hypercorn.asyncio.run": "hypercorn",
    "hypercorn.asyncio.lifespan": "hypercorn",
    "hypercorn.asyncio.task_group": "hypercorn",
    "gunicorn.arbiter": "gunicorn",
    "gunicorn.workers.base": "gunicorn",
    "gunicorn.workers.gthread": "gunicorn",
    "werkzeug.serving": "werkzeug",
    "werkzeug._reloader": "werkzeug",
    "streamlit.runtime.scriptrunner.script_runner": "streamlit",
}

#: Modules whose objects are looked at while the program runs (`leakagent.watcher`), after they were patched.
WATCHED = ("asyncio.base_events", "uvloop", "concurrent.futures.thread")

#: Modules whose event loops can handle signals, whatever else is patched in them.
LOOPS = ("asyncio.unix_events", "uvloop")

#: Modules in whose children `starters` finds out who has started them.
STARTERS = ("multiprocessing.process", "gunicorn.workers.base", "werkzeug._reloader")
