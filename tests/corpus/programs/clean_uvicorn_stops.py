"""A server with finished requests is told to end.

Signal: SIGTERM after answered
Needs: fastapi uvicorn
"""

import socket
import threading
import urllib.request

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def root():
    return {"answer": 42}


def read(port):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/") as answer:
        print("answered", answer.status, flush=True)


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=read, args=(listener.getsockname()[1],), daemon=True).start()
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
