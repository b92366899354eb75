"""VictoriaMetrics' own page (vmui) in front of a store that was built without it, as Debian's is."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PREFIX = "/vmui/"


class _Handler(SimpleHTTPRequestHandler):
    """Serves the files of a folder below `_PREFIX`, and has everything else answered by the store."""

    def __init__(self, *arguments: object, store: str, directory: str) -> None:
        self.store = store
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer with a file, or with what the store answers."""
        inside = self.path.partition("?")[0].removeprefix(_PREFIX)
        if self.path.startswith(_PREFIX) and not inside.startswith("custom-dashboards"):
            self.path = "/" + inside
            super().do_GET()
        else:
            self._pass_on(None)

    def do_POST(self) -> None:
        """Answer with what the store answers."""
        self._pass_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _pass_on(self, body: bytes | None) -> None:
        kinds = {"Content-Type": self.headers["Content-Type"]} if body and self.headers["Content-Type"] else {}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.store + self.path, body, kinds), timeout=60) as answer:
                status, text, kind = answer.status, answer.read(), answer.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            status, text, kind = error.code, error.read(), error.headers["Content-Type"]
        self.send_response(status)
        self.send_header("Content-Type", kind or "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def served(files: Path, store: str) -> Iterator[str]:
    """Serve the page on the loopback interface.

    Args:
        files: Its folder (``app/vmselect/vmui`` in VictoriaMetrics' sources).
        store: Address of the store.

    Returns:
        The address that takes the place of the store's.

    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, store=store, directory=str(files)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
