"""Each call makes a session of its own and drops it with a connection in its pool.

Like: https://github.com/kapadia/usgs/pull/70
Needs: requests
"""

import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import requests


class Answer(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"


server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"


def call():
    session = requests.Session()  # leak: not_closed requests.session
    return session.get(url).status_code


print([call() for _ in range(4)])
