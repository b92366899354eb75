"""uvicorn ends, whatever its application has left open, with its own status, and what kept it is named."""

from __future__ import annotations

import importlib.util
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_MATRIX = runpy.run_path(str(Path(__file__).with_name("end_matrix.py")))
APP: str = _MATRIX["APP"]

LOOPS = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]

#: What is told in each variant: reason, kind, line, action.
TOLD = {
    "none": [],
    "pending": [("outlived_scope", "asyncio.task", "pending", "cancelled")],
    "swallow": [("refused_cleanup", "asyncio.task", "swallow", "released")],
    "thread": [("blocks_exit", "thread_pool", "", "released"), ("outlived_scope", "asyncio.task", "thread", "cancelled")],
    "gather": [("blocks_exit", "asyncio.task", "gather", "cancelled")],
    "stream": [("blocks_exit", "asyncio.task", "stream", "cancelled")],
    "bg": [("blocks_exit", "asyncio.task", "stream", "cancelled")],
    "lifespan_hang": [("blocks_exit", "asyncio.task", "lifespan_hang", "cancelled")],
    "lifespan_slow": [],
}

#: Variants in which the application's own clean-up comes to its end.
CLEAN = {"none", "pending", "swallow", "thread", "stream", "bg", "lifespan_slow"}


def line(marker: str) -> int:
    (found,) = (number for number, one in enumerate(APP.splitlines(), 1) if one.endswith(f"# {marker}"))
    return found


def told(report: dict[str, Any]) -> list[tuple[str, str, int, str]]:
    """Return reason, kind, line and action of each finding; a finding in a library has line 0."""
    return sorted(
        (one["reason"], one["kind"], one["site"]["line"] if one["owner"] == "yours" else 0, one["action"])
        for one in report["findings"]
    )


def expected(variant: str) -> list[tuple[str, str, int, str]]:
    return sorted((reason, kind, line(marker) if marker else 0, action) for reason, kind, marker, action in TOLD[variant])


@pytest.fixture
def start(serve: Callable[..., Any], port: int) -> Callable[..., Any]:
    """Start the application in one variant, with a client that has asked for something and holds on."""

    def run(variant: str, loop: str, *, grace: float = 1, budget: float = 60) -> Any:
        command = [sys.executable, "app.py", variant, str(port), loop]
        env = {"LEAKAGENT_GRACE": str(grace), "LEAKAGENT_BUDGET": str(budget)}
        return serve(command, f"http://127.0.0.1:{port}/", agent=True, files={"app.py": APP}, env=env)

    return run


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("variant", TOLD)
def test_ends(start: Callable[..., Any], until: Callable[..., None], variant: str, loop: str, signum: int) -> None:
    server = start(variant, loop)
    with server.open("open"):
        until(lambda: "OPEN" in server.log, "the request has done its work")
        status = server.end_by(signum)
    lines = [one for one in server.log.splitlines() if one in {"LIFESPAN DONE", "AFTER RUN", "ATEXIT"}]
    if variant != "gather":
        # Told to end by SIGTERM, uvicorn ends everything, and then itself by the same signal.
        assert status == (-signum if signum == signal.SIGTERM else 0), server.log
        after = [] if signum == signal.SIGTERM else ["AFTER RUN"]
        assert lines == [*(["LIFESPAN DONE"] if variant in CLEAN else []), *after, "ATEXIT"], server.log
    # Cancelling what waits for itself can raise `RecursionError` in uvicorn; that it ends is what counts.
    assert lines[-1] == "ATEXIT", server.log
    found = told(server.report)
    assert set(expected(variant)) <= set(found) if variant == "gather" else found == expected(variant), server.log
    assert "is cut off here" not in server.log
    assert server.report["agent"]["disabled"] == []


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("variant", "says"), [("stream", "Waiting for connections"), ("lifespan_hang", "CLEANING"), ("swallow", "SWALLOWED")]
)
def test_a_second_ctrl_c_ends_it_at_once(
    start: Callable[..., Any], until: Callable[..., None], variant: str, says: str, loop: str
) -> None:
    # If the grace were waited for, or the budget, the test would take longer than it may.
    server = start(variant, loop, grace=500, budget=2000)
    with server.open("open"):
        until(lambda: "OPEN" in server.log, "the request has done its work")
        server.process.send_signal(signal.SIGINT)
        until(lambda: says in server.log, says)
        status = server.end_by(signal.SIGINT)
    assert status == 0, server.log
    ((reason, kind, number, _action),) = told(server.report)
    assert (kind, number) == ("asyncio.task", line(variant)), server.log
    assert reason == ("outlived_scope" if variant == "swallow" else "blocks_exit")
    assert "ATEXIT" in server.log
    why = server.log.partition("leakagent: why it does not end (Ctrl+C)\n")[2]
    first = next((text for text in why.splitlines() if text.lstrip().startswith("yours ")), "")
    assert f"app.py:{line(variant)} " in first, server.log


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("variant", "says"), [("stream", "Waiting for connections"), ("lifespan_hang", "CLEANING")])
def test_a_second_sigterm_changes_nothing_while_uvicorn_has_its_own_handler(
    start: Callable[..., Any], until: Callable[..., None], variant: str, says: str, loop: str
) -> None:
    server = start(variant, loop)
    with server.open("open"):
        until(lambda: "OPEN" in server.log, "the request has done its work")
        server.process.send_signal(signal.SIGTERM)
        until(lambda: says in server.log, says)
        assert server.end_by(signal.SIGTERM) == -signal.SIGTERM, server.log
    assert told(server.report) == expected(variant), server.log
    assert "ATEXIT" in server.log


