"""Children of `subprocess`: all go through ``Popen.__init__``, those of `asyncio` too.

uvloop starts its own, in no Python code: they are seen when ``asyncio.subprocess.Process`` takes them, and not where a program
uses ``loop.subprocess_exec`` without it.

A ``Popen`` object is kept weakly: Python warns when one is dropped whose process still runs.  A process is known by its pid and start
time.  It is left over only if it runs on after the program: not if it has been told to end, if it has a session of its own, or if it reads
from a pipe of the program's, which closes.  One that has ended and that nobody has waited for stays in the table of processes (a
zombie) as long as the program runs: one of a place may just be about to be waited for, several are told.
"""

from __future__ import annotations

import os
import sys
import time

from leakagent import guard
from leakagent.core import findings as f
from leakagent.core.records import SUBPROCESS
from leakagent.core.sites import outside_of_constructors
from leakagent.shutdown import interpreter

from .patching import hide_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType
    from typing import Any

    from leakagent.config import Settings
    from leakagent.core.records import Record
    from leakagent.core.registry import Registry
    from leakagent.processes.guardian import Guardian

    from .patching import Patches

#: Records after which those of processes that have ended are looked for.
_MANY = 32

#: Seconds that a process gets at the end of the program to end by itself, and to be gone when it is killed.
_LAST_MOMENT = 0.2

_TERM, _KILL = 15, 9


