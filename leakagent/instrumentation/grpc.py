"""gRPC channels.

What is told.  Ten or more open channels of one place: each has sockets and threads of its own, and a channel is made to be shared
(https://grpc.io/docs/guides/performance/).  A dropped channel is not told: gRPC allows to drop a channel when its stubs are made ("many
valid use cases today", says its source), and closes it with the last stub.  One channel for the whole program is the usual way.
"""

from __future__ import annotations

from leakagent.core.records import GRPC_CHANNEL

from .closables import Closables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from typing import Any, ClassVar

    from .patching import Patches


class Channels(Closables):
    """Sees ``grpc.Channel`` and ``grpc.aio.Channel``."""

    kinds: ClassVar[Mapping[str, str]] = {
        GRPC_CHANNEL: "make one channel when the program starts and share it, or `with grpc.insecure_channel(...) as channel:`"
    }

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch ``grpc._channel`` or ``grpc.aio._channel``."""
        left = "__aexit__" if ".aio." in module.__name__ else "__exit__"
        self.watch(patches, module.Channel, GRPC_CHANNEL, ("close", left))

    def name(self, resource: Any) -> str:  # noqa: ANN401
        """Return its address."""
        target = getattr(getattr(resource, "_channel", None), "target", None)
        text = target() if callable(target) else b""
        return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)

    def closes_itself(self, resource: Any) -> bool:  # noqa: ANN401, ARG002
        """Say yes: see the module."""
        return True
