"""requests sessions.

What is told.  A session that is dropped with connections in its pools, from the second one of a place on: each call paid for a connection of its own
(https://requests.readthedocs.io/en/latest/user/advanced/#session-objects); urllib3 2 closes the sockets of a dropped pool, older ones leave that to the
garbage collector.  One session for the whole program is what requests is made for, and is left alone; ten of one place are told.
``requests.get`` and its like close theirs.
"""

from __future__ import annotations

from leakagent.core.records import REQUESTS_SESSION

from .closables import Closables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType
    from typing import Any, ClassVar

    from .patching import Patches


class RequestsSessions(Closables):
    """Sees ``requests.Session``."""

    kinds: ClassVar[Mapping[str, str]] = {
        REQUESTS_SESSION: "`with requests.Session() as session:`, or make one session when the program starts and share it"
    }

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch ``requests.sessions``."""
        self.watch(patches, module.Session, REQUESTS_SESSION)

    def inner(self, resource: Any) -> Any:  # noqa: ANN401
        """Return its adapters, an ordered dictionary."""
        return resource.adapters

    def connections(self, inner: Any) -> int:  # noqa: ANN401
        """Count the connections in the adapters' pools that have a socket."""
        return sum(1 for adapter in inner.values() for pool in _pools(adapter) for one in _idle(pool) if _has_socket(one))


def _pools(adapter: Any) -> Iterator[Any]:  # noqa: ANN401
    managers = [getattr(adapter, "poolmanager", None), *getattr(adapter, "proxy_manager", {}).values()]
    for manager in managers:
        # Not by ``keys()``, which takes a lock.
        yield from getattr(getattr(manager, "pools", None), "_container", {}).values()


def _idle(pool: Any) -> list[Any]:  # noqa: ANN401
    return list(getattr(getattr(pool, "pool", None), "queue", ()))


def _has_socket(connection: Any) -> bool:  # noqa: ANN401
    return getattr(connection, "sock", None) is not None
