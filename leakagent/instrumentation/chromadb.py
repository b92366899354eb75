"""chromadb clients: which were never closed, and how to close them at the end.

What owns threads, files and sockets is chromadb's ``System``; clients share one per directory, and chromadb's own registry keeps
it alive when all its clients are gone.  So a record holds the System strongly (that costs nothing, see above) and the client
weakly: client objects are freed by their reference count alone, and a dropped one is noticed at once.

Patched are the last step of making a client (``_submit_client_start_event``: a constructor that fails on the way hands out nothing
that could be closed), the constructor of the class that every client inherits from, for admin clients, which have no such step, and
``Client.close`` where it exists (1.5.2 and newer).  The admin client that a client makes for itself is not counted.

Closing (facts measured on 0.4.22 to 1.5.9): ``Client.close()`` where there is one and the client is alive; else stop the System and
take it out of the registry.  Only a running System is stopped, since a second ``stop()`` raises on 1.x.  Rust panics are no
`Exception`, hence ``BaseException``.
"""

from __future__ import annotations

import os
import sys

from leakagent import guard
from leakagent.core.records import CHROMADB_CLIENT
from leakagent.shutdown import interpreter
from leakagent.shutdown.closing import stop_if_daemon

from .protocol import Instrumentation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType, ModuleType
    from typing import Any, ClassVar

    from leakagent.config import Settings
    from leakagent.core.records import Record
    from leakagent.core.registry import Registry

    from .patching import Patches

_LAST_STEP = "_submit_client_start_event"
_BINDINGS = "bindings"
_SHARE_ASYNCHRONOUS = "make one asynchronous client when the program starts and share it: chromadb gives it no close()"


class ChromaClients(Instrumentation):
    """Sees chromadb clients."""

    kinds: ClassVar[Mapping[str, str]] = {CHROMADB_CLIENT: ""}

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Start without clients."""
        super().__init__(registry, settings)
        self.shared: Any = None

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch a module of `leakagent.instrumentation.TARGETS`."""
        client = vars(module).get("Client")
        if client is not None and "close" in vars(client):
            patches.wrap(client, "close", self._closed)
        # The class lives in chromadb.api.client up to 0.4.x, and is only imported there later.
        shared = vars(module).get("SharedSystemClient")
        if shared is not None and shared.__module__ == module.__name__:
            self.shared = shared
            patches.wrap(shared, "__init__", self._initialised)
            if _LAST_STEP in vars(shared):
                patches.wrap(shared, _LAST_STEP, self._made)

    def _initialised(self, wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        result = wrapped(*args, **kwargs)
        if not hasattr(self.shared, _LAST_STEP) or "AdminClient" in type(client).__name__:
            guard.call("chromadb", self._note, client, interpreter.caller(1))
        return result

    def _made(self, wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        result = wrapped(*args, **kwargs)
        guard.call("chromadb", self._note, client, interpreter.caller(1))
        return result

    def _closed(self, wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        result = wrapped(*args, **kwargs)
        for record in self.registry.of_kind(CHROMADB_CLIENT):
            if record.resource() is client:
                self.registry.finish(record)
        return result

    def _note(self, client: Any, frame: FrameType | None) -> None:  # noqa: ANN401
        outside, inner = self._leave_chromadb(frame, client)
        if inner:
            return
        system = client._system  # noqa: SLF001 - chromadb's own name, in every version
        record = self.registry.add(CHROMADB_CLIENT, client, outside, name=_name(system))
        record.detail["system"] = system
        if _is_asynchronous(system):
            record.detail["fix"] = _SHARE_ASYNCHRONOUS

    def _leave_chromadb(self, frame: FrameType | None, client: object) -> tuple[FrameType | None, bool]:
        """Walk out of chromadb; the second value says that another client is being made on the way (ours is its inner one)."""
        while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "chromadb":
            # In a constructor it is the argument, in ``AsyncClient.create`` a variable.
            made = frame.f_locals.get("self")
            if made is not client and isinstance(made, self.shared):
                return frame, True
            frame = frame.f_back
        return frame, False

    def left_over(self) -> list[Record]:
        """Return the records of clients whose System still runs; those whose System was stopped are finished."""
        left = []
        for record in self.registry.of_kind(CHROMADB_CLIENT):
            if getattr(record.detail["system"], "_running", False):
                left.append(record)
            else:
                self.registry.finish(record)
        return left

    def is_alive(self, record: Record) -> bool:
        """Say whether its System still runs."""
        return super().is_alive(record) and bool(getattr(record.detail["system"], "_running", False))

    def refuse(self, records: list[Record], seconds: float, *, final: bool) -> None:  # noqa: ARG002 - takes no time
        """Have daemon threads stop in their next call of a client that is being closed (`leakagent.shutdown.closing`)."""
        for record in records if final else ():
            for component in getattr(record.detail["system"], "_instances", {}).values():
                if _BINDINGS in vars(component):
                    # Seen only when the instance has lost its own, which is how 1.x stops.
                    setattr(type(component), _BINDINGS, _Gone())

    def close(self, record: Record) -> bool:
        """Close one client, or stop the System of a client that is gone; does nothing in a forked child.

        Returns:
            Whether anything was closed.

        Raises:
            BaseException: What chromadb raises, Rust panics included.

        """
        system = record.detail["system"]
        if record.pid != os.getpid() or not getattr(system, "_running", False):
            return False
        if _is_asynchronous(system):
            # Its sockets belong to an event loop that has ended, and can only be closed in there: they go with the process.
            return False
        client = record.resource()
        if client is not None and hasattr(client, "close"):
            client.close()
        if getattr(system, "_running", False) and not self._shared_with_others(record):
            system.stop()
            _forget(system)
        return True

    def _shared_with_others(self, record: Record) -> bool:
        return any(
            other is not record and other.detail["system"] is record.detail["system"] and other.detail.get("closed") is None
            for other in self.registry.of_kind(CHROMADB_CLIENT)
        )


def _is_asynchronous(system: Any) -> bool:  # noqa: ANN401
    return "async" in str(getattr(system.settings, "chroma_api_impl", ""))


class _Gone:
    """Stands on the class where the instance had the Rust bindings of chromadb."""

    def __get__(self, component: object, owner: type | None = None) -> object:
        if component is not None:
            stop_if_daemon()
        message = f"{getattr(owner, '__name__', owner)!r} object has no attribute {_BINDINGS!r}"
        raise AttributeError(message)


def _name(system: Any) -> str:  # noqa: ANN401
    settings = system.settings
    if getattr(settings, "is_persistent", False):
        return os.path.realpath(str(settings.persist_directory))
    host = getattr(settings, "chroma_server_host", None)
    return f"{host}:{settings.chroma_server_http_port}" if host else "in memory"


def _forget(system: object) -> None:
    for name in ("chromadb.api.shared_system_client", "chromadb.api.client"):
        shared = getattr(sys.modules.get(name), "SharedSystemClient", None)
        # 0.4.x spells the name of its registry without the second "i".
        for attribute in ("_identifier_to_system", "_identifer_to_system"):
            known = getattr(shared, attribute, {})
            for identifier in [key for key, value in list(known.items()) if value is system]:
                known.pop(identifier, None)
                getattr(shared, "_identifier_to_refcount", {}).pop(identifier, None)
