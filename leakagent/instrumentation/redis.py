"""redis clients, synchronous and asynchronous.

What is told.  A synchronous client closes its pool when it is dropped, and one for the whole program is the usual way: only ten open ones of
one place are told.  An asynchronous one "requires an explicit disconnect of the connection since there is no asyncio destructor"
(https://redis.readthedocs.io/en/stable/examples/asyncio_examples.html): each is told that has a connection when it is dropped, or when the program ends.
Clients that share a pool that somebody else made are that one's business.
"""

from __future__ import annotations

from leakagent.core.records import REDIS_CLIENT

from .closables import Closables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType, ModuleType
    from typing import Any, ClassVar

    from leakagent.core.records import Record

    from .patching import Patches


class RedisClients(Closables):
    """Sees ``redis.Redis`` and ``redis.asyncio.Redis``."""

    kinds: ClassVar[Mapping[str, str]] = {
        REDIS_CLIENT: "make one client when the program starts and share it; "
        "asynchronous: await client.aclose() before the event loop ends, or `async with`"
    }

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch ``redis.client`` or ``redis.asyncio.client``."""
        # Before 5.0.1 the asynchronous one has ``close`` alone.
        asynchronous = ("aclose", "close") if hasattr(module.Redis, "aclose") else ("close",)
        self.watch(patches, module.Redis, REDIS_CLIENT, asynchronous if "asyncio" in module.__name__ else ("close",))

    def closes_itself(self, resource: Any) -> bool:  # noqa: ANN401
        """Say whether it is a synchronous one: the finalizer of the other only complains."""
        return not _is_asynchronous(resource)

    def concerns(self, resource: Any, frame: FrameType | None) -> bool:  # noqa: ANN401
        """Say whether its pool is its own; class methods that make one for it say so only later."""
        makes_one = frame is not None and frame.f_code.co_name in {"from_url", "from_pool"}
        return makes_one or bool(getattr(resource, "auto_close_connection_pool", True))

    def is_open(self, resource: Any) -> bool:  # noqa: ANN401
        """Say whether it has connections."""
        return self.connections(resource.connection_pool) > 0

    def inner(self, resource: Any) -> Any:  # noqa: ANN401
        """Return its pool."""
        return resource.connection_pool

    def connections(self, inner: Any) -> int:  # noqa: ANN401
        """Count a pool's connections that are connected."""
        known = [*getattr(inner, "_available_connections", ()), *getattr(inner, "_in_use_connections", ())]
        return sum(bool(getattr(one, "is_connected", True)) for one in known)

    def has_consequence(self, resource: Any, record: Record) -> bool:  # noqa: ANN401, ARG002
        """Say whether it is asynchronous."""
        return _is_asynchronous(resource)


def _is_asynchronous(resource: Any) -> bool:  # noqa: ANN401
    return any(one.__module__ == "redis.asyncio.client" for one in type(resource).__mro__)
