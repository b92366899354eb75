"""hypercorn ends, with its workers, whatever its application has left open, and what kept it is named."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

APP = """\
import asyncio, os

keep = []
variant = os.environ["VARIANT"]


def say(*words):
    print(*words, os.getpid(), flush=True)


async def swallow():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            say("SWALLOWED")


async def lifespan(receive, send):
    await receive()
    say("WORKER")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    if variant == "lifespan_hang":
        await asyncio.sleep(3600)  # lifespan_hang
    say("LIFESPAN DONE")
    await send({"type": "lifespan.shutdown.complete"})


async def answer(send, more=False):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok", "more_body": more})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["path"] == "/open":
        if variant == "swallow":
            keep.append(asyncio.create_task(swallow()))  # swallow
        say("OPEN")
        if variant == "stream":
            await answer(send, more=True)
            await asyncio.sleep(3600)  # stream
        if variant == "finishes":
            while not os.path.exists("go"):
                await asyncio.sleep(0.01)
            say("FINISHED")
        await answer(send)
    else:
        await answer(send)
"""

LOOPS = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]


def line(marker: str) -> int:
    (found,) = (number for number, one in enumerate(APP.splitlines(), 1) if one.endswith(f"# {marker}"))
    return found


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def start(serve: Callable[..., Any], until: Callable[..., None], port: int) -> Callable[..., Any]:
    """Start hypercorn with some workers, when all of them serve."""

    def run(variant: str, *options: str, workers: int, agent: bool = True, grace: float = 1, budget: float = 60) -> Any:
        command = [sys.executable, "-m", "hypercorn", "app:app", "-b", f"127.0.0.1:{port}", "-w", str(workers), *options]
        env = {"VARIANT": variant, "LEAKAGENT_GRACE": str(grace), "LEAKAGENT_BUDGET": str(budget)}
        server = serve(command, f"http://127.0.0.1:{port}/", agent=agent, files={"app.py": APP}, env=env)
        until(lambda: len(pids(server)) == max(workers, 1), "all workers serve")
        return server

    return run


def pids(server: Any) -> list[int]:
    return [int(one.split()[1]) for one in server.log.splitlines() if one.startswith("WORKER ")]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(
    ("variant", "told"),
    [("none", None), ("stream", "blocks_exit"), ("swallow", "refused_cleanup"), ("lifespan_hang", "blocks_exit")],
)
def test_ends(
    start: Callable[..., Any],
    until: Callable[..., None],
    variant: str,
    told: str | None,
    workers: int,
    loop: str,
    signum: int,
) -> None:
    server = start(variant, "-k", loop, workers=workers)
    with server.open("open"):
        until(lambda: "OPEN" in server.log, "the request has done its work")
        status = server.end_by(signum)
    assert not any(map(lives, pids(server))), server.log
    assert "is cut off here" not in server.log
    assert server.report["agent"]["disabled"] == []
    assert status == (1 if variant == "lifespan_hang" and not workers else 0), server.log
    found = {(one["reason"], one["site"]["line"]) for one in server.report["findings"] if one["owner"] == "yours"}
    assert found == ({(told, line(variant))} if told else set()), server.log


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_is_answered_although_the_other_worker_has_ended(
    start: Callable[..., Any], until: Callable[..., None], signum: int
) -> None:
    server = start("finishes", "--graceful-timeout", "60", workers=2, grace=60, budget=200)
    with server.open("open") as client:
        until(lambda: "OPEN" in server.log, "the request has begun")
        server.process.send_signal(signum)
        until(lambda: sum(map(lives, pids(server))) == 1 or "LIFESPAN DONE" in server.log, "the other worker has ended")
        (server.folder / "go").touch()
        answer = b""
        while b"ok" not in answer:
            answer += client.recv(1000) or pytest.fail(f"no answer: {answer!r}\n{server.log}")
    assert server.ended() == 0, server.log
    assert not any(map(lives, pids(server))), server.log
    assert server.report["findings"] == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [0, 1])
def test_status_as_without_the_agent(start: Callable[..., Any], tmp_path: Path, workers: int, signum: int) -> None:
    # hypercorn's own limit for a lifespan is a minute, unless one sets it.
    config = tmp_path / "hypercorn.toml"
    config.write_text("shutdown_timeout = 0.5\n", encoding="utf-8")
    statuses = [start("lifespan_hang", "-c", str(config), workers=workers, agent=agent).end_by(signum) for agent in (False, True)]
    assert statuses[0] == statuses[1] == (0 if workers else 1)
