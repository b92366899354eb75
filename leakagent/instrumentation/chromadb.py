"""chromadb clients: which were never closed, and how to close them at the end.

What owns threads, files and sockets is chromadb's ``System`` (`leakagent.instrumentation.chroma_systems`); clients share one per
directory, and chromadb's own registry keeps it alive when all its clients are gone.  So a record holds the System strongly and the client
weakly: client objects are freed by their reference count alone, and a dropped one is noticed at once (`chroma_looks`).

Patched are the last step of making a client (``_submit_client_start_event``: a constructor that fails on the way hands out nothing
that could be closed), the constructor of the class that every client inherits from, for admin clients, which have no such step, and
``Client.close`` where it exists (1.5.2 and newer).  The admin client that a client makes for itself is not counted.

Closing (facts measured on 0.4.22 to 1.5.9): ``Client.close()`` where there is one and the client is alive; else stop the System and
take it out of the registry.  Only a running System is stopped, since a second ``stop()`` raises on 1.x, and in the middle of a
program none that a collection or another client still uses.  Calls that run in other threads come to their end first, and SIGTERM waits
for the end of a batch (`_CATCHES_ALL`).  Rust panics are no `Exception`, hence ``BaseException``.

A forked child touches nothing of its parent's; its first call of an inherited client, which would never return on 1.x, is told
(`leakagent.instrumentation.inherited`).
"""

from __future__ import annotations

import os
import time
from functools import partial

from leakagent import guard
from leakagent.core.findings import BLOCKS_EXIT
from leakagent.core.records import CHROMADB_CLIENT
from leakagent.detect.stalled import Stall
from leakagent.shutdown import interpreter
from leakagent.shutdown.closing import stop_if_daemon
from leakagent.shutdown.signals import CATCH_ALL
from leakagent.watcher import watcher

from .chroma_looks import PAUSE, Looks, clients, count
from .chroma_systems import BINDINGS, Held, components
from .inherited import Stranger, way_out
from .patching import hide_frames
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
_FORGET_ALL = "clear_system_cache"
_SHARE_ASYNCHRONOUS = "make one asynchronous client when the program starts and share it: chromadb gives it no close()"
_AFTER_FORK = "start children by spawn or forkserver, and make the client in the child"

#: Calls of the bindings that come back without their threads.
_HARMLESS = ("heartbeat",)

#: What hands a batch on to the indices, up to 0.6 and where 1.x is used without Rust: ``except BaseException``, and the batch is acknowledged
#: in part (chromadb/db/mixins/embeddings_queue.py).  `submit_embeddings` calls it before it commits, and what comes up between the two undoes
#: the batch in one of the two indices only.
_CATCHES_ALL = {("chromadb.db.mixins.embeddings_queue", name) for name in ("_notify_one", "submit_embeddings")}

#: Seconds after which threads are looked at again, and the share of the time for closing that calls in flight get.
_LOOK_AFTER = 0.002
_DRAIN_SHARE = 0.5


