"""What servers have open when they are told to end: shared by the tests and ``benchmarks/exit_servers.py``."""

from __future__ import annotations

import signal

#: An application under uvicorn, by what it leaves open; a client asks for ``/open`` and holds on.
APP = """\
import asyncio, atexit, os, sys, threading, time
import uvicorn

keep = []
variant = sys.argv[1]


def say(*words):
    print(*words, flush=True)


async def swallow():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            say("SWALLOWED")


async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    if variant == "gather":
        pending = asyncio.all_tasks()
        await asyncio.gather(*pending, return_exceptions=True)  # gather
    if variant in ("lifespan_hang", "all"):
        say("CLEANING")
        await asyncio.sleep(3600)  # lifespan_hang
    if variant == "lifespan_slow":
        await asyncio.sleep(0.2)
    say("LIFESPAN DONE")
    await send({"type": "lifespan.shutdown.complete"})


async def answer(send, more=False):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok", "more_body": more})


async def work(send):
    if variant in ("pending", "all"):
        keep.append(asyncio.create_task(asyncio.sleep(3600)))  # pending
    if variant in ("swallow", "all"):
        keep.append(asyncio.create_task(swallow()))  # swallow
    if variant in ("thread", "all"):
        keep.append(asyncio.create_task(asyncio.to_thread(threading.Event().wait)))  # thread
    if variant == "finishes":
        await asyncio.sleep(0.5)
        say("FINISHED")
    await answer(send, more=variant in ("stream", "all"))
    if variant == "blocked":
        say("OPEN")
        while True:
            time.sleep(0.1)
    if variant in ("stream", "bg", "all"):
        say("OPEN")
        await asyncio.sleep(3600)  # stream
    say("OPEN")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["path"] == "/open":
        await work(send)
    else:
        await answer(send)


if __name__ == "__main__":
    atexit.register(say, "ATEXIT")
    uvicorn.run(app, port=int(sys.argv[2]), loop=sys.argv[3])
    say("AFTER RUN")
"""

#: What the application of uvicorn leaves open.
VARIANTS = ("none", "pending", "swallow", "gather", "thread", "stream", "bg", "lifespan_hang")

#: A request that does not end, for servers of ASGI applications.
ASGI = """\
import asyncio, atexit

atexit.register(print, "ATEXIT", flush=True)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("LIFESPAN DONE", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    more = scope["path"] == "/open"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok", "more_body": more})
    if more:
        print("OPEN", flush=True)
        await asyncio.sleep(3600)  # open
"""

#: The same, for servers of WSGI applications.
WSGI = """\
import atexit, time
from flask import Flask

app = Flask(__name__)
atexit.register(print, "ATEXIT", flush=True)


@app.get("/")
def root():
    return "ok"


@app.get("/open")
def hold():
    print("OPEN", flush=True)
    while True:
        time.sleep(0.1)  # open
"""

_GUNICORN = ["gunicorn", "app:app", "--no-control-socket", "-b", "127.0.0.1:PORT"]

#: Server -> its command, and the application that it serves.
SERVERS = {
    "uvicorn --workers 2": (["uvicorn", "app:app", "--port", "PORT", "--workers", "2"], ASGI),
    "uvicorn --reload": (["uvicorn", "app:app", "--port", "PORT", "--reload"], ASGI),
    "hypercorn": (["hypercorn", "app:app", "-b", "127.0.0.1:PORT"], ASGI),
    "gunicorn, uvicorn workers": ([*_GUNICORN, "-k", "uvicorn.workers.UvicornWorker"], ASGI),
    "gunicorn, sync": (_GUNICORN, WSGI),
    "gunicorn, gthread": ([*_GUNICORN, "-k", "gthread", "--threads", "2"], WSGI),
    "Flask": (["flask", "--app", "app", "run", "--port", "PORT"], WSGI),
    "Flask --reload": (["flask", "--app", "app", "run", "--port", "PORT", "--reload"], WSGI),
}

#: End -> the signals that are sent.
ENDS = {
    "SIGTERM": (signal.SIGTERM,),
    "SIGTERM twice": (signal.SIGTERM, signal.SIGTERM),
    "SIGINT": (signal.SIGINT,),
    "SIGINT twice": (signal.SIGINT, signal.SIGINT),
}
