"""Connections of websocket-client: https://websocket-client.readthedocs.io/

One that the program leaves open is told from the first one on: the server keeps its end until it notices.  One that is dropped
closes its socket, and is told if there are several of one place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from leakagent.plugin import Closables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from leakagent.plugin import Patches, Record


class WebSockets(Closables):
    """Sees ``websocket.WebSocket``, which ``websocket.create_connection`` returns."""

    kinds: ClassVar[Mapping[str, str]] = {"websocket.connection": "ws.close() in a finally block, or `with contextlib.closing(ws):`"}

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch ``websocket._core``, where the class lives: whoever imported it by name has the patched class."""
        self.watch(patches, module.WebSocket, "websocket.connection", ends=("close", "shutdown"), begins="connect")

    def is_open(self, resource: Any) -> bool:
        """Say whether it is still connected."""
        return bool(resource.connected)

    def has_consequence(self, resource: Any, record: Record) -> bool:
        """Tell each, with the other end."""
        record.detail["evidence"] = [f"connected to {resource.sock.getpeername()}"]
        return True