class ChromaClients(Instrumentation):
    """Sees chromadb clients."""

    kinds: ClassVar[Mapping[str, str]] = {CHROMADB_CLIENT: ""}

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Start without clients."""
        super().__init__(registry, settings)
        self.shared: Any = None
        self.looks = Looks(registry)
        #: What this forked child does with its parent's clients.
        self._inherited: list[Stall] = []
        self._opening: dict[int, str] = {}
        #: Systems that no record refers to yet.
        self._new: list[Held] = []
        self._is_over = False

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
            if _FORGET_ALL in vars(shared):
                patches.wrap(shared, _FORGET_ALL, self._forgotten)
            watcher.look_every(PAUSE, self.look)
            CATCH_ALL.update(_CATCHES_ALL)

    # -- patched methods ---------------------------------------------------------------------------------------------

    def _initialised(self, wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        guard.call("chromadb", self._opens, interpreter.caller(1), args, kwargs)
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            hide_frames(error)
            raise
        finally:
            self._opening.pop(interpreter.thread_number(), None)
        guard.call("chromadb", self._system_made, client)
        if not hasattr(self.shared, _LAST_STEP) or any(base.__name__ == "AdminClient" for base in type(client).__mro__):
            guard.call("chromadb", self._note, client, interpreter.caller(1))
        return result

    def _made(self, wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            hide_frames(error)
            raise
        guard.call("chromadb", self._note, client, interpreter.caller(1))
        return result

    def _closed(self, wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            hide_frames(error)
            raise
        for record in clients(self.registry):
            if record.resource() is client:
                held = record.detail["held"]
                self._finish(record)
                if held.is_remote:
                    self.looks.residue.append((held, record))
        return result

    def _forgotten(self, wrapped: Callable[..., Any], _owner: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            hide_frames(error)
            raise
        for held in [*self._held(), *self._new]:
            held.let_go()
        return result

    # -- what is noted -----------------------------------------------------------------------------------------------

    def _opens(self, frame: FrameType | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        settings: Any = kwargs.get("settings", args[0] if args else None)
        if not getattr(settings, "is_persistent", False):
            return
        folder = os.path.realpath(str(settings.persist_directory))
        others = [
            thread for thread, one in list(self._opening.items()) if one == folder and thread != interpreter.thread_number()
        ]
        self._opening[interpreter.thread_number()] = folder
        if others and not any(held.folder == folder for held in self._held()):
            place, _ = self._leave_chromadb(frame, None)
            known, threads = self.looks.raced.get(folder, (None, set()))
            if known is None:
                known = self.registry.note(CHROMADB_CLIENT, place, name=folder)
            self.looks.raced[folder] = known, {*threads, *others, interpreter.thread_number()}

    def _held(self) -> list[Held]:
        return [record.detail["held"] for record in clients(self.registry)]

    def _system_made(self, client: Any) -> None:  # noqa: ANN401 - chromadb's object
        """Look at a new System before anybody uses it: nobody refers to its server component yet."""
        system = client._system  # noqa: SLF001 - chromadb's own name, in every version
        if not any(held.system is system for held in [*self._held(), *self._new]):
            self._new.append(Held(system))

    def _note(self, client: Any, frame: FrameType | None) -> None:  # noqa: ANN401
        outside, inner = self._leave_chromadb(frame, client)
        if inner:
            return
        system = client._system  # noqa: SLF001
        held = next((one for one in [*self._new, *self._held()] if one.system is system), None) or Held(system)
        self._new = [one for one in self._new if one is not held and one.is_running]
        record = self.registry.add(CHROMADB_CLIENT, client, outside, name=held.name)
        record.detail["held"] = held
        if held.is_asynchronous:
            record.detail["fix"] = _SHARE_ASYNCHRONOUS
        watcher.needed()

    def adopt(self, found: list[tuple[Any, str]]) -> int:
        """Note open clients that were made before the agent, each with what the program calls it, and return how many there are."""
        inner = {id(value) for client, _ in found for value in vars(client).values()}
        known = {id(record.resource()) for record in clients(self.registry)}
        number = 0
        for client, name in found:
            system = None if id(client) in inner or id(client) in known else _system_of(client)
            if not getattr(system, "_running", False):
                continue
            held = next((one for one in self._held() if one.system is system), None) or Held(system, is_new=False)
            record = self.registry.adopt(CHROMADB_CLIENT, client, None, name=f"{held.name} ({name})" if name else held.name)
            record.detail["held"] = held
            if held.is_asynchronous:
                record.detail["fix"] = _SHARE_ASYNCHRONOUS
            number += 1
        if number:
            watcher.needed()
        return number

    def _leave_chromadb(self, frame: FrameType | None, client: object) -> tuple[FrameType | None, bool]:
        """Walk out of chromadb, and of the constructors of subclasses.

        The second value says that another client is being made on the way (ours is its inner one).
        """
        while frame is not None and (
            str(frame.f_globals.get("__name__", "")).partition(".")[0] == "chromadb" or _constructs(frame, client)
        ):
            # In a constructor it is the argument, in ``AsyncClient.create`` a variable.
            made = frame.f_locals.get("self")
            if client is not None and made is not client and isinstance(made, self.shared):
                return frame, True
            frame = frame.f_back
        return frame, False

    def _finish(self, record: Record) -> None:
        self.registry.finish(record)
        self.registry.count(CHROMADB_CLIENT).add(0, count(record) - 1)

    # -- while the program runs --------------------------------------------------------------------------------------

    def look(self) -> None:
        """Tell what is wrong by now; called by the watcher."""
        for stall in self.looks.look():
            if self.tell is not None:
                self.tell(stall)

    def seen(self) -> list[Stall]:
        """Return what the report tells besides the clients that are left over."""
        return [*self._inherited, *self.looks.growing()]

    def left_over(self) -> list[Record]:
        """Return the records of clients whose System still runs; those whose System was stopped are finished."""
        left = []
        self.looks.fold()
        crowded = {stall.record.detail["held"].folder: stall.evidence for stall in self.looks.directories()}
        for record in clients(self.registry):
            held = record.detail["held"]
            if held.is_running:
                record.detail["evidence"] = [*self.looks.evidence(record), *(crowded.get(held.folder, ()) if held.folder else ())]
                left.append(record)
            else:
                self._finish(record)
        return left

    # -- closing -----------------------------------------------------------------------------------------------------

    def is_alive(self, record: Record) -> bool:
        """Say whether its System still runs."""
        return super().is_alive(record) and bool(record.detail["held"].is_running)

    def refuse(self, records: list[Record], seconds: float, *, final: bool) -> None:  # noqa: ARG002 - takes no time
        """Have daemon threads stop in their next call of a client that is being closed (`leakagent.shutdown.closing`)."""
        self._is_over = self._is_over or final
        for record in records if final else ():
            for component in components(record.detail["held"].system):
                if BINDINGS in vars(component):
                    # Seen only when the instance has lost its own, which is how 1.x stops.
                    setattr(type(component), BINDINGS, _Gone())

    def drain(self, seconds: float) -> bool:
        """Let the calls that other threads are in come to their end.

        Args:
            seconds: How long closing may take; a share of it is used.

        Returns:
            Whether all of them have ended.

        """
        deadline = time.monotonic() + seconds * _DRAIN_SHARE
        calls = _calls()
        while calls:
            now = _calls()
            # Held, so that no other frame can take its place; a thread that calls again has ended this call.
            calls = {thread: frame for thread, frame in calls.items() if now.get(thread) is frame}
            if not calls or time.monotonic() > deadline:
                break
            del now
            time.sleep(_LOOK_AFTER)
        return not calls

    def close(self, record: Record) -> bool:
        """Close one client, or stop the System of a client that is gone; does nothing in a forked child.

        Returns:
            Whether anything was closed.

        Raises:
            BaseException: What chromadb raises, Rust panics included.

        """
        held: Held = record.detail["held"]
        if record.pid != os.getpid() or not held.is_running:
            return False
        if held.is_asynchronous:
            # Its sockets belong to an event loop that has ended, and can only be closed in there: they go with the process.
            return False
        client = record.resource()
        inner: Any = _inner_system(client) if held.is_remote else None
        if client is not None and hasattr(client, "close"):
            client.close()
        if self._shared_with_others(record):
            return True
        if held.is_running:
            if client is None and not self._is_over and held.sees_use():
                return False  # a collection goes on without its client, and so does the program
            held.system.stop()
        held.forget()
        for other in [one for one in self._new if inner is not None and one.system is inner]:
            if other.is_running:
                inner.stop()
            other.forget()
        return True

    def has_more(self) -> bool:
        """Say whether there is something to close besides what is left over."""
        return bool(self.looks.residue or self._new)

    def close_rest(self) -> None:
        """Close what belongs to no client that anybody has.

        That is the System of the admin client inside of an HTTP client, the one that a failed constructor has left, and the sockets that
        ``HttpClient.close()`` of chromadb itself keeps.
        """
        for held in [*self._new, *(held for held, _ in self.looks.residue)]:
            if held.is_asynchronous or (not self._is_over and held.sees_use()):
                continue
            if held.is_running:
                guard.call("chromadb", held.system.stop)
            held.forget()
        self._new = [held for held in self._new if held.is_running]

    def _shared_with_others(self, record: Record) -> bool:
        return any(
            other is not record and other.detail["held"] is record.detail["held"] and other.detail.get("closed") is None
            for other in clients(self.registry)
        )

    # -- fork --------------------------------------------------------------------------------------------------------

    def forked(self) -> None:
        """Let go of what belongs to the parent, and have its first use in this child told; called before records are dropped."""
        self._opening.clear()
        self._new.clear()
        self._inherited.clear()
        self.looks.forget()
        for record in clients(self.registry):
            for component in components(record.detail["held"].system):
                bindings = vars(component).get(BINDINGS)
                if bindings is not None and not isinstance(bindings, Stranger):
                    setattr(component, BINDINGS, Stranger(bindings, partial(self._uses, record), _HARMLESS))

    def _uses(self, record: Record, frame: FrameType | None) -> None:
        def tell() -> None:
            where = way_out(frame, "chromadb")
            evidence = [
                f"used in {where}, in a child that was forked after it was made",
                "its threads are in the parent: the call waits for ever",
            ]
            self._inherited.append(Stall(record, BLOCKS_EXIT, [], evidence, fix=_AFTER_FORK))
            if self.tell is not None:
                self.tell(self._inherited[-1])

        guard.call("chromadb", tell)


def _constructs(frame: FrameType, client: object) -> bool:
    code = frame.f_code
    is_constructor = client is not None and code.co_name == "__init__" and code.co_argcount > 0
    return is_constructor and frame.f_locals.get(code.co_varnames[0]) is client


def _inner_system(client: Any) -> Any:  # noqa: ANN401 - chromadb's objects
    """Return the System of the admin client that a client of a server has made for itself."""
    return _system_of(getattr(client, "_admin_client", None))


def _system_of(client: Any) -> Any:  # noqa: ANN401 - chromadb's objects
    """Return the System of a client, or None if it has none."""
    try:
        return None if client is None else client._system  # noqa: SLF001 - chromadb's own name, in every version
    except KeyError:  # chromadb has forgotten it
        return None


def _calls() -> dict[int, FrameType]:
    """Return the outermost frame of chromadb in each other thread that is in one."""
    own = interpreter.thread_number()
    found = {}
    for thread, innermost in interpreter.frames().items():
        frame: FrameType | None = innermost if thread != own else None
        while frame is not None:
            if str(frame.f_globals.get("__name__", "")).startswith("chromadb."):
                found[thread] = frame
            frame = frame.f_back
    return found


class _Gone:
    """Stands on the class where the instance had the Rust bindings of chromadb."""

    def __get__(self, component: object, owner: type | None = None) -> object:
        if component is not None:
            stop_if_daemon()
        message = f"{getattr(owner, '__name__', owner)!r} object has no attribute {BINDINGS!r}"
        raise AttributeError(message)
