"""Workers of thread pools that wait for an answer that does not come.

A job that takes long is no leak, and most waits of a thread are meant (a queue, a lock, a child process, a server's socket).  Told is only a worker
whose thread the kernel has not run once for the whole threshold (its voluntary and forced switches have not changed,
proc(5)), while it was in one system call that receives from a TCP connection without a time limit, and the other end owes an answer, or
is a language model's (`leakagent.detect.stalled`).
"""

from __future__ import annotations

import os
import sys
import time

from leakagent.core.findings import STALLED
from leakagent.core.records import THREAD_POOL
from leakagent.core.sites import line_of
from leakagent.detect.stalled import Stall, is_a_model_client, is_attended, is_owed
from leakagent.shutdown import interpreter
from leakagent.shutdown.stuck import read
from leakagent.watcher import SHARE

from .waits import peer_times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Thread
    from types import CodeType, FrameType

    from leakagent.config import Settings
    from leakagent.core.records import Record
    from leakagent.core.registry import Registry

#: Numbers of ``read``, ``recvfrom`` and ``recvmsg``.
_RECEIVING = {"x86_64": ("0", "45", "47"), "aarch64": ("63", "207", "212")}


class _Seen:
    """A worker's thread, as it was at the last look."""

    __slots__ = ("looks", "since", "stall", "state")

    def __init__(self, state: str) -> None:
        self.state = state
        self.since = time.monotonic()
        self.looks = 0
        self.stall: Stall | None = None


class Workers:
    """Looks at the workers of every `concurrent.futures.ThreadPoolExecutor`."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Start without workers; ``settings.stalled_after`` is the threshold in seconds."""
        self.registry = registry
        self.threshold = settings.stalled_after
        self._receiving = _RECEIVING.get(os.uname().machine, ()) if sys.platform == "linux" else ()
        self._seen: dict[int, _Seen] = {}

    def forget(self) -> None:
        """Drop all that is known."""
        self._seen.clear()

    def look(self) -> list[Stall]:
        """Look once at every worker, and return those that have hung for the whole threshold."""
        stalls: list[Stall] = []
        seen: dict[int, _Seen] = {}
        for record in self.registry.of_kind(THREAD_POOL) if self._receiving else ():
            pool = record.resource()
            for thread in interpreter.pool_threads(pool) if pool is not None else ():
                number = thread.native_id or 0
                call = read(f"/proc/self/task/{number}/syscall")
                if call.partition(" ")[0] not in self._receiving:
                    continue
                state = call + _switches(number)
                one = self._seen.get(number)
                if one is None or one.state != state:
                    one = _Seen(state)
                seen[number] = one
                one.looks += 1
                if one.looks > SHARE and time.monotonic() - one.since >= self.threshold and one.stall is None:
                    one.stall = self._examine(record, thread, call, time.monotonic() - one.since)
                    if one.stall is not None:
                        stalls.append(one.stall)
        self._seen = seen
        return stalls

    def still_there(self) -> list[Stall]:
        """Return the stalls of workers that have not moved since."""
        return [
            one.stall
            for number, one in self._seen.items()
            if one.stall is not None and read(f"/proc/self/task/{number}/syscall") + _switches(number) == one.state
        ]

    def _examine(self, record: Record, thread: Thread, call: str, seconds: float) -> Stall | None:
        stack = _stack(interpreter.thread_frame(thread))
        paths = [code.co_filename for code, _ in stack]
        times = _times_of(int(call.split()[1], 16))
        if not stack or times is None or is_attended(paths):
            return None
        if is_a_model_client(paths):
            sign = "the answer of a language model has stopped"
        elif is_owed(*times, self.threshold):
            sign = f"the other end of its connection has not answered for {times[0] / 1000:.1f} s"
        else:
            return None
        chain = [(code.co_filename, line_of(code, lasti), code.co_name) for code, lasti in reversed(stack)]
        return Stall(record, STALLED, chain, [f"one job of a worker has made no progress for {seconds:.1f} s", sign])


def _switches(number: int) -> str:
    return "".join(line for line in read(f"/proc/self/task/{number}/status").splitlines() if "ctxt_switches" in line)


def _times_of(descriptor: int) -> tuple[int, int | None] | None:
    module = sys.modules.get("_socket")
    if module is None:
        return None
    try:
        socket = module.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        return peer_times(socket)
    finally:
        socket.detach()  # it is the program's


def _stack(frame: FrameType | None) -> list[tuple[CodeType, int]]:
    """Return code and offset of the frames of a job, innermost first."""
    stack: list[tuple[CodeType, int]] = []
    while frame is not None and not (
        frame.f_code.co_name == "run" and frame.f_globals.get("__package__") == "concurrent.futures"
    ):
        stack.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return stack
