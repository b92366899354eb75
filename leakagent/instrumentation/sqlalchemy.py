"""SQLAlchemy engines.

What is told.  "The Engine is intended to normally be a permanent fixture", and one that is collected closes what is in its pool
(https://docs.sqlalchemy.org/en/20/core/connections.html#engine-disposal): so one engine with idle connections is left alone.  Told is

- an engine with a connection that is *checked out* at the end: a `Connection` or `Session` that nobody closed, whose transaction is open
  until then, and rolled back.  It is left as it is: the engine can't close what others have;
- engines that are dropped without ``dispose()``, from the second one of a place on, and ten open ones of one place: one engine per call.  An engine
  is in a cycle, so its connections stay open until the collector comes, which is also when it is told.

Asynchronous engines have an ordinary one inside, which is what is seen.  Engines whose pool keeps nothing (`NullPool`) or one connection of memory
(`SingletonThreadPool`, `StaticPool`) are left alone; those pools don't know what is checked out.
"""

from __future__ import annotations

from leakagent.core.records import SQLALCHEMY_ENGINE

from .closables import Closables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType, ModuleType
    from typing import Any, ClassVar

    from leakagent.core.records import Record

    from .patching import Patches

_ONE_ENGINE = "create one engine when the program starts and share it, or engine.dispose()"
_GIVE_BACK = "`with engine.connect() as connection:`, `with Session(engine) as session:`, or close() in a finally block"


class Engines(Closables):
    """Sees ``sqlalchemy.Engine``."""

    kinds: ClassVar[Mapping[str, str]] = {SQLALCHEMY_ENGINE: _ONE_ENGINE}

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch ``sqlalchemy.engine.base``."""
        self.watch(patches, module.Engine, SQLALCHEMY_ENGINE, ("dispose",))

    def name(self, resource: Any) -> str:  # noqa: ANN401
        """Return its address, without the password."""
        return str(resource.url.render_as_string(hide_password=True))

    def concerns(self, resource: Any, frame: FrameType | None) -> bool:  # noqa: ANN401, ARG002
        """Say whether it has a pool of several connections."""
        return hasattr(resource.pool, "checkedout")

    def has_consequence(self, resource: Any, record: Record) -> bool:  # noqa: ANN401
        """Say whether connections are checked out."""
        count = resource.pool.checkedout()
        if count <= 0:
            return False
        text = "1 connection was" if count == 1 else f"{count} connections were"
        record.detail["evidence"] = [f"{text} checked out: the transaction is open until it is closed"]
        record.detail["fix"] = _GIVE_BACK
        return True

    def close(self, record: Record) -> bool:
        """Close the connections in the pool; nothing where others are checked out."""
        return "evidence" not in record.detail and super().close(record)
