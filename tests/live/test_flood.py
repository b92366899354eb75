"""A flood of questions and garbage neither breaks the agent nor the program; what it costs is measured by ``benchmarks/flood.py``."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = """
import sys, threading
thread = threading.Thread(target=sys.stdin.readline)
thread.start()
print("ready", flush=True)
thread.join()
print("descriptors", len(__import__("os").listdir("/proc/self/fd")), flush=True)
"""

GARBAGE = (
    b'{"version": 1, "ask": "status"}\n',
    b'{"version": 1, "ask": ["dump"]}\n',
    b'{"version": 1, "ask": "' + b"x" * 3000 + b'"}\n',
    b"[" * 1000 + b"\n",
    b"\xff\x00\xfe" * 100,
    b"no end",
    b"\n",
    b"",
)
CLIENTS = 4
EACH = 32


def say(path: str, data: bytes) -> bytes:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(120)
            client.connect(path)
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))
    except OSError:  # it was sent away, or the queue was full
        return b""


def test_it_answers_after_a_flood_and_the_program_ends_as_ever(running: Callable[..., Any]) -> None:
    app = running(PROGRAM)
    assert app.line() == "ready"
    path = app.socket()
    directory = os.open(path.parent, os.O_RDONLY)
    name = f"/proc/self/fd/{directory}/{path.name}"  # the whole path may be longer than an address may be
    before = len(list(Path(f"/proc/{app.pid}/fd").iterdir()))
    answers: list[bytes] = []

    def flood(first: int) -> None:
        answers.extend(say(name, GARBAGE[number % len(GARBAGE)]) for number in range(first, first + EACH))

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(directory)
    told = [json.loads(answer) for answer in answers if answer]
    assert any("answer" in one for one in told)
    assert all(set(one) in ({"version", "answer"}, {"version", "error"}) for one in told)
    assert [one["state"] for one in app.json("ps", "--json")["processes"]] == ["running"]
    # One could be open at the moment of the count; a leak would be one for each client.
    app.until(lambda: len(list(Path(f"/proc/{app.pid}/fd").iterdir())) <= before, "no descriptor is left open")
    app.go_on()
    assert app.end() == (0, "")
