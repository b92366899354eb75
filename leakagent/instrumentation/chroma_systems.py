"""chromadb's Systems: what owns threads, files and sockets, and how to tell whether anybody uses one.

The problem.  A System is in use through a client, a collection, a vector store of LangChain or LlamaIndex, or the bare server object that one of
these has handed on.  chromadb's own registry keeps it alive when all of them are gone.

What does not work.  A weak reference to the client: a collection goes on without it.  Weak references to clients and collections: others keep
the server object itself.  ``gc.get_referrers``: it walks over the whole heap.

What we do.  All of them refer to one object, the System's server component.  Its reference count is taken when the System has been made
and nobody has it yet; when it is back at that number, only chromadb itself refers to it.  A call that runs counts as use, and so does a
client in a reference cycle that was not collected yet: both err towards silence.

A System is referred to strongly for as long as chromadb's registry has it, which costs nothing, and weakly when that has been cleared
(``clear_system_cache``), since without the agent it then ends with its last user.
"""

from __future__ import annotations

import os
import sys
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: Modules that the registry has been in, and its names: 0.4.x spells it without the second "i".
_MODULES = ("chromadb.api.shared_system_client", "chromadb.api.client")
_REGISTRIES = ("_identifier_to_system", "_identifer_to_system")
_COUNTS = "_identifier_to_refcount"

#: Where a component keeps what it has opened: the Rust bindings of 1.x, the session of a client of a server.
BINDINGS = "bindings"
_SESSION = "_session"


class Held:
    """What is known of one System.

    Attributes:
        folder: Its directory without links and relative parts, as it was when the System was made; empty if it has none.
        spelling: The directory as the program wrote it.
        name: What people call it: directory, server, or ``in memory``.
        is_asynchronous: Whether it belongs to an event loop, in which alone it can be closed.
        is_remote: Whether it is the client of a server.

    """

    def __init__(self, system: Any, *, is_new: bool = True) -> None:  # noqa: ANN401 - chromadb's object
        """Note a System; one that is not new counts as used for as long as it runs, since nobody knows its count without users."""
        settings = system.settings
        self._weak = weakref.ref(system)
        self._strong: Any = system
        is_persistent = bool(getattr(settings, "is_persistent", False))
        self.spelling = str(settings.persist_directory) if is_persistent else ""
        self.folder = os.path.realpath(self.spelling) if is_persistent else ""
        host = getattr(settings, "chroma_server_host", None)
        self.is_remote = "fastapi" in str(getattr(settings, "chroma_api_impl", ""))
        self.is_asynchronous = "async" in str(getattr(settings, "chroma_api_impl", ""))
        self.name = self.folder or (f"{host}:{settings.chroma_server_http_port}" if host else "in memory")
        self._unused: int | None = None if is_new else 0
        self.sees_use()

    @property
    def system(self) -> Any:  # noqa: ANN401 - chromadb's object
        """The System, or None if it is gone."""
        return self._weak()

    @property
    def is_running(self) -> bool:
        """Whether it was neither stopped nor freed, nor is left to the garbage collector."""
        return bool(getattr(self._weak(), "_running", False)) and (self._strong is not None or self.sees_use())

    def let_go(self) -> None:
        """Refer to it weakly from now on, if chromadb's registry does not have it any more."""
        system = self._weak()
        if system is not None and not self.identifiers():
            self._strong = None
        del system

    def sees_use(self) -> bool:
        """Say whether somebody besides chromadb refers to its server component."""
        references = _references(self._weak())
        if references is None:
            return False
        self._unused = references if self._unused is None else min(references, self._unused)
        return references > self._unused

    def identifiers(self) -> list[str]:
        """Return the names under which chromadb's registry has it."""
        system = self._weak()
        return [] if system is None else [name for name, one in list(registered().items()) if one is system]

    def users(self) -> int:
        """Return how many users chromadb counts (1.5.2 and newer; 0 before)."""
        counts = getattr(_shared(), _COUNTS, {})
        return sum(counts.get(name, 0) for name in self.identifiers())

    def forget(self) -> None:
        """Take it out of chromadb's registry, and close the sockets that no version closes."""
        system = self._weak()
        if system is None:
            return
        for name in self.identifiers():
            registered().pop(name, None)
            getattr(_shared(), _COUNTS, {}).pop(name, None)
        if not self.is_asynchronous:
            close_sessions(system)
        self._strong = None


def registered() -> dict[str, Any]:
    """Return chromadb's own registry: identifier -> System."""
    for name in _REGISTRIES:
        found = getattr(_shared(), name, None)
        if found is not None:
            return found  # type: ignore[no-any-return]
    return {}


def components(system: Any) -> Iterator[Any]:  # noqa: ANN401 - chromadb's objects
    """Return the components of a System."""
    return iter(list(getattr(system, "_instances", {}).values()))


def close_sessions(system: Any) -> None:  # noqa: ANN401 - chromadb's object
    """Close the connections to a server that a System keeps when it was stopped."""
    for component in components(system):
        session = vars(component).get(_SESSION)
        if session is not None and callable(getattr(session, "close", None)):
            session.close()


def _shared() -> Any:  # noqa: ANN401 - chromadb's class
    for name in _MODULES:
        found = getattr(sys.modules.get(name), "SharedSystemClient", None)
        if found is not None:
            return found
    return None


def _references(system: Any) -> int | None:  # noqa: ANN401 - chromadb's object
    """Return how often the server component is referred to; the same number whenever nobody uses it."""
    wanted = str(getattr(getattr(system, "settings", None), "chroma_api_impl", ""))
    for key, component in list(getattr(system, "_instances", {}).items()):
        if f"{key.__module__}.{key.__name__}" == wanted:
            return sys.getrefcount(component)
    return None
