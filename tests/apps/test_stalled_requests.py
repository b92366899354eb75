"""A request without a deadline whose server does not answer is told while it hangs; streams and sockets that are idle are not."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVER = """\
import asyncio
import sys
import uvicorn
from fastapi import FastAPI, WebSocket
from starlette.responses import StreamingResponse

app = FastAPI()
kept = []

@app.get("/")
async def root():
    return {}

@app.get("/slow")
async def slow():
    await asyncio.sleep(1000)

@app.get("/events")
async def events():
    async def stream():
        yield b"first"
        kept.append(asyncio.Event())
        await kept[-1].wait()
    return StreamingResponse(stream())

@app.websocket("/chat")
async def chat(socket: WebSocket):
    await socket.accept()
    while True:
        await socket.receive_text()

uvicorn.run(app, port=int(sys.argv[2]), log_level="error", loop=sys.argv[1])
"""

CLIENT = """\
import asyncio
import sys
import httpx

url = sys.argv[2]
if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.install()

async def stream(client):
    async with client.stream("GET", url + "events") as answer:
        async for part in answer.aiter_bytes():
            print(part, flush=True)

async def chat():
    reader, writer = await asyncio.open_connection(*url.split("/")[2].split(":"))
    writer.write(b"GET /chat HTTP/1.1\\r\\nHost: x\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n")
    writer.write(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n")
    while await reader.read(1000):
        pass

async def main():
    patient, limited = httpx.AsyncClient(timeout=None), httpx.AsyncClient(timeout=1000)
    idle = [asyncio.create_task(limited.get(url + "slow")), asyncio.create_task(stream(patient)), asyncio.create_task(chat())]
    await asyncio.sleep(1)
    await asyncio.gather(*idle, asyncio.create_task(patient.get(url + "slow")))  # told

asyncio.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_request_without_a_deadline(
    *,
    loop: str,
    serve: Callable[..., Any],
    port: int,
    environment: Callable[..., dict[str, str]],
    program: Callable[..., Path],
    until: Callable[..., None],
) -> None:
    files = {"server.py": SERVER, "pyproject.toml": "[tool.leakagent]\nstalled_after = 0.5\n"}
    server = serve([sys.executable, "server.py", loop, str(port)], f"http://127.0.0.1:{port}/", agent=True, files=files)
    client = program(CLIENT, "client.py")
    command = [sys.executable, "-m", "leakagent", "--stalled-after", "0.5", client, loop, server.url]
    with subprocess.Popen(
        command, env=environment(), cwd=client.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")))
        reader.start()
        try:
            until(lambda: any("  fix  " in line for line in lines), "the request is told while it hangs")
        finally:
            process.kill()
            reader.join(60)
    line = next(number for number, text in enumerate(CLIENT.splitlines(), 1) if text.endswith("# told"))
    told = "".join(lines)
    assert told.count("leakagent: ") == 1, told
    assert f"yours    client.py:{line} main" in told
    assert "httpx/_client.py" in told
    assert "the other end of its connection has not answered for" in told
    # The server's own connections and handlers have waited as long.
    assert "leakagent: " not in server.log, server.log
