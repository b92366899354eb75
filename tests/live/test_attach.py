"""``leakagent attach PID``: the agent starts in a program that runs already (`sys.remote_exec`, 3.14 and newer)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from leakagent.cli import attach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CAN = sys.version_info >= (3, 14)

PROGRAM = """
import asyncio, multiprocessing, os, subprocess, sys, threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

def hold():  # thread
    threading.Event().wait()

async def job():  # task
    await asyncio.get_running_loop().create_future()

async def main():
    kept = [asyncio.create_task(job()) for _ in range(3)]
    print("ready", flush=True)
    while not os.path.exists(sys.argv[1]):
        await asyncio.sleep(0.01)

if __name__ == "__main__":
    threads = ThreadPoolExecutor(1)
    threads.submit(int).result()
    workers = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    workers.submit(int).result()
    child = multiprocessing.get_context("spawn").Process(target=hold, daemon=True)
    child.start()
    sleeper = subprocess.Popen(["sleep", "600"])
    threading.Thread(target=hold, daemon=True, name="holder").start()
    asyncio.run(main())
    sleeper.kill()
    sleeper.wait()
    workers.shutdown()
    sys.exit(7)
"""

ASLEEP = """
import sys
print("ready", flush=True)
sys.stdin.readline()
x = 0
for number in range(1000):
    x += number
print("went on", "leakagent" in sys.modules, flush=True)
"""


class Target:
    """A program without the agent."""

    def __init__(self, process: subprocess.Popen[str], runtime: Path, stop: Path) -> None:
        self.process = process
        self.runtime = runtime
        self.stop = stop

    def ask(self, *words: object) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "XDG_RUNTIME_DIR": str(self.runtime)}
        command = [sys.executable, "-m", "leakagent", *map(str, words)]
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def target(
    program: Callable[..., Path], environment: Callable[..., dict[str, str]], tmp_path: Path
) -> Iterator[Callable[..., Target]]:
    """Start a program's text without the agent, and wait until it is ready."""
    started: list[subprocess.Popen[str]] = []
    runtime = tmp_path / "runtime"
    runtime.mkdir()

    def start(text: str, *, variables: dict[str, str] | None = None, python: str = sys.executable) -> Target:
        process = subprocess.Popen(
            [python, program(text), tmp_path / "stop"],
            env=environment({"XDG_RUNTIME_DIR": str(runtime), **(variables or {})}),
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return Target(process, runtime, tmp_path / "stop")

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def refused(ran: subprocess.CompletedProcess[str], words: str) -> None:
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1), ran
    assert ran.stderr.startswith("leakagent: ")
    assert words in ran.stderr


def test_what_is_there_is_taken_up_and_reported_at_the_end(target: Callable[..., Target]) -> None:
    app = target(PROGRAM)
    report = app.runtime / "report.json"
    ran = app.ask("attach", app.process.pid, "--report", f"json:{report}", "--wait", "120")
    if not CAN:
        refused(ran, "attach needs Python 3.14 or newer")
        return
    assert ran.returncode == 0, ran
    assert ran.stdout == (
        f"leakagent: attached to app.py (process {app.process.pid}), which has 4 asyncio tasks, 1 event loop, 4 threads, "
        "2 processes, 1 subprocess, 1 thread pool, 1 process pool\n"
    )
    live = json.loads(app.ask("dump", app.process.pid).stdout)["totals"]
    assert {kind: counts["live"] for kind, counts in live.items()} == {
        "asyncio.task": 4,
        "process": 2,
        "process_pool": 1,
        "subprocess": 1,
        "thread": 4,  # the holder, the worker of the pool of threads, two that manage the other pool
        "thread_pool": 1,
    }
    refused(app.ask("attach", app.process.pid), "is active there already")
    app.stop.touch()
    assert app.process.wait(timeout=120) == 7
    found = {(one["kind"], one["reason"]): one for one in json.loads(report.read_text(encoding="utf-8"))["findings"]}
    lines = {source.rpartition("# ")[2]: number for number, source in enumerate(PROGRAM.splitlines(), 1) if "  # " in source}
    task = found["asyncio.task", "lost_task"]  # the main coroutine alone had them
    assert (task["count"], task["site"]["function"], task["site"]["line"]) == (3, "job", lines["task"])
    pool = found["thread_pool", "not_shut_down"]
    assert "__main__.threads" in pool["names"]
    assert any("before leakagent was attached" in text for text in pool["evidence"])
    assert ("process_pool", "not_shut_down") not in found  # it was shut down


