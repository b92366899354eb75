"""Clients of httpx, its SDKs, aiohttp and requests: what was left open is told, what is used as documented is not."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A real server that keeps connections open, in the program itself.
SERVER = """\
import http.server
import threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
"""

LEAKY = """\
import asyncio
from server import url
import aiohttp
import httpx
import requests
from httpx import AsyncClient, Client
from requests import Session
def dropped():
    return Client().get(url).text  # leak: not_closed httpx.client
print(dropped(), dropped(), dropped())
class Store:
    def __init__(self):
        self.http = httpx.Client()  # leak: not_closed httpx.client
stores = [Store() for _ in range(12)]
for store in stores:
    store.http.get(url)
def session():
    return Session()  # leak: not_closed requests.session
print([session().get(url).text for _ in range(2)])
class Mine(requests.Session):
    def __init__(self, name):
        super().__init__()
        self.mount("http://", requests.adapters.HTTPAdapter(max_retries=2))
def mine():
    return Mine("mine").get(url).text  # leak: not_closed requests.session
print(mine(), mine())
kept = []
async def main():
    client = AsyncClient()  # leak: not_closed httpx.client
    print((await client.get(url)).text)
    del client
    session = aiohttp.ClientSession()  # leak: not_closed aiohttp.session
    async with session.get(url) as answer:
        print(await answer.text())
    del session, answer
    kept.append(aiohttp.ClientSession())  # leak: not_closed aiohttp.session
asyncio.run(main())
"""


def test_what_was_left_open(compare: Callable[..., Any]) -> None:
    ran = compare(LEAKY, modules={"server": SERVER})
    ran.check()
    for agent, report in ran.agents.values():
        assert agent.stderr.count("Unclosed client session") == ran.bare.stderr.count("Unclosed client session") > 0
        counts = {one["site"]["function"]: (one["count"], one["action"]) for one in report["findings"]}
        assert counts["Store.__init__"] == (12, "closed")
        assert (counts["dropped"], counts["session"], counts["mine"]) == ((3, "none"), (2, "none"), (2, "none"))
        assert report["totals"]["httpx.client"]["created"] == 16


# What the libraries' documentation asks for, and what can't be mended: see leakagent/instrumentation.
CLEAN = """\
import asyncio
import gc
from server import url
import aiohttp
import httpx
import requests
client = httpx.Client()
session = requests.Session()
print(client.get(url).text, session.get(url).text, httpx.get(url).text, requests.get(url).text)
class Slotted:
    __slots__ = ()
    def handle_request(self, request):
        return httpx.Response(200)
    def close(self):
        pass
def used():
    with httpx.Client() as client, requests.Session() as session:
        client.get(url), session.get(url)
    other = httpx.Client()
    other.get(url)
    other.close()
    last = requests.session()
    last.get(url)
    last.close()
    httpx.Client(), requests.Session()
    httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200))).get(url)
    httpx.Client(transport=Slotted()).get(url)
for _ in range(3):
    used()
asynchronous = httpx.AsyncClient()
async def main():
    await asynchronous.get(url)
    async with httpx.AsyncClient() as client, aiohttp.ClientSession() as session:
        print((await client.get(url)).text)
        async with session.get(url) as answer:
            print(await answer.text())
    client = httpx.AsyncClient()
    await client.get(url)
    await client.aclose()
    session = aiohttp.ClientSession()
    await session.close()
    httpx.AsyncClient()
asyncio.run(main())
try:
    httpx.Client(timeout=object())
except Exception as error:
    print(type(error).__name__)
gc.collect()
"""


def test_what_is_as_documented(compare: Callable[..., Any]) -> None:
    ran = compare(CLEAN, modules={"server": SERVER})
    ran.check()
    for agent, _ in ran.agents.values():
        assert agent.stderr == ran.bare.stderr


# The SDKs make a client each; a dropped one of openai or anthropic closes itself.
SDKS = """\
import asyncio
import gc
import anthropic
import ollama
import openai
from openai import OpenAI
shared = OpenAI(api_key="k")
with OpenAI(api_key="k") as used, anthropic.Anthropic(api_key="k") as other:
    pass
for _ in range(3):
    OpenAI(api_key="k").chat
    anthropic.Anthropic(api_key="k").messages
many = [OpenAI(api_key="k", base_url="http://127.0.0.1:9/") for _ in range(10)]  # leak: not_closed httpx.client
async def main():
    async with openai.AsyncOpenAI(api_key="k") as client:
        print(type(client).__name__)
    for _ in range(3):
        openai.AsyncOpenAI(api_key="k").chat
        gc.collect()
        await asyncio.sleep(0)
asyncio.run(main())
local = ollama.Client("http://127.0.0.1:9/")
gc.collect()
"""


def test_sdks(compare: Callable[..., Any]) -> None:
    ran = compare(SDKS)
    ran.check()
    for agent, report in ran.agents.values():
        assert agent.stderr == ran.bare.stderr
        assert [(one["count"], one["action"]) for one in report["findings"]] == [(10, "closed")]


CLOSED = """\
import gc
import os
import sys
import threading
import leakagent
from server import server, url
import httpx
import requests
from server import Handler
clients = [httpx.Client() for _ in range(10)]
sessions = [requests.Session() for _ in range(10)]
for one in clients + sessions:
    one.get(url)
if sys.argv[1] == "by hand":
    for one in clients + sessions:
        one.close()
else:
    leakagent.shutdown()
print([one.is_closed for one in clients])
sockets = 0
for name in os.listdir("/proc/self/fd"):
    try:
        sockets += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    except OSError:
        pass
# The server's own ends go when its threads have noticed.
print("client threads", [thread.name for thread in threading.enumerate() if "process_request" not in thread.name])
print("pools", [len(one._transport._pool.connections) for one in clients])
"""


def test_closed_by_the_agent_as_by_hand(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER, encoding="utf-8")
    (tmp_path / "app.py").write_text(CLOSED, encoding="utf-8")
    outputs = set()
    for how in ("by hand", "by leakagent"):
        command = [sys.executable, "-m", "leakagent", "--report", "json:report.json", "app.py", how]
        ran = run(command, cwd=tmp_path)
        assert ran.returncode == 0, ran
        outputs.add(ran.stdout)
        assert json.loads((tmp_path / "report.json").read_text("utf-8"))["findings"] == []
    assert len(outputs) == 1, outputs
