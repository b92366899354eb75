"""Servers under the agent: they start, answer and end as without it, and what requests and workers left is told."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ASGI = """\
import asyncio
import contextlib
import os
from fastapi import FastAPI


async def tick():
    while True:
        await asyncio.sleep(0.05)


async def never():
    await asyncio.get_running_loop().create_future()


@contextlib.asynccontextmanager
async def lifespan(app):
    app.ticker = asyncio.create_task(tick())  # forgotten
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def root():
    return {"pid": os.getpid()}


@app.get("/drop")
async def drop():
    asyncio.create_task(never())  # dropped
    return {}
"""

WSGI = """\
import os
from concurrent.futures import ThreadPoolExecutor
from flask import Flask

app = Flask(__name__)
pools = []


@app.get("/")
def root():
    return str(os.getpid())


@app.get("/drop")
def drop():
    pools.append(ThreadPoolExecutor(1))  # pool
    return str(pools[-1].submit(abs, -1).result())
"""


def line(text: str, marker: str) -> int:
    """Return the number of the only line that ends with this comment."""
    (found,) = (number for number, one in enumerate(text.splitlines(), 1) if one.endswith(f"# {marker}"))
    return found


def summary(report: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return reason, kind, owner, file, line, function and count of each finding."""
    found = (
        (
            one["reason"],
            one["kind"],
            one["owner"],
            one["site"]["file"],
            one["site"]["line"],
            one["site"]["function"],
            one["count"],
        )
        for one in report["findings"]
    )
    return sorted(found)


def leaks_of_asgi(*, workers: int) -> list[tuple[Any, ...]]:
    """Return what `ASGI` is told for, when each worker has started and three requests were dropped."""
    return [
        ("lost_task", "asyncio.task", "yours", "app.py", line(ASGI, "dropped"), "drop", 3),
        ("outlived_scope", "asyncio.task", "yours", "app.py", line(ASGI, "forgotten"), "lifespan", workers),
    ]


@pytest.fixture
def run_both(serve: Callable[..., Any], until: Callable[..., None], port: int) -> Callable[..., tuple[int, Any]]:
    """Run a server bare and under the agent, with three requests that leave something; return the status and the second one."""

    def run(command: list[str], text: str, signum: int, *, says: str, times: int) -> tuple[int, Any]:
        words = [sys.executable, "-m", *(word.replace("PORT", str(port)) for word in command)]
        statuses = []
        for agent in (False, True):
            server = serve(words, f"http://127.0.0.1:{port}/", agent=agent, files={"app.py": text})
            until(lambda server=server: server.log.count(says) == times, f"{times} times {says!r}")
            assert all(server.get("drop") for _ in range(3)), server.log
            statuses.append(server.end_by(signum))
        assert statuses[0] == statuses[1], server.log
        assert "Traceback" not in server.log, server.log
        return statuses[0], server

    return run


UVICORN = ["uvicorn", "app:app", "--host", "127.0.0.1", "--port", "PORT"]
GUNICORN = ["gunicorn", "app:app", "-w", "2", "-b", "127.0.0.1:PORT", "--no-control-socket"]
STARTED = "Application startup complete"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_uvicorn(run_both: Callable[..., tuple[int, Any]], loop: str, signum: int) -> None:
    status, server = run_both([*UVICORN, "--loop", loop], ASGI, signum, says=STARTED, times=1)
    # Told to end by SIGTERM, it handles that, and then ends itself by it.
    by_signal = signum == signal.SIGTERM
    assert status == (-signum if by_signal else 0)
    assert summary(server.report) == leaks_of_asgi(workers=1), server.log
    assert server.report["exit"] == {"status": None if by_signal else 0, "signal": 15 if by_signal else None}
    assert server.log.count("Finished server process") == 1


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [1, 2], ids=["reload", "workers"])
def test_uvicorn_with_children(run_both: Callable[..., tuple[int, Any]], workers: int, signum: int) -> None:
    option = ["--reload"] if workers == 1 else ["--workers", "2"]
    status, server = run_both([*UVICORN, *option], ASGI, signum, says=STARTED, times=workers)
    assert status == 0
    assert summary(server.report) == leaks_of_asgi(workers=workers), server.log
    assert server.report["pid"] == server.process.pid


def test_gunicorn_with_uvicorn_workers(run_both: Callable[..., tuple[int, Any]]) -> None:
    command = [*GUNICORN, "-k", "uvicorn.workers.UvicornWorker"]
    status, server = run_both(command, ASGI, signal.SIGTERM, says=STARTED, times=2)
    assert status == 0
    assert summary(server.report) == leaks_of_asgi(workers=2), server.log


