"""qdrant clients in local mode, which keep a folder locked.

What is told.  A client with a ``path`` that is open at the end: nobody else can open the folder until the process is gone, and its
finalizer fails in the interpreter's end, with a traceback on stderr ("sys.meta_path is None").  It is closed, which is
what that finalizer wants.  A dropped synchronous one closes itself.  Clients in memory or of a server are left alone: the first has nothing to close, the second
has an httpx client (`leakagent.instrumentation.httpx`).  An asynchronous one in local mode is told and not closed.
"""

from __future__ import annotations

from leakagent.core.records import QDRANT_CLIENT

from .closables import Closables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType, ModuleType
    from typing import Any, ClassVar

    from leakagent.core.records import Record

    from .patching import Patches


class QdrantClients(Closables):
    """Sees ``QdrantClient`` and ``AsyncQdrantClient``."""

    kinds: ClassVar[Mapping[str, str]] = {
        QDRANT_CLIENT: "client.close() in a finally block, or `with contextlib.closing(QdrantClient(path=...)) as client:`"
    }

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch ``qdrant_client.qdrant_client`` or ``qdrant_client.async_qdrant_client``."""
        owner = getattr(module, "QdrantClient", None) or module.AsyncQdrantClient
        self.watch(patches, owner, QDRANT_CLIENT)

    def concerns(self, resource: Any, frame: FrameType | None) -> bool:  # noqa: ANN401, ARG002
        """Say whether it works in a folder."""
        return _local(resource) is not None

    def name(self, resource: Any) -> str:  # noqa: ANN401
        """Return its folder."""
        return str(getattr(_local(resource), "location", ""))

    def inner(self, resource: Any) -> Any:  # noqa: ANN401
        """Return what works in the folder."""
        return resource._client  # noqa: SLF001 - the name in every version with a local mode

    def connections(self, inner: Any) -> int:  # noqa: ANN401
        """Say whether it has the folder locked."""
        return int(_has_folder(inner))

    def is_open(self, resource: Any) -> bool:  # noqa: ANN401
        """Say whether it has a folder locked."""
        return _local(resource) is not None

    def has_consequence(self, resource: Any, record: Record) -> bool:  # noqa: ANN401, ARG002
        """Say yes: see the module."""
        return True


def _local(resource: Any) -> Any:  # noqa: ANN401
    inner: Any = getattr(resource, "_client", None)
    return inner if _has_folder(inner) else None


def _has_folder(inner: Any) -> bool:  # noqa: ANN401
    if not getattr(inner, "persistent", False):
        return False
    # A method in old releases (1.4 to 1.7), a property in new ones.
    closed = inner.closed
    return not (closed() if callable(closed) else closed)
