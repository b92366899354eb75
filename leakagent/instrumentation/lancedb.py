"""lancedb connections and tables, and the one background loop that lancedb starts when it is imported.

A connection owns no thread and no file (measured: 50 more connections, not one descriptor), so it is referred to weakly.  A
synchronous connection has no ``close()`` of its own; what can be closed is the asynchronous one inside of it.  What stays is
process-wide: the thread and loop behind the synchronous interface (``lancedb.background_loop.LOOP``, 0.17 and newer), which can
abort the interpreter's end when work is in flight.

At the end of the program, in the process that imported it, once: refuse new calls, let what runs finish or cancel it, close the
connections, stop the loop, join, close it, in this order.  The object is changed and never replaced, since other modules have bound it by name, and its loop and
thread are read at that moment, since lancedb's own fork hook replaces them.

New calls are refused by exchanging the code of ``BackgroundEventLoop.run``: a thread may have looked up the method already
while it still computes the argument.  What runs is seen by the frames of the threads; a wrapper that counts would stand in every
traceback.

0.40 has an exit handler of its own, which shuts its native runtime down.  It keeps the runtime's lock while it takes the
interpreter's back: a daemon thread's call that is just being started on the loop has that one and waits for the lock, and the program
never ends (measured, 1 of 200 ends).  So it is taken out of the exit handlers and run at the end of ours, when nobody calls any more.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from types import BuiltinFunctionType

from leakagent import guard
from leakagent.core.findings import BLOCKS_EXIT
from leakagent.core.records import DROPPED, LANCEDB_CONNECTION, LANCEDB_LOOP, LANCEDB_TABLE
from leakagent.detect.stalled import Stall
from leakagent.shutdown import interpreter
from leakagent.shutdown.closing import stop_if_daemon

from . import lance_fork
from .inherited import outside_of
from .lance_loop import LOOK_AFTER, background_loop, drain_from_outside, end_thread, is_alive
from .lance_suites import LoopCheck
from .patching import hide_frames
from .protocol import Instrumentation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import CodeType, FrameType, ModuleType
    from typing import Any, ClassVar

    from leakagent.config import Settings
    from leakagent.core.records import Record
    from leakagent.core.registry import Registry

    from .patching import Patches


#: Module -> class -> kind; the synchronous classes up to 0.16.
_PATCHED = {
    "lancedb.db": {"AsyncConnection": LANCEDB_CONNECTION, "LanceDBConnection": LANCEDB_CONNECTION},
    "lancedb.table": {"AsyncTable": LANCEDB_TABLE, "LanceTable": LANCEDB_TABLE},
    "lancedb.remote.db": {"RemoteDBConnection": LANCEDB_CONNECTION},
}

#: Asynchronous, and what it returns has no ``close()`` either.
_NO_CLOSE = ("connect_namespace_async",)

_AFTER_FORK = "start children by spawn or forkserver, or import lancedb in the child only"


class LanceConnections(Instrumentation):
    """Sees lancedb's connections and tables."""

    kinds: ClassVar[Mapping[str, str]] = {LANCEDB_CONNECTION: "", LANCEDB_TABLE: ""}

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Start without connections."""
        super().__init__(registry, settings)
        self._inherited: list[Stall] = []
        self.loop_pid = 0
        self._check = LoopCheck(registry)
        self._patches: Patches | None = None
        #: lancedb's own exit handler, and whether its turn has come.
        self._shutdown: Callable[[], object] | None = None
        self.is_over = False

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch a module of `leakagent.instrumentation.TARGETS`."""
        if module.__name__ == "lancedb.background_loop":
            self.loop_pid = os.getpid()
            self._patches = patches
            self._take_exit_handler()
        classes = _PATCHED.get(module.__name__, {})
        if classes and not any(hasattr(module, name) for name in classes):
            message = f"{module.__name__} has none of {', '.join(classes)}"
            raise AttributeError(message)
        for name, kind in classes.items():
            # Behind the synchronous classes stand asynchronous ones from 0.17 on, where these modules know the background loop.
            # A remote one is made on that loop's thread, where its line is not to be seen.
            if hasattr(module, name) and (name.startswith(("Async", "Remote")) or not hasattr(module, "LOOP")):
                self._patch(patches, getattr(module, name), kind)

    def _patch(self, patches: Patches, owner: type, kind: str) -> None:
        def made(wrapped: Callable[..., Any], resource: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
            try:
                result = wrapped(*args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            guard.call("lancedb", self._note, kind, resource, interpreter.caller(1))
            if owner.__name__.startswith("Remote"):
                guard.call("lancedb", self._is_part, getattr(resource, "_conn", None))
            return result

        def closed(wrapped: Callable[..., Any], resource: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
            try:
                result = wrapped(*args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            for record in self.registry.of_kind(kind):
                if record.resource() is resource:
                    self.registry.finish(record)
            return result

        patches.wrap(owner, "__init__", made)
        if "is_open" in vars(owner):
            patches.wrap(owner, "close", closed)

    def _note(self, kind: str, resource: Any, frame: FrameType | None) -> None:  # noqa: ANN401
        inside, outermost = frame, ""
        while inside is not None and str(inside.f_globals.get("__name__", "")).partition(".")[0] == "lancedb":
            outermost = inside.f_code.co_name
            inside = inside.f_back
        record = self.registry.add(kind, resource, inside)
        record.detail["synchronous"] = bool(outermost) and (not outermost.endswith("_async") or outermost in _NO_CLOSE)
        # What lancedb makes for itself, on its own loop's thread, has nobody's line behind it.
        record.detail["internal"] = _on_background_loop()

    def _is_part(self, core: object) -> None:
        """Take an asynchronous connection for what is inside of another: up to 0.16 it is made on the caller's own loop."""
        for record in self.registry.of_kind(LANCEDB_CONNECTION):
            if core is not None and record.resource() is core:
                record.detail["internal"] = True

    def adopt(self, found: list[tuple[Any, str]]) -> int:
        """Note open connections that were made before the agent, each with what the program calls it, and return how many there are.

        Tables are not looked for: they go with their connection.
        """
        made = {id(record.resource()) for record in self.registry.of_kind(LANCEDB_CONNECTION)}
        holders = {id(vars(one).get("_conn")): (one, name) for one, name in found}
        number = 0
        for connection, name in found:
            holder, holders_name = holders.get(id(connection), (None, name))
            # As in `arrived` and `_note`: of a synchronous connection it is the one inside of it, of a remote one it is not.
            is_seen = type(connection).__name__.startswith(("Async", "Remote")) or not hasattr(sys.modules["lancedb.db"], "LOOP")
            if not is_seen or "Remote" in type(holder).__name__ or id(connection) in made or not _is_open(connection):
                continue
            record = self.registry.adopt(LANCEDB_CONNECTION, connection, None, name=holders_name)
            record.detail["synchronous"] = holder is not None or not type(connection).__name__.startswith("Async")
            record.detail["internal"] = False
            number += 1
        return number

    def left_over(self) -> list[Record]:
        """Return the records of open connections and tables, and of asynchronous connections that were dropped open.

        To let go of a synchronous connection is the only way to end it.
        """
        left = []
        for record in self.registry.of_kind(LANCEDB_CONNECTION, LANCEDB_TABLE):
            resource = record.resource()
            dropped = record.state == DROPPED or resource is None
            # A table is its connection's business once it is gone.
            ended_so = record.kind == LANCEDB_TABLE or record.detail["synchronous"]
            gone = ended_so if dropped else not _is_open(resource)
            if gone or record.detail["internal"]:
                self.registry.finish(record)
            else:
                left.append(record)
        return left

    def close(self, record: Record) -> bool:
        """Close a connection or table that is still open; returns whether there was one that can be closed."""
        core = _core(record.resource())
        if core is None or record.pid != os.getpid() or not _is_open(core) or not hasattr(core, "is_open"):
            return False
        core.close()
        return True

    def is_alive(self, record: Record) -> bool:
        """Say whether it is a connection that the program has; tables go with theirs."""
        return super().is_alive(record) and self.is_told(record) and not record.detail["internal"]

    def is_told(self, record: Record) -> bool:
        """Say whether it is no table: its connection is told."""
        return record.kind != LANCEDB_TABLE

    def has_more(self) -> bool:
        """Say whether there is something to close besides what is left over."""
        return self.is_over or self.has_loop()

    def forked(self) -> None:
        """Have the first call in this forked child told, if it can't come back."""
        self._inherited.clear()
        lance_fork.watch(partial(guard.call, "lancedb", self._hangs))

    def _hangs(self) -> None:
        frame = interpreter.caller(2)
        record = self.registry.note(LANCEDB_LOOP, outside_of(frame, "lancedb", "leakagent"))
        version = getattr(sys.modules.get("lancedb"), "__version__", "")
        evidence = [
            f"process {os.getpid()} was forked after lancedb was imported, and lancedb {version} is not fork-safe",
            "the threads that would answer are in the parent: the call waits for ever",
        ]
        self._inherited.append(Stall(record, BLOCKS_EXIT, [], evidence, fix=_AFTER_FORK))
        if self.tell is not None:
            self.tell(self._inherited[-1])

    def seen(self) -> list[Stall]:
        """Return what the report tells besides the connections that are left over."""
        return list(self._inherited)

    def has_loop(self) -> bool:
        """Say whether lancedb's background loop belongs to this process and runs."""
        return self.loop_pid == os.getpid() and is_alive(background_loop())

    def abandoned_loops(self, owner: object, code: CodeType | None) -> list[Record]:
        """Return what a test has left of lancedb's background loop (`leakagent.instrumentation.lance_suites`)."""
        return self._check.abandoned(owner, code) if self.loop_pid == os.getpid() else []

    def refuse(self, records: list[Record], seconds: float, *, final: bool) -> None:  # noqa: ARG002 - all calls go by one loop
        """Refuse new calls on lancedb's background loop, and let what runs there finish or cancel it.

        Args:
            records: What is going to be closed.
            seconds: How long work in flight may take.
            final: The program ends: daemon threads that call are stopped and not told (`leakagent.shutdown.closing`).

        """
        if not self.has_loop():
            return
        background = background_loop()
        deadline = time.monotonic() + seconds / 2
        code = _exchange_run(background, final=final)
        while any(one is code for one in _running_code()) and time.monotonic() < deadline:
            time.sleep(LOOK_AFTER)
        drain_from_outside(background, max(deadline - time.monotonic(), 0), seconds / 4)

    def _take_exit_handler(self) -> None:
        import atexit

        taken = _Taken()
        atexit.unregister(taken)  # type: ignore[arg-type]
        if taken.handler is not None:
            self._shutdown = taken.handler
            atexit.register(self._at_exit)

    def _at_exit(self) -> None:
        self.is_over = True
        if self._patches is None or not self._patches.names():
            self.shut_down()

    def shut_down(self) -> None:
        """Do what lancedb's own exit handler does, once, if the program has come to it."""
        if self.is_over and self._shutdown is not None:
            shutdown, self._shutdown = self._shutdown, None
            try:
                shutdown()
            except BaseException as error:  # noqa: BLE001 - a Rust panic is no Exception
                guard.failed("lancedb", error)

    def stop_loop(self, seconds: float) -> bool:
        """Stop lancedb's background loop for good, after `refuse`.

        Args:
            seconds: How long its thread may take.

        Returns:
            Whether the thread has ended; if not, its loop is left open.

        """
        background = background_loop()
        if background is None or not self.has_loop():
            return True
        return end_thread(background, max(0.05, seconds))


class _Taken:
    """Equal to lancedb's exit handler, which no module has a name for, and remembers it.

    ``atexit.unregister`` compares with ``==`` (https://docs.python.org/3/library/atexit.html#atexit.unregister).
    """

    __hash__ = None  # type: ignore[assignment]
    handler: Callable[[], object] | None = None

    def __eq__(self, other: object) -> bool:
        if getattr(other, "__name__", "") != "shutdown_runtime" or not isinstance(other, BuiltinFunctionType):
            return False
        self.handler = other
        return True


def _exchange_run(background: Any, *, final: bool) -> CodeType | None:  # noqa: ANN401 - lancedb's object
    """Have all calls refused from now on; returns the code that earlier ones are in."""
    run = type(background).run
    code: CodeType | None = getattr(run, "__code__", None)
    if code is None or code.co_freevars or "run" in vars(background):  # somebody has put another in its place
        background.run = lambda future: refuse_call(future, final=final)
    else:
        run.__code__ = (_stopping_run if final else _refusing_run).__code__
    return code


def _running_code() -> Iterator[CodeType]:
    """Return the code of all functions that other threads are in."""
    own = sys.modules["threading"].get_ident()
    for thread, innermost in interpreter.frames().items():
        frame = innermost if thread != own else None
        while frame is not None:
            yield frame.f_code
            frame = frame.f_back


# Their code takes the place of the code of ``run``, with the variables of lancedb's module.


def _stopping_run(_self: Any, future: Any) -> None:  # noqa: ANN401
    from leakagent.instrumentation.lancedb import refuse_call

    refuse_call(future, final=True)


def _refusing_run(_self: Any, future: Any) -> None:  # noqa: ANN401
    from leakagent.instrumentation.lancedb import refuse_call

    refuse_call(future, final=False)


def refuse_call(future: Any, *, final: bool) -> None:  # noqa: ANN401 - a coroutine
    """Refuse a call on the background loop; a daemon thread is stopped instead when the program ends.

    Raises:
        RuntimeError: The loop was closed.

    """
    if final:
        stop_if_daemon()
    close = getattr(future, "close", None)
    if close is not None:
        close()
    message = "lancedb was closed by leakagent: " + ("the program is ending" if final else "leakagent.shutdown() was called")
    raise RuntimeError(message)


def _on_background_loop() -> bool:
    thread = getattr(background_loop(), "thread", None)
    return thread is not None and thread is sys.modules["threading"].current_thread()


def _core(resource: Any) -> Any:  # noqa: ANN401
    """Return what can be closed: of a remote connection the asynchronous one inside of it, whose ``close()`` is no coroutine."""
    return getattr(resource, "_conn", resource) if "Remote" in type(resource).__name__ else resource


def _is_open(resource: Any) -> bool:  # noqa: ANN401
    is_open = getattr(_core(resource), "is_open", None)
    return bool(is_open()) if callable(is_open) else True
