"""A port on which Prometheus finds the metrics (``OTEL_METRICS_EXPORTER=prometheus``).

The problem.  The exporter's own server starts a thread of `threading` for itself and one for each request: the program would see
them, wait for some, and warn at a fork because of them.

What we do.  A listening socket that the agent's one thread answers while it waits for the next export, one request after the other.
Before a fork that thread ends as always; requests wait in the kernel's queue in the meantime.  A forked child closes what it has
inherited: the port belongs to one process.
"""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import ExitStack, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that one request may take, and bytes that its head may have.
REQUEST_SECONDS = 2.0
_HEAD = 65536
_PATHS = {"/", "/metrics"}


class Endpoint:
    """Listens, and answers in the thread that calls `serve`."""

    def __init__(self, host: str, port: int) -> None:
        """Listen on every address of a host.

        Args:
            host: Name or address; the default of the specification is ``localhost``.
            port: The port.

        Raises:
            OSError: It can't be listened on: in use, not allowed, no such host.

        """
        self._bell, self._rope = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._listeners: list[socket.socket] = []
        with ExitStack() as undo:
            undo.callback(self.close)
            for family, _, _, _, address in sorted(
                set(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))
            ):
                self._listen(family, address)
            if not self._listeners:
                message = f"{host} has no address"
                raise OSError(message)
            self._rope.setblocking(False)
            self._selector.register(self._bell, selectors.EVENT_READ)
            for one in self._listeners:
                self._selector.register(one, selectors.EVENT_READ)
            undo.pop_all()

    def _listen(self, family: int, address: tuple[object, ...]) -> None:
        try:
            one = socket.socket(family, socket.SOCK_STREAM)
        except OSError:  # a machine without IPv6
            return
        self._listeners.append(one)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            one.bind(address)
        except OSError as error:
            import errno

            if error.errno == errno.EADDRNOTAVAIL and family == socket.AF_INET6:  # likewise: the name has it, the machine has not
                self._listeners.remove(one)
                one.close()
                return
            raise
        one.listen(16)
        one.setblocking(False)

    def wake(self) -> None:
        """Have `serve` return soon; may be called in a signal handler."""
        with suppress(OSError):
            self._rope.send(b"!")

    def serve(self, seconds: float, metrics: Callable[[str], tuple[bytes, str]]) -> None:
        """Answer requests until the time is over or `wake` is called.

        Args:
            seconds: How long.
            metrics: Returns the text and its type for the value of an ``Accept`` header.

        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                if key.fileobj is self._bell:
                    self._bell.recv(64)
                    return
                with suppress(OSError):
                    connection, _ = key.fileobj.accept()  # type: ignore[union-attr]
                    with connection:
                        _answer(connection, metrics)

    def close(self) -> None:
        """Stop listening; in a forked child this leaves the parent's sockets as they are."""
        self._selector.close()
        for one in (*self._listeners, self._bell, self._rope):
            one.close()


def _answer(connection: socket.socket, metrics: Callable[[str], tuple[bytes, str]]) -> None:
    head = _read_head(connection)
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split()
    status, body, kind = "404 Not Found", b"the metrics are at /metrics\n", "text/plain; charset=utf-8"
    if len(words) != 3 or words[0] not in {"GET", "HEAD"}:  # noqa: PLR2004 - method, path, version
        status, body = "400 Bad Request", b"only GET\n"
    elif words[1].partition("?")[0] in _PATHS:
        accept = ",".join(value for name, _, value in (line.partition(":") for line in lines[1:]) if name.lower() == "accept")
        body, kind = metrics(accept.strip())
        status = "200 OK"
    answer = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode(
        "latin-1"
    )
    connection.sendall(answer + (b"" if words[:1] == ["HEAD"] else body))


def _read_head(connection: socket.socket) -> bytes:
    end, head = time.monotonic() + REQUEST_SECONDS, b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD:
        connection.settimeout(max(0.001, end - time.monotonic()))
        more = connection.recv(4096)
        if not more:
            break
        head += more
    connection.settimeout(REQUEST_SECONDS)
    return head.partition(b"\r\n\r\n")[0]
