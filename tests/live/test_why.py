"""``leakagent why PID`` names the culprit first: the cases in which a program hangs at its end (and Ctrl+C in such a hang)."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# What hangs, by the measured cases of how programs end: the line with "# culprit" is to be blamed.  A second thing that is not to blame stands
# beside it where there can be one.
HANGS = {
    "thread in a lock": (
        "thread",
        """
import threading
stuck = threading.Thread(target=threading.Event().wait)
stuck.start()  # culprit
threading.Thread(target=stuck.join).start()
""",
    ),
    "thread that sleeps": (
        "thread",
        """
import threading, time
threading.Thread(target=time.sleep, args=(3600,)).start()  # culprit
""",
    ),
    "thread that computes": (
        "thread",
        """
import threading
def spin():
    while True:
        sum(range(1000))
threading.Thread(target=spin).start()  # culprit
""",
    ),
    "thread that receives": (
        "thread",
        """
import socket, threading
ours, theirs = socket.socketpair()
threading.Thread(target=ours.recv, args=(1,)).start()  # culprit
""",
    ),
    "worker of a pool": (
        "thread_pool",
        """
import threading
from concurrent.futures import ThreadPoolExecutor
idle = ThreadPoolExecutor(1)
idle.submit(int).result()
pool = ThreadPoolExecutor(1)  # culprit
pool.submit(threading.Event().wait)
""",
    ),
    "pool that was shut down without waiting": (
        "thread_pool",
        """
import threading
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(threading.Event().wait)  # culprit
pool.shutdown(wait=False, cancel_futures=True)
""",
    ),
    "child process": (
        "process",
        """
import multiprocessing, threading
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    context.Process(target=threading.Event().wait).start()  # culprit
""",
    ),
    "pool of processes": (
        "process_pool",
        """
import multiprocessing, time
from concurrent.futures import ProcessPoolExecutor
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))  # culprit
    pool.submit(time.sleep, 3600)
""",
    ),
}

LOOPS = {
    "default executor of a loop": (
        "thread_pool",
        """
import asyncio, threading
async def main():
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)  # culprit
    print("ready", flush=True)
asyncio.run(main())
""",
    ),
    "task that refuses to be cancelled": (
        "asyncio.task",
        """
import asyncio
async def deaf():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("ready", flush=True)
async def main():
    global task
    task = asyncio.create_task(deaf())  # culprit
    await asyncio.sleep(0)
asyncio.run(main())
""",
    ),
}

#: A response without an end, a task after the response (as starlette runs its `BackgroundTask`), a thread that a request waits for, a
#: lifespan.
SERVER = """
import asyncio, sys, threading
import uvicorn
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if sys.argv[2] == "lifespan":
            print("hangs", flush=True)
            await asyncio.Event().wait()  # lifespan
        await send({"type": "lifespan.shutdown.complete"})
        return
    if sys.argv[2] == "thread":
        print("hangs", flush=True)
        await asyncio.to_thread(threading.Event().wait)  # thread
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x", "more_body": sys.argv[2] == "stream"})
    print("hangs", flush=True)
    if sys.argv[2] == "background":
        await asyncio.Event().wait()  # background
    await asyncio.Event().wait()  # stream
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


def line_of(text: str, mark: str = "culprit") -> int:
    return next(number for number, source in enumerate(text.splitlines(), 1) if source.endswith(f"# {mark}"))


@pytest.mark.parametrize("case", HANGS)
def test_the_culprit_of_a_hang_at_the_end(running: Callable[..., Any], case: str) -> None:
    kind, text = HANGS[case]
    app = running(text)
    app.socket()
    app.until(lambda: app.why()["state"] == "ending", "the main thread has ended")
    found = app.why()
    first = found["culprits"][0]
    assert (first["kind"], first["owner"], first["site"]["line"]) == (kind, "yours", line_of(text)), found
    assert first["source"].endswith("# culprit")
    assert first["fix"]
    shown = app.ask("why", app.pid).stdout
    assert f"app0.py:{line_of(text)} <module>" in shown
    assert "Python waits for" in shown


@pytest.mark.parametrize("case", LOOPS)
def test_the_culprit_of_a_loop_that_does_not_end(running: Callable[..., Any], case: str) -> None:
    kind, text = LOOPS[case]
    app = running(text, options=("--grace", "3600"))
    assert app.line() == "ready"
    app.socket()

    def first() -> dict[str, Any]:
        return next(iter(app.why()["culprits"]), {})

    app.until(lambda: first().get("kind") == kind, f"a {kind} comes first")
    assert (first()["owner"], first()["site"]["line"]) == ("yours", line_of(text))
    assert first()["frames"]
    assert first()["fix"]


