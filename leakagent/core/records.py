"""The agent's note about one resource, and the closed list of kinds."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

TASK = "asyncio.task"
EVENT_LOOP = "event_loop"
THREAD_POOL = "thread_pool"
PROCESS_POOL = "process_pool"
THREAD = "thread"
PROCESS = "process"
SUBPROCESS = "subprocess"
SHARED_MEMORY = "shared_memory"
CHROMADB_CLIENT = "chromadb.client"
LANCEDB_CONNECTION = "lancedb.connection"
LANCEDB_TABLE = "lancedb.table"
LANCEDB_LOOP = "lancedb.loop"
HTTPX_CLIENT = "httpx.client"
AIOHTTP_SESSION = "aiohttp.session"
REQUESTS_SESSION = "requests.session"
SQLALCHEMY_ENGINE = "sqlalchemy.engine"
REDIS_CLIENT = "redis.client"
QDRANT_CLIENT = "qdrant.client"
GRPC_CHANNEL = "grpc.channel"
SQLITE_CONNECTION = "sqlite3.connection"
TEMPORARY_FILE = "temporary_file"
TEMPORARY_DIRECTORY = "temporary_directory"

#: The closed list; plug-ins add theirs by registering an instrumentation.
KINDS = (
    TASK,
    EVENT_LOOP,
    THREAD_POOL,
    PROCESS_POOL,
    THREAD,
    PROCESS,
    SUBPROCESS,
    SHARED_MEMORY,
    CHROMADB_CLIENT,
    LANCEDB_CONNECTION,
    LANCEDB_TABLE,
    LANCEDB_LOOP,
    HTTPX_CLIENT,
    AIOHTTP_SESSION,
    REQUESTS_SESSION,
    SQLALCHEMY_ENGINE,
    REDIS_CLIENT,
    QDRANT_CLIENT,
    GRPC_CHANNEL,
    SQLITE_CONNECTION,
    TEMPORARY_FILE,
    TEMPORARY_DIRECTORY,
)

LIVE = "live"
DROPPED = "dropped"
FINISHED = "finished"


class Record:
    """A small note about one resource; never the resource's results.

    Attributes:
        id: Serial number within the process.
        kind: One of `KINDS`.
        code: Code object of the creating frame, or None at level ``count``.
        lasti: Instruction offset in ``code``.
        stack: Creation stack at level ``stack``, innermost first.
        created: ``time.monotonic()`` at creation, in seconds.
        pid: Process that created the resource.
        name: What people call it: a thread's name, a directory, a pid.
        state: ``live``, ``dropped`` (collected without being closed) or ``finished``.
        ref: Returns the resource or None; weak for everything that its library frees by being dropped.
        detail: What the instrumentation wants to remember for its finding.

    """

    __slots__ = ("code", "created", "detail", "id", "kind", "lasti", "name", "pid", "ref", "stack", "state")

    def __init__(  # noqa: PLR0913, PLR0917 - a record has this many facts
        self,
        number: int,
        kind: str,
        code: CodeType | None,
        lasti: int,
        created: float,
        pid: int,
        *,
        name: str = "",
        stack: list[tuple[CodeType, int]] | None = None,
        ref: Callable[[], Any] | None = None,
    ) -> None:
        """Note a creation."""
        self.id = number
        self.kind = kind
        self.code = code
        self.lasti = lasti
        self.created = created
        self.pid = pid
        self.name = name
        self.stack = stack
        self.ref = ref
        self.state = LIVE
        self.detail: dict[str, Any] = {}

    def resource(self) -> Any:  # noqa: ANN401 - whatever the program created
        """Return the resource while it exists, else None."""
        return None if self.ref is None else self.ref()

    def __repr__(self) -> str:
        """Show number, kind and state."""
        return f"<Record {self.id} {self.kind} {self.state} {self.name}>"
