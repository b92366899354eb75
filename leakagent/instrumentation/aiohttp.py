"""aiohttp sessions.

What is told.  aiohttp itself complains of each session that is not closed when it is dropped ("Unclosed client session", logged as an error), and
asks for one session per program that is closed at its end (https://docs.aiohttp.org/en/stable/client_quickstart.html).  So each is told, dropped
or still there at the end, with the line that made it, which aiohttp's own message does not have.  What aiohttp says, it says as
without the agent.  Closing one takes its event loop, which has ended by then.
"""

from __future__ import annotations

from leakagent.core.records import AIOHTTP_SESSION

from .closables import Closables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from typing import Any, ClassVar

    from leakagent.core.records import Record

    from .patching import Patches


class AiohttpSessions(Closables):
    """Sees ``aiohttp.ClientSession``."""

    kinds: ClassVar[Mapping[str, str]] = {
        AIOHTTP_SESSION: "`async with aiohttp.ClientSession() as session:`, or await session.close() before the event loop ends"
    }

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch ``aiohttp.client``."""
        self.watch(patches, module.ClientSession, AIOHTTP_SESSION, ("close", "detach"))

    def closes_itself(self, resource: Any) -> bool:  # noqa: ANN401, ARG002
        """Say no: its finalizer only complains."""
        return False

    def is_open(self, resource: Any) -> bool:  # noqa: ANN401
        """Say whether it was not closed."""
        return not resource.closed

    def has_consequence(self, resource: Any, record: Record) -> bool:  # noqa: ANN401, ARG002
        """Say yes: aiohttp complains when the interpreter drops it."""
        return True