def test_a_process_in_a_system_call_is_left_alone(target: Callable[..., Target]) -> None:
    app = target(ASLEEP)
    ran = app.ask("attach", app.process.pid, "--wait", "0.3")
    refused(ran, "it waits in a system call" if CAN else "attach needs Python 3.14 or newer")
    # Nothing happens later, when nobody waits for it any more.
    stdout, stderr = app.process.communicate("\n", timeout=120)
    assert (stdout, stderr, app.process.returncode) == ("went on False\n", "", 0)


def test_a_process_that_does_not_allow_it(target: Callable[..., Target]) -> None:
    app = target(ASLEEP, variables={"PYTHON_DISABLE_REMOTE_DEBUG": "1"})
    words = f"process {app.process.pid} does not allow it" if CAN else "attach needs Python 3.14 or newer"
    refused(app.ask("attach", app.process.pid), words)


def test_another_version(target: Callable[..., Target]) -> None:
    if not CAN:
        refused(target(ASLEEP).ask("attach", 1), "attach needs Python 3.14 or newer, here and in the process; this is 3.1")
        return
    for other in {"3.14", "3.15"} - {".".join(map(str, sys.version_info[:2]))}:
        python = shutil.which(f"python{other}")
        if python is not None:
            app = target(ASLEEP, python=python)
            said = f"process {app.process.pid} runs Python {other}, this is"
            refused(app.ask("attach", app.process.pid), said)


def test_wrong_pids(target: Callable[..., Target]) -> None:
    app = target(ASLEEP)
    app.process.kill()
    app.process.wait()
    refused(app.ask("attach", app.process.pid), "there is no process" if CAN else "attach needs Python 3.14")
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        refused(app.ask("attach", sleeper.pid), "is no Python that can be attached to" if CAN else "attach needs Python 3.14")
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "usage: leakagent attach PID"),
        (["x"], "usage: leakagent attach PID"),
        (["1", "2"], "usage: leakagent attach PID"),
        (["1", "--wait"], "--wait needs a value"),
        (["1", "--wait", "nan"], "--wait 'nan' is not valid"),
        (["1", "--twice"], "attach has no option --twice"),
        (["1", "--level", "all"], "LEAKAGENT_LEVEL='all' is not valid"),
    ],
)
def test_wrong_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        attach.main(words)
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out, shown.err.count("\n")) == (2, "", 1)
    assert said in shown.err


def test_another_users_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "remote_exec", lambda *_: pytest.fail("it was touched"), raising=False)
    user = os.stat("/proc/1").st_uid
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    with pytest.raises(SystemExit) as ended:
        attach.main(["1"])
    assert ended.value.code == 1
    assert f"belongs to another user (uid {user})" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError("no"), "may not look into process"),
        (ProcessLookupError(), "there is no process"),
        (RuntimeError("Can't send commands from a Python 3.14 process to a Python 3.15 process"), "runs Python 3.15"),
        (RuntimeError("Remote debugging is not enabled in the remote process"), "does not allow it"),
        (RuntimeError("PyRuntime address lookup failed during debug offsets initialization"), "is no Python"),
        (OSError("something else"), "can't be attached to: something else"),
    ],
)
def test_what_the_interpreter_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    def refuse(_pid: int, _path: str) -> Any:
        raise error

    monkeypatch.setattr(sys, "remote_exec", refuse, raising=False)
    monkeypatch.setattr("leakagent.live.protocol.sockets", list)
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        with pytest.raises(SystemExit) as ended:
            attach.main([str(sleeper.pid)])
    finally:
        sleeper.kill()
        sleeper.wait()
    assert ended.value.code == 1
    assert said in capsys.readouterr().err