@pytest.mark.parametrize("loop", LOOPS)
def test_a_second_sigterm_ends_it_at_once_when_uvicorn_has_ended(
    start: Callable[..., Any], until: Callable[..., None], loop: str
) -> None:
    # If the grace were waited for, or the budget, the test would take longer than it may.
    server = start("swallow", loop, grace=500, budget=2000)
    with server.open("open"):
        until(lambda: "OPEN" in server.log, "the request has done its work")
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "SWALLOWED" in server.log, "the task is asked to end")
        assert server.end_by(signal.SIGTERM) == -signal.SIGTERM, server.log
    assert "ATEXIT" not in server.log


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_request_in_flight_gets_its_grace(
    start: Callable[..., Any], until: Callable[..., None], loop: str, signum: int
) -> None:
    server = start("finishes", loop, grace=60, budget=200)
    with server.open("open") as client:
        until(lambda: "OPEN" in server.log or server.process.poll() is None, "it runs")
        server.process.send_signal(signum)
        answer = b""
        while b"ok" not in answer:
            answer += client.recv(1000) or pytest.fail(f"no answer: {answer!r}\n{server.log}")
    assert server.ended() == (-signum if signum == signal.SIGTERM else 0)
    lines = [one for one in server.log.splitlines() if one in {"FINISHED", "LIFESPAN DONE", "ATEXIT"}]
    assert lines == ["FINISHED", "LIFESPAN DONE", "ATEXIT"]
    assert server.report["findings"] == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_all_at_once_ends_within_the_budget(start: Callable[..., Any], until: Callable[..., None], signum: int) -> None:
    server = start("all", "asyncio", grace=1, budget=60)
    with server.open("open"):
        until(lambda: "OPEN" in server.log, "the request has done its work")
        status = server.end_by(signum)
    assert status == (-signum if signum == signal.SIGTERM else 0), server.log
    named = {number for _, _, number, _ in told(server.report)}
    assert named >= {line(marker) for marker in ("pending", "swallow", "thread", "stream", "lifespan_hang")}, server.log
    assert "is cut off here" not in server.log


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_request_that_blocks_the_loop_is_cut_off_when_the_budget_is_over(
    start: Callable[..., Any], until: Callable[..., None], signum: int
) -> None:
    server = start("blocked", "asyncio", grace=1, budget=2)
    with server.open("open"):
        until(lambda: "OPEN" in server.log, "the request blocks")
        status = server.end_by(signum)
    assert status == (-signum if signum == signal.SIGTERM else 0), server.log
    assert f"the server's end after {signum.name} took longer than 2 s and is cut off here" in server.log
    assert "in work" in server.log, "the stacks tell where"


def test_the_users_own_limit_counts(serve: Callable[..., Any], until: Callable[..., None], port: int) -> None:
    text = APP.replace("loop=sys.argv[3])", "loop=sys.argv[3], timeout_graceful_shutdown=1)")
    env = {"LEAKAGENT_GRACE": "500", "LEAKAGENT_BUDGET": "2000"}
    command = [sys.executable, "app.py", "stream", str(port), "asyncio"]
    server = serve(command, f"http://127.0.0.1:{port}/", agent=True, files={"app.py": text}, env=env)
    with server.open("open"):
        until(lambda: "OPEN" in server.log, "the request has done its work")
        assert server.end_by(signal.SIGTERM) == -signal.SIGTERM
    assert "timeout graceful shutdown exceeded" in server.log
    assert "LIFESPAN DONE" in server.log
    assert server.report["findings"] == [], "it is no news to who has set it"


