"""gunicorn and Flask's server: requests in flight get their grace, are then ended and named; nobody is left."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

APP = """\
import os, socket, threading, time
from flask import Flask

app = Flask(__name__)


def say(*words):
    print(*words, os.getpid(), flush=True)


@app.get("/")
def root():
    return "ok"


@app.get("/finishes")
def finishes():
    say("OPEN")
    while not os.path.exists("go"):
        time.sleep(0.01)
    say("FINISHED")
    return "ok"


@app.get("/receives")
def receives():
    pair = socket.socketpair()
    say("OPEN")
    try:
        pair[0].recv(1)  # receives
    finally:
        say("LEFT")


@app.get("/sleeps")
def sleeps():
    say("OPEN")
    try:
        while True:
            time.sleep(0.1)  # sleeps
    finally:
        say("LEFT")
"""

ASGI = """\
import asyncio, os
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.get("/")
async def root():
    return {}


@app.get("/stream")
async def stream():  # stream
    async def body():
        while True:
            yield b"x"
            print("OPEN", os.getpid(), flush=True)
            await asyncio.sleep(3600)

    return StreamingResponse(body())
"""

GUNICORN = ["gunicorn", "app:app", "-w", "2", "--no-control-socket", "-b", "127.0.0.1:PORT"]
FLASK = ["flask", "--app", "app", "run", "--port", "PORT"]
WORKERS = {"sync": [], "gthread": ["-k", "gthread", "--threads", "2"]}


def line(text: str, marker: str) -> int:
    (found,) = (number for number, one in enumerate(text.splitlines(), 1) if one.endswith(f"# {marker}"))
    return found


def lives(pid: int) -> bool:
    """Say whether a process runs; one that was killed may still have to be collected by whoever takes over orphans."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def open_pid(server: Any) -> int:
    """Return the process that answers the request."""
    return next(int(one.split()[1]) for one in server.log.splitlines() if one.startswith("OPEN "))


def received(client: Any, wanted: bytes) -> bytes:
    """Return what a client receives until ``wanted`` is there, or the connection is closed."""
    answer = b""
    while wanted not in answer and (part := client.recv(1000)):
        answer += part
    return answer


@pytest.fixture
def start(serve: Callable[..., Any], port: int) -> Callable[..., Any]:
    """Start a server under the agent, or bare."""

    def run(command: list[str], text: str = APP, *, agent: bool = True, grace: float = 1, budget: float = 60) -> Any:
        words = [sys.executable, "-m", *(word.replace("PORT", str(port)) for word in command)]
        env = {"LEAKAGENT_GRACE": str(grace), "LEAKAGENT_BUDGET": str(budget)}
        return serve(words, f"http://127.0.0.1:{port}/", agent=agent, files={"app.py": text}, env=env)

    return run


# -- gunicorn ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("worker", WORKERS)
def test_gunicorn_request_in_flight_is_answered(start: Callable[..., Any], until: Callable[..., None], worker: str) -> None:
    server = start([*GUNICORN, *WORKERS[worker]], grace=60, budget=200)
    with server.open("finishes") as client:
        until(lambda: "OPEN" in server.log, "the request has begun")
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "Worker exiting" in server.log, "the other worker ends")
        (server.folder / "go").touch()
        assert b"ok" in received(client, b"ok"), server.log
    assert server.ended() == 0, server.log
    assert server.report["findings"] == []


@pytest.mark.parametrize("path", ["sleeps", "receives"])
@pytest.mark.parametrize("worker", WORKERS)
def test_gunicorn_request_that_does_not_end_is_ended(
    start: Callable[..., Any], until: Callable[..., None], worker: str, path: str
) -> None:
    server = start([*GUNICORN, *WORKERS[worker]])
    with server.open(path):
        until(lambda: "OPEN" in server.log, "the request has begun")
        assert server.end_by(signal.SIGTERM) == 0, server.log
    assert not lives(open_pid(server))
    assert "was sent SIGKILL" not in server.log
    (finding,) = server.report["findings"]
    assert (finding["reason"], finding["kind"]) == ("blocks_exit", "thread"), server.log
    assert finding["site"]["line"] == line(APP, path)
    # In the main thread its `finally` runs.
    assert finding["action"] == ("cancelled" if worker == "sync" else "released")
    assert ("LEFT" in server.log) == (worker == "sync")


def test_gunicorn_worker_that_does_not_react_is_killed_within_the_budget(
    start: Callable[..., Any], until: Callable[..., None]
) -> None:
    server = start(GUNICORN, budget=3)
    with server.open("sleeps"):
        until(lambda: "OPEN" in server.log, "the request has begun")
        pid = open_pid(server)
        os.kill(pid, signal.SIGSTOP)
        assert server.end_by(signal.SIGTERM) == 0, server.log
    until(lambda: not lives(pid), "it is gone")
    (finding,) = server.report["findings"]
    assert (finding["reason"], finding["kind"], finding["action"]) == ("refused_cleanup", "process", "killed"), server.log


