"""An endless stream is open when the server is told to end; its request is cut off.

Like: https://github.com/Kludex/uvicorn/issues/1579
Options: --grace 0.5
Signal: SIGTERM after streaming
Needs: fastapi uvicorn
"""

import asyncio
import socket
import threading
import urllib.request

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.get("/stream")  # leak: blocks_exit asyncio.task
async def stream():
    async def pieces():
        while True:
            yield "piece\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(pieces())


def read(port):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/stream") as answer:
        answer.readline()
        print("streaming", flush=True)
        try:
            while answer.readline():
                pass
        except OSError:
            return


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=read, args=(listener.getsockname()[1],), daemon=True).start()
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
