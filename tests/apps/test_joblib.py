"""joblib, and loky that it brings along: the same results, leaks of its workers are told, and no worker is left or spared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARALLEL = """\
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from joblib import Parallel, delayed
from joblib.externals.loky import ProcessPoolExecutor

def square(number):
    return number * number

def fails(number):
    raise ValueError(number)

def leaks(number):
    global pool
    pool = ThreadPoolExecutor(1)  # leak: not_shut_down thread_pool
    return pool.submit(square, number).result()

if __name__ == "__main__":
    for backend in ("loky", "threading", "multiprocessing"):
        print(Parallel(n_jobs=2, backend=backend)(delayed(square)(number) for number in range(5)))
    print(Parallel(n_jobs=2, max_nbytes=1000)(delayed(len)(bytes(100_000)) for _ in range(3)))
    with Parallel(n_jobs=2, return_as="generator") as parallel:
        print(list(parallel(delayed(square)(number) for number in range(3))))
    try:
        Parallel(n_jobs=2)(delayed(fails)(number) for number in range(3))
    except ValueError as error:
        print(type(error).__name__)
    with ProcessPoolExecutor(1) as proper:
        print(proper.submit(square, 5).result())
    if "leak" in sys.argv:
        print(Parallel(n_jobs=2)(delayed(leaks)(number) for number in range(4)))
        own = ProcessPoolExecutor(1)  # leak: not_shut_down process_pool
        print(own.submit(square, 6).result())
"""


def test_same_results_and_planted_leaks(compare: Callable[..., Any]) -> None:
    compare(PARALLEL, "leak").check()


def test_proper_use_is_not_told(compare: Callable[..., Any]) -> None:
    after = compare(PARALLEL)
    assert [report["findings"] for report in after.reports] == [[], []]
    for ran, _ in after.agents.values():
        assert (ran.stdout, ran.stderr) == (after.bare.stdout, ""), ran


WORKING = """\
import os, sys, time
from joblib import Parallel, delayed
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.backend import resource_tracker

def work(name):
    try:
        open(f"{name}.up", "w").close()
        time.sleep(600)
    finally:
        with open("cleaned", "a") as file:
            file.write(f"{name}\\n")

def is_active():
    agent = sys.modules.get("leakagent.agent")
    return os.getpid(), agent is not None and agent.is_active()

if __name__ == "__main__":
    own = ProcessPoolExecutor(2)
    print(*own.submit(is_active).result(), resource_tracker._resource_tracker._pid, flush=True)
    if "own" in sys.argv:
        jobs = [own.submit(work, name) for name in "ab"]
        time.sleep(600)
    elif "parallel" in sys.argv:
        Parallel(n_jobs=2)(delayed(work)(name) for name in "abcd")
    else:
        sys.stdin.read()
        # Its own way to end a worker: at once.
        own.submit(work, "a")
        while not os.path.exists("a.up"):
            time.sleep(0.01)
        for process in list(own._processes.values()):
            process.terminate()
        for process in list(own._processes.values()):
            process.join()
        print(os.path.exists("cleaned"))
"""


def in_session(session: int) -> list[int]:
    """Return the processes of a session that run."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(name))
    return found


MARK = """\
import os, sys
agent = sys.modules.get("leakagent.agent")
with open(f"mark-{os.getpid()}", "w") as file:
    file.write(str(agent is not None and agent.is_active()))
"""


@pytest.fixture
def start(tmp_path: Path, environment: Callable[..., dict[str, str]]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the program under the agent, in a session of its own."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: str, agent: bool = True) -> subprocess.Popen[str]:
        path = tmp_path / "app.py"
        path.write_text(WORKING, encoding="utf-8")
        # A sitecustomize runs in every interpreter after the start-up hook.
        (tmp_path / "path").mkdir()
        (tmp_path / "path" / "sitecustomize.py").write_text(MARK, encoding="utf-8")
        variables = {"PYTHONPATH": os.fspath(tmp_path / "path")}
        if agent:
            variables |= {"LEAKAGENT": "1", "LEAKAGENT_REPORT": "json:report.json"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, os.fspath(path), *words]
        process = subprocess.Popen(
            command, env={**environment(), **variables}, cwd=tmp_path, text=True, start_new_session=True, **pipes
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("how", ["own", "parallel"])
def test_no_worker_is_left(how: str, signum: int, start: Callable[..., Any], until: Callable[..., None], tmp_path: Path) -> None:
    process = start(how)
    assert process.stdout.readline()
    until(lambda: (tmp_path / "a.up").exists() and (tmp_path / "b.up").exists(), "both workers work")
    process.send_signal(signum)
    assert process.wait(timeout=120) == -signum
    until(lambda: in_session(process.pid) == [], f"all of {in_session(process.pid)} end")
    if signum == signal.SIGKILL:
        # Nobody else ends them: they clean up, whatever they swallow and take up next.
        assert {"a", "b"} <= set((tmp_path / "cleaned").read_text(encoding="utf-8").split())
    else:
        # Before the budget is over: nobody had to be forced.
        report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        stages = {stage["stage"]: stage for stage in report["receipt"]}
        assert how == "parallel" or stages["children"]["asked"] == 2, report


@pytest.mark.parametrize("agent", [False, True])
def test_terminate_ends_a_worker_at_once_and_its_tracker_is_left_alone(
    agent: bool, start: Callable[..., Any], tmp_path: Path
) -> None:
    process = start(agent=agent)
    worker, active, tracker = process.stdout.readline().split()
    marks = [(tmp_path / f"mark-{pid}").read_text(encoding="utf-8") for pid in (worker, tracker)]
    assert (active, marks) == (str(agent), [str(agent), "False"])
    stdout, stderr = process.communicate("", timeout=120)
    assert stdout == "False\n", stderr
