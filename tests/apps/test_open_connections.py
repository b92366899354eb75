"""A FastAPI application with a websocket, an event stream and a background task that go on for ever, and clients that hold on."""

from __future__ import annotations

import base64
import signal
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

APP = """\
import asyncio
import contextlib
from fastapi import BackgroundTasks, FastAPI, WebSocket
from fastapi.responses import StreamingResponse


@contextlib.asynccontextmanager
async def lifespan(app):
    yield
    print("LIFESPAN DONE", flush=True)


app = FastAPI(lifespan=lifespan)


@contextlib.contextmanager
def said(what):
    print(what, "OPEN", flush=True)
    try:
        yield
    finally:
        print(what, "CLOSED", flush=True)


@app.get("/")
async def root():
    return {}


@app.websocket("/talk")
async def talk(client: WebSocket):
    await client.accept()
    with said("talk"):
        await asyncio.sleep(3600)


@app.get("/events")
async def events():
    async def generate():
        with said("events"):
            while True:
                yield "data: x\\n\\n"
                await asyncio.sleep(0.05)

    return StreamingResponse(generate(), media_type="text/event-stream")


async def work():
    with said("work"):
        await asyncio.sleep(3600)


@app.get("/background")
async def background(tasks: BackgroundTasks):
    tasks.add_task(work)
    return {}
"""

COMMANDS = {
    "uvicorn": ["uvicorn", "app:app", "--loop", "asyncio", "--port", "PORT"],
    "uvicorn with uvloop": ["uvicorn", "app:app", "--loop", "uvloop", "--port", "PORT"],
    "hypercorn": ["hypercorn", "app:app", "-b", "127.0.0.1:PORT"],
    "gunicorn": ["gunicorn", "app:app", "-k", "uvicorn.workers.UvicornWorker", "--no-control-socket", "-b", "127.0.0.1:PORT"],
}


def talk(port: int) -> socket.socket:
    """Open a websocket (RFC 6455) and return it."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    key = base64.b64encode(bytes(16)).decode()
    lines = ["GET /talk HTTP/1.1", "Host: test", "Connection: Upgrade", "Upgrade: websocket"]
    lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
    client.sendall("\r\n".join(lines).encode())
    assert b" 101 " in client.recv(1000)
    return client


@pytest.mark.parametrize(
    ("name", "signum"), [*((name, signal.SIGTERM) for name in COMMANDS), ("uvicorn", signal.SIGINT), ("gunicorn", signal.SIGINT)]
)
def test_all_are_ended_and_named(
    serve: Callable[..., Any], until: Callable[..., None], port: int, name: str, signum: int
) -> None:
    command = [sys.executable, "-m", *(word.replace("PORT", str(port)) for word in COMMANDS[name])]
    env = {"LEAKAGENT_GRACE": "1", "LEAKAGENT_BUDGET": "60"}
    server = serve(command, f"http://127.0.0.1:{port}/", agent=True, files={"app.py": APP}, env=env)
    with ExitStack() as clients:
        clients.enter_context(talk(port))
        for path in ("events", "background"):
            clients.enter_context(server.open(path))
        until(lambda: server.log.count(" OPEN") == 3, "all three are at work")
        status = server.end_by(signum)
    by_signal = signum == signal.SIGTERM and name.startswith("uvicorn")
    assert status == (-signum if by_signal else 0), server.log
    assert server.log.count(" CLOSED") == 3, server.log
    assert "LIFESPAN DONE" in server.log
    found = {(one["reason"], one["site"]["function"]) for one in server.report["findings"]}
    assert found == {("blocks_exit", "talk"), ("blocks_exit", "events"), ("blocks_exit", "background")}, server.log
    # They were open before the grace began.
    assert min(one["oldest_age_s"] for one in server.report["findings"]) >= 1, server.report
    assert "is cut off here" not in server.log
