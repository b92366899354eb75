"""Reads from outside what a task waits for: its frames, who waits for it, the timers that will end it, its connection.

Everything here runs in the agent's own thread while the program goes on, so no code of the program may be called: no attribute of a
foreign object is asked for, references are followed by ``gc.get_referents``, and locals are not read by name (before 3.13 ``f_locals`` would keep
them alive).
"""

from __future__ import annotations

import gc
import sys

from leakagent.core.sites import line_of
from leakagent.detect.lost import leads_on
from leakagent.shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterable
    from types import CodeType
    from typing import Any

#: Objects that are looked at from one timer or callback on; what is further away has nothing to do with it.
_NEAR = 200

#: Timers that are looked at; a loop with more of them vouches for every task.
_MOST_TIMERS = 2_000

#: Steps of an await chain that are read.
_LONGEST_CHAIN = 40

#: Bytes of ``struct tcp_info`` up to the last field that is read (Linux 4.1), and ``TCP_ESTABLISHED``.
_TCP_INFO_SIZE, _ESTABLISHED = 136, 1

_OPAQUE = {"coroutine", "generator", "async_generator", "frame", "module", "type", "code", "Context", "Logger"}


class Wait:
    """What a task waits for.

    Attributes:
        steps: Code and instruction offset of each frame of the await chain, outermost first.
        frames: The awaitables of the chain, which refer to what is in their frames.

    """

    __slots__ = ("awaitables", "steps")

    def __init__(self, task: Any) -> None:  # noqa: ANN401 - a task
        """Walk down the await chain of a task."""
        self.steps: list[tuple[CodeType, int]] = []
        self.awaitables: list[Any] = []
        step = task.get_coro()
        while step is not None and len(self.steps) < _LONGEST_CHAIN:
            kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(type(step), kind + "_frame")), "")
            if not kind:
                # An asynchronous generator's step does not tell whose it is; what it refers to does.
                step = next((one for one in gc.get_referents(step) if type(one).__name__ == "async_generator"), None)
                continue
            frame = getattr(step, kind + "_frame")
            if frame is not None:
                self.steps.append((frame.f_code, frame.f_lasti))
                self.awaitables.append(step)
            step = getattr(step, "gi_yieldfrom" if kind == "gi" else kind + "_await")

    def is_being_cancelled(self) -> bool:
        """Say whether one of the frames is in the middle of handling a cancellation: a ``finally`` or ``except`` that waits."""
        # A coroutine refers to the exception that it handles (``gi_exc_state``, visited by ``gen_traverse`` of Objects/genobject.c).
        return any(is_a(held, "CancelledError") for awaitable in self.awaitables for held in gc.get_referents(awaitable))

    @property
    def places(self) -> list[tuple[str, str]]:
        """Path and function of each frame."""
        return [(code.co_filename, code.co_name) for code, _ in self.steps]

    def lines(self) -> list[tuple[str, int, str]]:
        """Return path, line and function of each frame."""
        return [(code.co_filename, line_of(code, lasti), code.co_name) for code, lasti in self.steps]

    def connection(self) -> Any:  # noqa: ANN401 - a transport or a socket
        """Return the transport or socket that the innermost frames use, or None if there is none, or several."""
        for awaitable in reversed(self.awaitables[-3:]):
            found = near(_held_by(awaitable), _is_connection, levels=3)
            if found:
                return found[0] if len(found) == 1 else None
        return None


def _held_by(awaitable: object) -> list[Any]:
    held: list[Any] = []
    for one in gc.get_referents(awaitable):
        # 3.10 has a frame object in between.
        held += gc.get_referents(one) if type(one).__name__ == "frame" else [one]
    return held


def is_a(value: object, *names: str) -> bool:
    """Say whether a class of that name is among the classes of an object; asked without calling anything of the object's."""
    return any(base.__name__ in names for base in type(value).__mro__)


def _is_connection(value: object) -> bool:
    return is_a(value, "socket") or any(
        "get_extra_info" in vars(base) and "is_closing" in vars(base) for base in type(value).__mro__
    )


def near(start: Iterable[object], wanted: Callable[[object], bool], *, levels: int) -> list[Any]:
    """Return the objects near ``start`` that are ``wanted``; the search does not pass through tasks, frames, loops and classes."""
    found: list[Any] = []
    level = list(start)
    seen: set[int] = set()
    for _ in range(levels):
        following: list[Any] = []
        for value in level:
            if id(value) in seen or len(seen) > _NEAR:
                continue
            seen.add(id(value))
            if wanted(value):
                found.append(value)
            elif _is_transparent(value):
                following += gc.get_referents(value)
        level = following
    return found