def test_nobody_waits_for_the_tasks_of_a_loop_that_is_closed(running: Callable[..., Any]) -> None:
    text = LOOPS["task that refuses to be cancelled"][1] + "import sys\nprint('went on', flush=True)\nsys.stdin.readline()\n"
    app = running(text, options=("--grace", "0.1"))
    assert app.line() == "ready"
    while app.line() != "went on":
        pass
    app.socket()
    found = app.why()
    assert (found["state"], found["ending"], found["culprits"]) == ("running", False, []), found
    app.go_on()
    assert app.end()[0] == 0


@pytest.mark.parametrize("case", ["stream", "background", "thread", "lifespan"])
def test_the_culprit_of_a_server_that_does_not_end(running: Callable[..., Any], port: int, case: str) -> None:
    app = running(SERVER, options=("--grace", "3600"), arguments=(str(port), case))

    def accepts() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return False
        return True

    app.until(accepts, "the server accepts connections")
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        if case != "lifespan":
            client.sendall(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
            assert app.line() == "hangs"
        else:
            client.close()
        app.process.send_signal(signal.SIGTERM)
        if case == "lifespan":
            assert app.line() == "hangs"
        app.socket()
        app.until(lambda: app.why()["culprits"], "there is a culprit")
        first = app.why()["culprits"][0]
    assert (first["kind"], first["site"]["line"]) == ("asyncio.task", line_of(SERVER, case)), first
    assert first["name"] == ("lifespan" if case == "lifespan" else "GET /stream")


def test_a_main_thread_that_still_runs_is_shown_with_its_line(running: Callable[..., Any]) -> None:
    text = "import threading, sys\nthreading.Thread(target=int).start()\nprint('ready', flush=True)\nsys.stdin.readline()\n"
    app = running(text)
    assert app.line() == "ready"
    app.socket()
    found = app.json("why", app.pid, "--json")
    assert (found["state"], found["culprits"]) == ("running", [])
    assert "app0.py:4 <module>" in found["main"]


def test_a_main_thread_that_runs_a_loop_is_shown_with_what_it_awaits(running: Callable[..., Any]) -> None:
    text = (
        "import asyncio\nasync def main():\n    print('ready', flush=True)\n    await asyncio.sleep(3600)\nasyncio.run(main())\n"
    )
    app = running(text)
    assert app.line() == "ready"
    app.socket()
    app.until(lambda: "app0.py:4 main" in app.why()["main"], "the line that it awaits")


CTRL_C = {name: HANGS[name] for name in ("thread that sleeps", "thread in a lock", "worker of a pool", "child process")} | {
    "task that refuses to be cancelled": LOOPS["task that refuses to be cancelled"]
}


@pytest.mark.parametrize("case", CTRL_C)
def test_ctrl_c_in_a_stuck_exit_tells_why(running: Callable[..., Any], case: str) -> None:
    _, text = CTRL_C[case]
    app = running(text, options=("--grace", "3600"))
    app.socket()

    def is_stuck() -> bool:
        found = app.why()
        return bool(found["ending"] and found["culprits"])

    app.until(is_stuck, "it hangs")
    app.process.send_signal(signal.SIGINT)
    lines = []
    assert app.process.stderr is not None
    while not any("  fix  " in line for line in lines):
        lines.append(app.process.stderr.readline())
        assert lines[-1], "the program ended without a word"
    shown = "".join(lines)
    assert "leakagent: why it does not end (Ctrl+C)" in shown
    assert f"app0.py:{line_of(text)} " in shown
    assert "# culprit" in shown


TWICE = """
import threading
from leakagent import agent
threading.Thread(target=threading.Event().wait, daemon=True).start()
for _ in range(2):
    agent.current().interrupted()
"""


@pytest.mark.parametrize(("report", "told"), [("text", 1), ("off", 0)])
def test_it_is_told_once_and_only_to_who_wants_text(
    python: Callable[..., Any], program: Callable[..., Path], report: str, told: int
) -> None:
    ran = python("-m", "leakagent", "--report", report, program(TWICE))
    assert ran.returncode == 0, ran
    assert ran.stderr.count("why it does not end (Ctrl+C)") == told
    assert ran.stderr.count("the main thread still runs:") == told
