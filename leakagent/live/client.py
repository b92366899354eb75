"""Asks the processes of this user; used by the commands, never in the program."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

from leakagent.processes.family import runtime_folder
from leakagent.report.words import safe

from . import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Seconds until a process must have answered; it may be busy in C code that does not let its other threads run.
SECONDS = 10.0

#: Seconds that a process is waited for which has no socket, and between two looks.
YOUNG, _MOMENT = 1.0, 0.02

#: What is said if there is no process that can be asked.
NOBODY = "no process of yours can be asked; `python -m leakagent app.py` and LEAKAGENT=1 start some that can"

#: Processes that are asked at once: those that are stopped must not be waited for one after the other.
_AT_ONCE = 16


class NoAnswerError(Exception):
    """A process can't be asked, with what to tell the user."""


def everybody(seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Return the status of each process of this user that has a socket, by pid.

    One that does not answer in ``seconds`` is there with ``"state": "silent"``, its pid, and as ``program`` its whole command line.
    """

    def status(entry: tuple[int, str]) -> dict[str, Any] | None:
        pid, name = entry
        try:
            return dict(_exchange(name, pid, "status", seconds))
        except NoAnswerError:
            if any(name == other for _, other in protocol.sockets()):  # else it has ended, or forks, in this moment
                return {"pid": pid, "state": "silent", "program": _command_line(pid)}
            return None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [one for one in pool.map(status, protocol.sockets()) if one is not None]


def _command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(4096).replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def ask(pid: int, word: str, seconds: float = SECONDS) -> Any:  # noqa: ANN401 - JSON values
    """Ask one process.

    Args:
        pid: Its pid.
        word: The question.
        seconds: How long it may take.

    Raises:
        NoAnswerError: It has no socket, or did not answer.

    """
    names = _names(pid)
    end = time.monotonic() + YOUNG
    # A program that was just started, or forks, has its socket in a moment.
    while not names and os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
        time.sleep(_MOMENT)
        names = _names(pid)
    if not names:
        message = f"no agent can be asked in process {pid}: `leakagent ps` lists those that can; `leakagent attach {pid}` starts one (from Python 3.14 on)"
        raise NoAnswerError(message)
    return _exchange(names[0], pid, word, seconds)


def _names(pid: int) -> list[str]:
    return [name for other, name in protocol.sockets() if other == pid]


def _exchange(name: str, pid: int, word: str, seconds: float) -> Any:  # noqa: ANN401
    end = time.monotonic() + seconds
    try:
        document = json.loads(_talk(name, json.dumps({"version": protocol.VERSION, "ask": word}).encode() + b"\n", end))
    except TimeoutError:
        message = f"process {pid} did not answer in {seconds:g} s: it is stopped, or busy in code that keeps its other threads from running"
        raise NoAnswerError(message) from None
    except (OSError, ValueError, RecursionError) as error:
        message = f"process {pid} did not answer: {safe(error) or type(error).__name__}"
        raise NoAnswerError(message) from None
    if not isinstance(document, dict) or document.get("version") != protocol.VERSION or "answer" not in document:
        why = document.get("error") if isinstance(document, dict) else None
        message = f"process {pid} answered: {safe(why or 'something that this version does not know')}"
        raise NoAnswerError(message)
    return document["answer"]


def _talk(name: str, question: bytes, end: float) -> bytes:
    directory = os.open(runtime_folder(create=False), os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(_left(end))
            # The whole path may be longer than an address may be.
            server.connect(f"/proc/self/fd/{directory}/{name}")
            owner = struct.unpack("3i", server.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
            if owner != os.getuid():
                message = "it belongs to somebody else"
                raise OSError(message)
            server.sendall(question)
            found = bytearray()
            while len(found) <= protocol.ANSWER:
                server.settimeout(_left(end))
                part = server.recv(65536)
                if not part:
                    return bytes(found)
                found += part
    finally:
        os.close(directory)
    message = "the answer is too long"
    raise OSError(message)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
