"""A session that lives as long as the application, and is closed with it.

Needs: aiohttp
"""

import asyncio
import threading
from contextlib import asynccontextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import aiohttp


class Answer(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"


server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"


@asynccontextmanager
async def application():
    session = aiohttp.ClientSession()
    yield session
    await session.close()


async def get(session):
    async with session.get(url) as answer:
        return answer.status


async def main():
    async with application() as session:
        print(await asyncio.gather(*(get(session) for _ in range(10))))


asyncio.run(main())