def test_a_server_that_the_program_ends_waits_as_before(serve: Callable[..., Any], until: Callable[..., None], port: int) -> None:
    # No signal has come: the program may have its reasons to wait.
    text = APP.replace(
        "    uvicorn.run(app, port=int(sys.argv[2]), loop=sys.argv[3])",
        """\
    server = uvicorn.Server(uvicorn.Config(app, port=int(sys.argv[2])))
    def stop():
        while not os.path.exists("stop"):
            time.sleep(0.01)
        server.should_exit = True
    threading.Thread(target=stop, daemon=True).start()
    server.run()""",
    ).replace("await asyncio.sleep(0.5)", 'while not os.path.exists("go"): await asyncio.sleep(0.01)')
    env = {"LEAKAGENT_GRACE": "0.1", "LEAKAGENT_BUDGET": "0.3"}
    command = [sys.executable, "app.py", "finishes", str(port), "asyncio"]
    server = serve(command, f"http://127.0.0.1:{port}/", agent=True, files={"app.py": text}, env=env)
    with server.open("open"):
        (server.folder / "stop").touch()
        until(lambda: "Waiting for connections" in server.log, "it waits for the request")
        until(lambda: server.log.count("Shutting down") == 1, "it ends")
        (server.folder / "go").touch()
        assert server.ended() == 0, server.log
    lines = [one for one in server.log.splitlines() if one in {"FINISHED", "LIFESPAN DONE", "AFTER RUN", "ATEXIT"}]
    assert lines == ["FINISHED", "LIFESPAN DONE", "AFTER RUN", "ATEXIT"], server.log
    assert server.report["findings"] == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("option", [["--workers", "2"], ["--reload"]], ids=["workers", "reload"])
def test_children_end_with_their_streams(
    serve: Callable[..., Any], until: Callable[..., None], port: int, option: list[str], signum: int
) -> None:
    text = APP.replace("variant = sys.argv[1]", 'variant = "stream"').replace('say("OPEN")', 'say("OPEN", os.getpid())')
    command = [sys.executable, "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(port), *option]
    env = {"LEAKAGENT_GRACE": "1", "LEAKAGENT_BUDGET": "60"}
    server = serve(command, f"http://127.0.0.1:{port}/", agent=True, files={"app.py": text}, env=env)
    with server.open("open"), server.open("open"):
        until(lambda: server.log.count("OPEN ") == 2, "two requests have done their work")
        workers = [int(one.split()[1]) for one in server.log.splitlines() if one.startswith("OPEN ")]
        status = server.end_by(signum)
    assert status == 0, server.log
    assert not any(_lives(pid) for pid in workers), server.log
    (finding,) = server.report["findings"]
    assert (finding["reason"], finding["site"]["line"], finding["count"]) == ("blocks_exit", line("stream"), 2)
    assert server.log.count("leakagent: ") == 1, "one report"


def test_a_worker_that_does_not_end_is_killed_by_its_parent(
    serve: Callable[..., Any], until: Callable[..., None], port: int
) -> None:
    # It is stopped, so nothing in it can do anything.
    command = [sys.executable, "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(port), "--reload"]
    text = APP.replace("variant = sys.argv[1]", 'variant = "none"; print("WORKER", os.getpid(), flush=True)')
    env = {"LEAKAGENT_GRACE": "1", "LEAKAGENT_BUDGET": "3"}
    server = serve(command, f"http://127.0.0.1:{port}/", agent=True, files={"app.py": text}, env=env)
    worker = next(int(one.split()[1]) for one in server.log.splitlines() if one.startswith("WORKER "))
    os.kill(worker, signal.SIGSTOP)
    assert server.end_by(signal.SIGTERM) == 0, server.log
    assert not _lives(worker)
    (finding,) = server.report["findings"]
    assert (finding["reason"], finding["kind"], finding["action"]) == ("refused_cleanup", "process", "killed")


def test_the_clean_up_of_a_worker_runs_after_sigterm(serve: Callable[..., Any], until: Callable[..., None], port: int) -> None:
    text = APP.replace("variant = sys.argv[1]", 'variant = "swallow"; atexit.register(print, "WORKER ENDS", flush=True)')
    command = [sys.executable, "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    env = {"LEAKAGENT_GRACE": "1", "LEAKAGENT_BUDGET": "60"}
    server = serve(command, f"http://127.0.0.1:{port}/", agent=True, files={"app.py": text}, env=env)
    until(lambda: server.log.count("Application startup complete") == 2, "both workers serve")
    with server.open("open"):
        until(lambda: "OPEN" in server.log, "the request has done its work")
        assert server.end_by(signal.SIGTERM) == 0, server.log
    assert "SWALLOWED" in server.log, "its task was cancelled"
    assert server.log.count("WORKER ENDS") == 2
    (finding,) = server.report["findings"]
    assert (finding["reason"], finding["site"]["line"]) == ("refused_cleanup", line("swallow"))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