@pytest.mark.parametrize("option", [[], ["-k", "gthread", "--threads", "2"], ["--preload"]], ids=["sync", "gthread", "preload"])
def test_gunicorn_with_flask(run_both: Callable[..., tuple[int, Any]], option: list[str]) -> None:
    status, server = run_both([*GUNICORN, *option], WSGI, signal.SIGTERM, says="Booting worker", times=2)
    assert status == 0
    pool = ("not_shut_down", "thread_pool", "yours", "app.py", line(WSGI, "pool"), "drop", 3)
    assert summary(server.report) == [pool], server.log


STREAMLIT = """\
import os
import threading
import chromadb
import streamlit


@streamlit.cache_resource
def client():
    return chromadb.PersistentClient("db")  # cached


things = client().get_or_create_collection("things", embedding_function=None)
things.upsert(ids=["1"], embeddings=[[1.0, 2.0]])
print("READY", things.count(), threading.current_thread() is threading.main_thread(), flush=True)
number = 0
while os.path.exists("work"):
    things.upsert(ids=[str(number % 10)], embeddings=[[1.0, 2.0]])
    number += 1
    if number == 10:
        print("WORKING", flush=True)
streamlit.write("hello")
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("works", [False, True], ids=["idle", "working"])
def test_streamlit_with_a_cached_client(
    serve: Callable[..., Any], until: Callable[..., None], browser: Callable[..., Any], port: int, signum: int, *, works: bool
) -> None:
    # Its file watcher submits itself to a pool again and again: waiting for that pool before it is told to end never ends.
    # Its script threads are daemons, one of which is in the middle of its work when the client is closed.
    command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}", "--server.address=127.0.0.1"]
    options = ["--server.headless=true", "--browser.gatherUsageStats=false"]
    files = {"app.py": STREAMLIT, **({"work": ""} if works else {})}
    printed = []
    for agent in (False, True):
        server = serve([*command, *options], f"http://127.0.0.1:{port}/_stcore/health", agent=agent, files=files)
        session = browser(port)
        wanted = "WORKING" if works else "READY"
        until(lambda server=server, wanted=wanted: wanted in server.log, f"the session says {wanted}")
        assert server.end_by(signum) == 0, server.log
        session.close()
        printed.append([one for one in server.log.splitlines() if one.startswith(("READY", "WORKING", "  Stopping"))])
    assert printed[0] == printed[1]
    assert "Traceback" not in server.log, server.log
    found = summary(server.report)
    client = ("not_closed", "chromadb.client", "yours", "app.py", line(STREAMLIT, "cached"), "client", 1)
    assert client in found, server.log
    found.remove(client)
    assert [(one[0], one[1], one[3]) for one in found] == ([("blocks_exit", "thread", "app.py")] if works else []), server.log


SCRIPT = """\
import os, threading, time
import streamlit

streamlit.write("hello")
print("WORKING", flush=True)
try:
    while os.environ["WORK"] == "python":
        time.sleep(0.02)  # python
        print("TICK", flush=True)
    while os.environ["WORK"] == "streamlit":
        time.sleep(0.02)
        streamlit.write("tick")
    time.sleep(3600)  # c
finally:
    print("LEFT", flush=True)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("work", ["python", "streamlit", "c"])
def test_streamlit_script_at_work_is_stopped_and_named(
    serve: Callable[..., Any], until: Callable[..., None], browser: Callable[..., Any], port: int, work: str, signum: int
) -> None:
    command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}", "--server.address=127.0.0.1"]
    options = ["--server.headless=true", "--browser.gatherUsageStats=false"]
    env = {"WORK": work, "LEAKAGENT_GRACE": "60" if work != "c" else "1", "LEAKAGENT_BUDGET": "200"}
    url = f"http://127.0.0.1:{port}/_stcore/health"
    server = serve([*command, *options], url, agent=True, files={"app.py": SCRIPT}, env=env)
    session = browser(port)
    until(lambda: "WORKING" in server.log, "the script works")
    assert server.end_by(signum) == 0, server.log
    session.close()
    assert "Traceback" not in server.log, server.log
    found = [(one["reason"], one["kind"], one["site"]["line"], one["action"]) for one in server.report["findings"]]
    lines = [one for one in server.log.splitlines() if one in {"TICK", "LEFT"}]
    if work == "c":
        assert found == [("refused_cleanup", "thread", line(SCRIPT, "c"), "none")], server.log
    else:
        # Its own clean-up was the last that it did.
        assert lines[-1] == "LEFT", server.log
        assert (found == []) == (work == "streamlit"), server.log
        assert [one[:2] for one in found] in ([], [("blocks_exit", "thread")])
