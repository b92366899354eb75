"""A provider builds a client for each turn of a conversation, and never closes it.

Like: https://github.com/handochan/aelix-ai/issues/174
Needs: httpx
"""

import asyncio
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import httpx


class Answer(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"


server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"


async def turn():
    client = httpx.AsyncClient()  # leak: not_closed httpx.client
    return (await client.get(url)).status_code


async def main():
    print([await turn() for _ in range(5)])


asyncio.run(main())
