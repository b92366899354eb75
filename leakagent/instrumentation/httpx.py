"""httpx clients, and so those of the openai, anthropic and ollama SDKs, which make one each (httpx, or httpx2 in newer releases).

What is told.  httpx asks for ``close()`` or ``with`` (https://www.python-httpx.org/advanced/clients/) and warns of nothing.  An `AsyncClient` that is
dropped with connections leaves its sockets in the event loop until the other end closes them: told from the first one on.  A `Client`
that is dropped closes its sockets by that, and pays for a new connection each time: told from the second one of a place on.  One
that lives as long as the program is what the documentation asks for, and is left alone; ten of one place are told.  SDKs
close theirs in a finalizer, so a dropped ``OpenAI()`` is not told.

What is still open.  A client that is only collected with a cycle is not told: its connections can't be asked any more by then.
"""

from __future__ import annotations

from leakagent.core.records import HTTPX_CLIENT

from .closables import Closables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from typing import Any, ClassVar

    from .patching import Patches


class HttpxClients(Closables):
    """Sees ``httpx.Client`` and ``httpx.AsyncClient``."""

    kinds: ClassVar[Mapping[str, str]] = {
        HTTPX_CLIENT: "make one client when the program starts and share it, or `with httpx.Client() as client:`; "
        "asynchronous: `async with`, or await client.aclose()"
    }

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch ``httpx._client`` or ``httpx2._client``."""
        self.watch(patches, module.Client, HTTPX_CLIENT, ("close", "__exit__"))
        self.watch(patches, module.AsyncClient, HTTPX_CLIENT, ("aclose", "__aexit__"))

    def is_open(self, resource: Any) -> bool:  # noqa: ANN401
        """Say whether it was not closed."""
        return not resource.is_closed

    def inner(self, resource: Any) -> Any:  # noqa: ANN401
        """Return its transport."""
        return resource._transport  # noqa: SLF001 - httpx's own name since 0.18

    def connections(self, inner: Any) -> int:  # noqa: ANN401
        """Count the open connections of the transport's pool; transports that make none (WSGI, ASGI, mock) have no pool."""
        return sum(not one.is_closed() for one in getattr(getattr(inner, "_pool", None), "connections", ()))