def _is_transparent(value: object) -> bool:
    if type(value).__name__ in _OPAQUE or is_a(value, "Task") or not leads_on(value):
        return False
    return not (type(value) is dict and "__builtins__" in value)


def _is_future(value: object) -> bool:
    return is_a(value, "Future", "Task")


def waiting_for(future: object) -> list[Any]:
    """Return the tasks and futures that wait for a future or task, directly or through others, ``gather``, ``wait`` and ``shield``."""
    waiting: list[Any] = []
    known = {id(future)}
    level = [future]
    while level and len(known) < _NEAR:
        following = []
        for callback in [callback for one in level for callback in interpreter.callbacks_of(one)]:
            # A task's own wake-up refers to it directly; a closure of ``gather`` refers to what it gathers as well.
            direct = [one for one in gc.get_referents(callback) if is_a(one, "Task")]
            for one in direct or [one for one in near([callback], _is_future, levels=5) if not is_a(one, "Task")]:
                if id(one) not in known:
                    known.add(id(one))
                    following.append(one)
        waiting += following
        level = following
    return waiting


def is_main(task: object) -> bool:
    """Say whether ``run_until_complete`` waits for a task."""
    return any(_name_of(callback) == "_run_until_complete_cb" for callback in interpreter.callbacks_of(task))


def stands_for_another(future: object) -> bool:
    """Say whether a future stands for a job in an executor (``run_in_executor``, ``wrap_future``) or another task (``shield``)."""
    return any(
        _name_of(callback) in {"_call_check_cancel", "_outer_done_callback"} for callback in interpreter.callbacks_of(future)
    )


def _name_of(callback: object) -> str:
    # uvloop's are functions of Cython, which have a name as well.
    return str(getattr(callback, "__name__", "")) if "function" in type(callback).__name__ else ""


def ended_by_timers(loops: Iterable[AbstractEventLoop]) -> set[int] | None:
    """Return the numbers (``id``) of all futures and tasks that a timer will complete or cancel; None if there are too many timers."""
    timers: list[Any] = []
    ask_collector = False
    for loop in loops:
        known = interpreter.timers_of(loop)
        ask_collector |= known is None
        timers += known or ()
    if ask_collector:
        # uvloop keeps them in C, but the collector knows them.
        timers += [
            one for one in gc.get_objects() if type(one).__name__ == "TimerHandle" and type(one).__module__ == "uvloop.loop"
        ]
    if len(timers) > _MOST_TIMERS:
        return None
    ended: set[int] = set()
    for timer in timers:
        ended.update(map(id, near(gc.get_referents(timer), _is_future, levels=6)))
    return ended


def peer_times(connection: Any) -> tuple[int, int | None] | None:  # noqa: ANN401 - a transport or a socket
    """Return how many milliseconds ago data went out through a TCP connection of our own making, and came in (None: never).

    None if it is no such connection, if it was accepted, if nothing was sent, or if the kernel does not tell.
    """
    socket = sys.modules.get("_socket")
    if socket is None or not hasattr(socket, "TCP_INFO") or interpreter.is_server_side(connection):
        return None
    try:
        if not is_a(connection, "socket"):
            connection = connection.get_extra_info("socket")
        if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
            return None
        data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        port = connection.getsockname()[1]
    except (OSError, AttributeError, NotImplementedError, TypeError):
        return None
    if len(data) < _TCP_INFO_SIZE or data[0] != _ESTABLISHED or _is_listened_at(port):
        return None

    def number(start: int, size: int) -> int:
        return int.from_bytes(data[start : start + size], sys.byteorder)

    # struct tcp_info of linux/tcp.h; the connection request counts as one byte that was acknowledged.
    last_sent, last_received, acknowledged, received = number(44, 4), number(52, 4), number(120, 8), number(128, 8)
    if acknowledged <= 1:
        return None
    return last_sent, last_received if received else None


def _is_listened_at(port: int) -> bool:
    """Say whether somebody listens at a port (proc_net_tcp(5)): a connection at such a port was accepted."""
    end = f":{port:04X}"
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/self/net/{name}", encoding="ascii") as file:
                rows = [line.split()[1:4] for line in file]
        except OSError:
            continue
        if any(len(row) > 2 and row[0].endswith(end) and row[2] == "0A" for row in rows):  # noqa: PLR2004
            return True
    return False
