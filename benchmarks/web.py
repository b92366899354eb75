"""Requests of uvicorn and FastAPI.

    python benchmarks/web.py [--rounds N] [--gate] [--json FILE]

`plain` answers at once, `fan` starts three tasks for each request. Instructions are those of server and client in one thread, 400 requests after
100 that are not counted (callgrind); what leakagent's own threads do has a row of its own, since it depends on the time and not on the requests: the
instructions of a second in which the server has nothing to do, less those of the bare one. CPU time is the server's per request, under wrk (one
thread, eight connections, three seconds), in alternated rounds; `req/s` and `p99` are wrk's. `saw` is the number of tasks in leakagent's report over
the number made.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

from paired import AGAIN, AGENT, BARE, Row, compare
from programs import BLOCK, VARIANTS, Ran, Runs, alternate, chosen, main, rows_of

if TYPE_CHECKING:
    import argparse

    from programs import Variant

APP = """\
import asyncio, os, sys, time
import uvicorn
from fastapi import FastAPI

app = FastAPI()
requests = {"plain": 0, "fan": 0}
async def nothing(): pass

@app.get("/plain")
async def plain():
    requests["plain"] += 1
    return {"answer": 42}

@app.get("/fan")
async def fan():
    requests["fan"] += 1
    await asyncio.gather(*[asyncio.create_task(nothing()) for _ in range(3)])
    return {"answer": 42}

@app.get("/cpu")
async def cpu():
    return {"cpu": time.process_time(), **requests}
"""

SERVER = (
    APP
    + """
server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", loop="asyncio"))
async def announce():
    while not server.started: await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
async def main():
    kept = asyncio.create_task(announce())
    await server.serve()
asyncio.run(_around())
"""
)

ALONE = (
    BLOCK
    + APP
    + """
async def main():
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", loop="asyncio"))
    serving = asyncio.create_task(server.serve())
    while not server.started: await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])
    async def ask(times):
        for _ in range(times):
            writer.write(f"GET /{sys.argv[2].replace('idle', 'plain')} HTTP/1.1\\r\\nHost: bench\\r\\n\\r\\n".encode())
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
    await ask(100)
    gc.collect()
    block.begin()
    if sys.argv[2] == "idle": await asyncio.sleep(int(sys.argv[1]))
    else: await ask(int(sys.argv[1]))
    block.end()
    writer.close()
    server.should_exit = True
    await serving
asyncio.run(_around())
"""
)

PATHS = {"plain": 1, "fan": 4}
"""Path -> tasks that a request makes: uvicorn's own and those of the handler."""

WRK = ("-t1", "-c8", "-d3s", "--latency")
REQUESTS = 400
IDLE_SECONDS = 30
LIMIT = 60.0


def _ask(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/cpu", timeout=LIMIT) as answer:
        return dict(json.loads(answer.read()))


def serve(runs: Runs, variant: Variant) -> Ran:
    """Run the server under wrk and return its figures."""
    environment, report = runs.environment(variant)
    command = [runs.python, str(runs.program(variant, SERVER))]
    process = subprocess.Popen(
        command, env=environment, cwd=runs.folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.strip().isdigit():
            return Ran({}, 0, 0, {}, "failed: the server did not start")
        port, figures, made = int(line), {}, 0.0
        for path in PATHS:
            before = _ask(port)
            told = subprocess.run(
                ["wrk", *WRK, f"http://127.0.0.1:{port}/{path}"], check=True, stdout=subprocess.PIPE, text=True
            ).stdout
            after = _ask(port)
            figures[f"{path}, CPU"] = (after["cpu"] - before["cpu"]) / (after[path] - before[path]) * 1e6
            figures[f"{path}, req/s"] = float(re.findall(r"Requests/sec:\s+([\d.]+)", told)[0])
            value, unit = re.findall(r"99%\s+([\d.]+)(us|ms|s)", told)[0]
            figures[f"{path}, p99"] = float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
        final = _ask(port)
        made = final["plain"] + 4 * final["fan"]
    finally:
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + LIMIT
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.communicate()
    seen = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    return Ran({**figures, "made": made}, 0, 0, seen)


def _coverage(ran: Ran) -> float:
    # The requests that ask for the figures, the server's lifespan and its main task are not counted here: a few more are seen.
    return min(1.0, ran.created("asyncio.task") / ran.figures["made"])


def _part(unit: str, ran: Ran) -> dict[str, float]:
    return {name: value for name, value in ran.figures.items() if name.endswith(unit)}


def measure(runs: Runs, options: argparse.Namespace) -> list[Row]:
    """Return the rows."""
    rows: list[Row] = []
    counted = (BARE, AGENT, "set and done callback", "opentelemetry-instrumentation", AGAIN)
    for path, tasks in PATHS.items():
        samples: dict[str, list[float | None]] = {}
        seen = {}
        for name, variant in chosen(counted, gate=options.gate).items():
            value, report = runs.per_turn(variant, runs.program(variant, ALONE), REQUESTS, path, main_thread=True)
            samples[name] = [value]
            if report:
                seen[name] = min(1.0, report["totals"]["asyncio.task"]["created"] / ((100 + REQUESTS) * tasks))
        rows += compare(f"{path}, instructions", "instructions", samples, coverage=seen)
    bare, agent = (
        runs.per_turn(VARIANTS[name], runs.program(VARIANTS[name], ALONE), IDLE_SECONDS, "idle")[0] for name in (BARE, AGENT)
    )
    more = None if bare is None or agent is None else agent - bare
    rows.append(Row("idle: instructions more in a second", AGENT, more, "instructions"))
    return rows if options.gate else rows + under_wrk(runs, options.rounds)


def under_wrk(runs: Runs, rounds: int) -> list[Row]:
    """Return the rows of the server under wrk; none where that is not installed."""
    rows: list[Row] = []
    if not shutil.which("wrk"):
        print("wrk is not installed (Debian package wrk): no CPU time, requests per second and latencies", file=sys.stderr)
        return rows
    names = [name for name in VARIANTS if name not in {"asyncio debug", "pyleak", "aiomonitor"}]
    found, notes = alternate(chosen(names, gate=False), rounds, lambda _name, variant: serve(runs, variant))
    for text, unit in (("CPU", "us"), ("req/s", "req/s"), ("p99", "ms")):
        rows += rows_of(found, notes, unit, lambda ran, text=text: _part(text, ran), _coverage)  # type: ignore[misc]
    return rows


if __name__ == "__main__":
    main(__doc__ or "", "web", measure, rounds=5)
