"""One client of a module for all requests, of threads as well: it is never closed, and need not be.

Needs: httpx
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import httpx


class Answer(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"


server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
client = httpx.Client()

with ThreadPoolExecutor(4) as pool:
    print({answer.status_code for answer in pool.map(client.get, [url] * 20)})