def test_gunicorn_own_limit_counts(start: Callable[..., Any], until: Callable[..., None]) -> None:
    # The worker is killed by gunicorn after a second; the grace alone would not end it.
    server = start([*GUNICORN, "--graceful-timeout", "1"], grace=500, budget=2000)
    with server.open("sleeps"):
        until(lambda: "OPEN" in server.log, "the request has begun")
        assert server.end_by(signal.SIGTERM) == 0, server.log
    until(lambda: not lives(open_pid(server)), "it is gone")
    assert "LEFT" not in server.log
    assert server.report["findings"] == []


def test_gunicorn_workers_that_are_replaced_finish_their_requests(start: Callable[..., Any], until: Callable[..., None]) -> None:
    server = start(GUNICORN, grace=0.1, budget=2)
    with server.open("finishes") as client:
        until(lambda: "OPEN" in server.log, "the request has begun")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.log.count("Booting worker") == 4 and "Worker exiting" in server.log, "others have taken over")
        (server.folder / "go").touch()
        assert b"ok" in received(client, b"ok"), server.log
    until(lambda: server.log.count("Worker exiting") == 2, "the old ones have ended")
    assert server.end_by(signal.SIGTERM) == 0, server.log
    assert server.report["findings"] == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_gunicorn_stream_in_a_uvicorn_worker(start: Callable[..., Any], until: Callable[..., None], signum: int) -> None:
    server = start([*GUNICORN, "-k", "uvicorn.workers.UvicornWorker"], ASGI)
    with server.open("stream"):
        until(lambda: "OPEN" in server.log, "the stream has begun")
        # Ctrl+C to the arbiter alone, which passes SIGQUIT on: bare, its workers go on until they are killed.
        assert server.end_by(signum) == 0, server.log
    assert not lives(open_pid(server))
    (finding,) = server.report["findings"]
    assert (finding["reason"], finding["names"], finding["action"]) == ("blocks_exit", ["GET /stream"], "cancelled")
    assert finding["site"]["function"] == "stream", server.log
    assert "was sent SIGKILL" not in server.log


# -- Flask -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("option", [[], ["--reload"]], ids=["plain", "reloader"])
def test_flask_request_in_flight_is_answered(
    start: Callable[..., Any], until: Callable[..., None], option: list[str], signum: int
) -> None:
    server = start([*FLASK, *option], grace=60, budget=200)
    with server.open("finishes") as client:
        until(lambda: "OPEN" in server.log, "the request has begun")
        # As a terminal does it: to all of them.
        (os.killpg if option and signum == signal.SIGINT else os.kill)(server.process.pid, signum)
        until(lambda: not server.accepts(), "it accepts nothing any more")
        (server.folder / "go").touch()
        assert b"ok" in received(client, b"ok"), server.log
    assert server.ended() == (-signum if signum == signal.SIGTERM and not option else 0), server.log
    assert "FINISHED" in server.log
    assert not lives(open_pid(server))
    assert server.report["findings"] == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("option", [[], ["--reload"]], ids=["plain", "reloader"])
def test_flask_request_that_does_not_end_is_named(
    start: Callable[..., Any], until: Callable[..., None], option: list[str], signum: int
) -> None:
    server = start([*FLASK, *option])
    with server.open("sleeps"):
        until(lambda: "OPEN" in server.log, "the request has begun")
        (os.killpg if option and signum == signal.SIGINT else os.kill)(server.process.pid, signum)
        status = server.ended()
    assert status == (-signum if signum == signal.SIGTERM and not option else 0), server.log
    assert not lives(open_pid(server))
    (finding,) = server.report["findings"]
    assert (finding["reason"], finding["kind"], finding["site"]["line"]) == ("refused_cleanup", "thread", line(APP, "sleeps"))
    assert finding["names"] == ["GET /sleeps"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", [FLASK, [*FLASK, "--reload"], GUNICORN], ids=["flask", "reloader", "gunicorn"])
def test_status_as_without_the_agent(start: Callable[..., Any], command: list[str], signum: int) -> None:
    statuses = []
    for agent in (False, True):
        server = start(command, agent=agent)
        # As a terminal does it: to all of them.
        (os.killpg if signum == signal.SIGINT else os.kill)(server.process.pid, signum)
        statuses.append(server.ended())
    assert statuses[0] == statuses[1], server.log
    assert server.report["findings"] == []
