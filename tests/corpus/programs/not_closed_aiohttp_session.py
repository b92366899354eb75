"""A library makes a session if none is given to it, and has no method that closes it.

Like: https://github.com/pyenphase/pyenphase/pull/319
Needs: aiohttp
"""

import asyncio
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import aiohttp


class Answer(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"


server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"


class Device:
    def __init__(self, session=None):
        self.session = session or aiohttp.ClientSession()  # leak: not_closed aiohttp.session

    async def status(self):
        async with self.session.get(url) as answer:
            return answer.status


async def main():
    print(await Device().status())


asyncio.run(main())
