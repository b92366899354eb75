"""A session of a module, with its pool of connections, for as long as the program lives.

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
session = requests.Session()

print({session.get(url).status_code for _ in range(20)}, requests.get(url).status_code)
