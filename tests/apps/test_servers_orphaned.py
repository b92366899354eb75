"""Servers whose first process is killed: no worker of theirs is left."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ASGI = """\
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("lifespan ends", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""

WSGI = """\
import sys
import flask

app = flask.Flask(__name__)

@app.get("/")
def root():
    return "ok"

if __name__ == "__main__":
    app.run(port=int(sys.argv[1]), debug=True)
"""

SERVERS = {
    "uvicorn-workers": ["-m", "uvicorn", "app:app", "--port", "PORT", "--workers", "2"],
    "uvicorn-reload": ["-m", "uvicorn", "app:app", "--port", "PORT", "--reload"],
    "gunicorn-uvicorn": [
        "-m", "gunicorn", "app:app", "-w", "2", "-b", "127.0.0.1:PORT", "--no-control-socket", "-k", "uvicorn.workers.UvicornWorker",
    ],
    "gunicorn-gthread": [
        "-m", "gunicorn", "app:app", "-w", "2", "-b", "127.0.0.1:PORT", "--no-control-socket", "-k", "gthread", "--threads", "2",
    ],
    "hypercorn": ["-m", "hypercorn", "app:app", "--workers", "2", "--bind", "127.0.0.1:PORT"],
    "flask-reloader": ["app.py", "PORT"],
}  # fmt: skip


def in_session(session: int) -> list[int]:
    """Return the processes of a session that run: each server has one of its own."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(name))
    return found


@pytest.mark.parametrize("name", SERVERS)
def test_no_worker_is_left(name: str, serve: Callable[..., Any], until: Callable[..., None], port: int) -> None:
    command = [sys.executable, *(word.replace("PORT", str(port)) for word in SERVERS[name])]
    text = WSGI if name in {"gunicorn-gthread", "flask-reloader"} else ASGI
    server = serve(command, f"http://127.0.0.1:{port}/", agent=True, files={"app.py": text})
    until(lambda: len(in_session(server.process.pid)) > 1, "there are workers")
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(timeout=120)
    until(lambda: in_session(server.process.pid) == [], f"all of {in_session(server.process.pid)} end")
    # A worker that is ended while it makes its event loop leaves half a loop, of which asyncio complains.
    assert "Traceback" not in server.log or "no attribute '_ssock'" in server.log, server.log
    if name in {"uvicorn-workers", "uvicorn-reload", "gunicorn-uvicorn"}:
        # They have a way of their own to end, and go it.
        assert server.log.count("lifespan ends") >= 1, server.log