class Subprocesses:
    """Sees children of `subprocess`."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        """Start without any."""
        self.registry = registry
        self.ends = settings.subprocesses != "keep"
        self._guards = settings.subprocesses == "guard"
        self._guardian: Guardian | None = None
        self._records: list[Record] = []
        self._limit = _MANY

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch `subprocess`, or `asyncio.subprocess`."""
        if module.__name__ == "asyncio.subprocess":
            patches.replace(module.Process, "__init__", self._make_process_init)
            for name in ("send_signal", "terminate", "kill"):
                patches.replace(module.Process, name, self._make_process_signal)
            return
        patches.replace(module.Popen, "__init__", self._make_init)
        patches.replace(module.Popen, "send_signal", self._make_send_signal)

    def _make_init(self, original: Callable[..., None]) -> Callable[..., None]:
        def __init__(popen: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, N807 - takes the place of the method
            try:
                original(popen, *args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            guard.call("subprocesses", self._note, popen, interpreter.caller(1))

        if sys.flags.warn_default_encoding:
            # `subprocess` warns of the first line outside of its own file.
            __init__.__code__ = __init__.__code__.replace(co_filename=original.__code__.co_filename)
        return __init__

    def _make_send_signal(self, original: Callable[..., None]) -> Callable[..., None]:
        def send_signal(popen: Any, sig: int) -> None:  # noqa: ANN401
            try:
                original(popen, sig)
            except BaseException as error:
                hide_frames(error)
                raise
            guard.call("subprocesses", self._told_to_end, popen)

        return send_signal

    def _make_process_init(self, original: Callable[..., None]) -> Callable[..., None]:
        def __init__(process: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, N807
            try:
                original(process, *args, **kwargs)
            except BaseException as error:
                hide_frames(error)
                raise
            guard.call("subprocesses", self._note_other, process, args[:1], interpreter.caller(1))

        return __init__

    def _note_other(self, process: Any, transports: tuple[object, ...], frame: FrameType | None) -> None:  # noqa: ANN401
        """Note a process that was not started by `subprocess`."""
        if transports and not interpreter.is_transport_of_popen(transports[0]):
            self._note(process, frame)

    def _make_process_signal(self, original: Callable[..., None]) -> Callable[..., None]:
        def tell(process: Any, *args: Any) -> None:  # noqa: ANN401
            try:
                original(process, *args)
            except BaseException as error:
                hide_frames(error)
                raise
            guard.call("subprocesses", self._told_to_end, process)

        return tell

    def _note(self, popen: Any, frame: FrameType | None) -> None:  # noqa: ANN401
        if len(self._records) >= self._limit:
            self.alive()
            self._limit = max(_MANY, 2 * len(self._records))
        program = _program_of(popen)
        record = self.registry.add(SUBPROCESS, popen, outside_of_constructors(frame, popen), name=f"{program} (pid {popen.pid})")
        self._keep(record, popen, program)

    def adopt(self, popens: list[Any]) -> int:
        """Note children that were started before the agent, and return how many there are."""
        known = {id(record.resource()) for record in self._records}
        new = [popen for popen in popens if id(popen) not in known]
        for popen in new:
            program = _program_of(popen)
            record = self.registry.adopt(SUBPROCESS, popen, None, name=f"{program} (pid {popen.pid})")
            self._keep(record, popen, program)
        return len(new)

    def _keep(self, record: Record, popen: Any, program: str) -> None:  # noqa: ANN401
        # Here and not at the top: asyncio imports subprocess, and most of its programs start no process.
        from leakagent.processes import ledger
        from leakagent.processes.identity import look

        seen = look(popen.pid)
        record.detail.update(pid=popen.pid, start=seen.start if seen else "", told=False, piped=popen.stdin is not None)
        self._records.append(record)
        guard.call("ledger", ledger.own.note, popen.pid, SUBPROCESS, program, record.code, record.lasti)
        if self._guards:
            guard.call("guardian", self._have_guarded, record)

    def _have_guarded(self, record: Record) -> None:
        if "guardian" in guard.disabled:
            return
        if self._guardian is None:
            from leakagent.processes.guardian import Guardian

            self._guardian = Guardian()
        self._guardian.watch(record.detail["pid"], record.detail["start"])

    def _told_to_end(self, popen: Any) -> None:  # noqa: ANN401
        for record in self._records:
            if record.resource() is popen:
                record.detail["told"] = True
                if self._guardian is not None:
                    self._guardian.leave(popen.pid)

    def alive(self) -> list[Record]:
        """Return the records of children that still run; those that somebody has waited for are finished."""
        left = []
        if self._records:
            from leakagent.processes.identity import look
        for record in list(self._records):
            popen = record.resource()
            ended = popen is not None and popen.returncode is not None
            seen = look(record.detail["pid"])
            if ended or seen is None or seen.start != record.detail["start"]:
                self.registry.finish(record)
                self._records.remove(record)
            elif seen.runs:
                left.append(record)
        return left

    def zombies(self) -> list[Record]:
        """Return the records of children that have ended by themselves and that nobody has waited for, if there are several of a place."""
        alive = self.alive()
        places: dict[tuple[object, int], list[Record]] = {}
        for record in self._records:
            if record not in alive and not record.detail["told"]:
                places.setdefault((record.code, record.lasti), []).append(record)
        return [record for records in places.values() if len(records) > 1 for record in records]

    def left_over(self) -> list[Record]:
        """Return the records of children that are going to outlive the program; they get a moment to end by themselves."""
        end = time.monotonic() + _LAST_MOMENT
        while left := [record for record in self.alive() if _outlives(record)]:
            if time.monotonic() >= end:
                break
            time.sleep(0.01)
        return left

    def end(self, records: list[Record], seconds: float) -> dict[int, str]:
        """End children: ask, wait, kill; for each record the action of `leakagent.core.findings`."""
        from leakagent.processes.identity import is_running

        done: dict[int, str] = {}
        for action, number, wait in ((f.TERMINATED, _TERM, seconds), (f.KILLED, _KILL, 1.0)):
            left = [record for record in records if record.id not in done]
            for record in left:
                # A child whose status nobody has asked for keeps its pid.
                if is_running(record.detail["pid"], record.detail["start"]):
                    os.kill(record.detail["pid"], number)
            end = time.monotonic() + wait
            while left and time.monotonic() < end:
                left = [record for record in left if is_running(record.detail["pid"], record.detail["start"])]
                time.sleep(0.01 if left else 0)
            done.update({record.id: action for record in records if record.id not in done and record not in left})
        return done

    def dismiss(self) -> None:
        """Send the guardian away: the program ends as it should."""
        if self._guardian is not None:
            self._guardian.end()
            self._guardian = None

    def forked(self) -> None:
        """Forget everything in a forked child."""
        self._records.clear()
        if self._guardian is not None:
            self._guardian.forked()
            self._guardian = None


def _outlives(record: Record) -> bool:
    from leakagent.processes.identity import look

    seen = look(record.detail["pid"])
    if seen is None or record.detail["told"] or record.detail["piped"]:
        return False
    return seen.parent == os.getpid() and seen.session == os.getsid(0)


def _program_of(popen: Any) -> str:  # noqa: ANN401 - a Popen, or asyncio's Process
    if hasattr(popen, "args"):
        return _program(popen.args)
    from leakagent.processes.identity import words_of

    return _program(words_of(popen.pid))


def _program(args: Any) -> str:  # noqa: ANN401 - whatever `subprocess` takes
    first = args if isinstance(args, (str, bytes, os.PathLike)) else next(iter(args), "")
    words = os.fsdecode(first).split() or [""]
    return os.path.basename(words[0])
