"""A prefork worker of Celery: the same results and status bare and under the agent, and what its processes leak is told."""

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

TASKS = """\
import os
from concurrent.futures import ThreadPoolExecutor
from celery import Celery

app = Celery("tasks", broker="filesystem://", backend="file://" + os.path.abspath("results"))
app.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}

@app.task
def square(number):
    return number * number

@app.task
def leaks(number):
    global pool
    pool = ThreadPoolExecutor(1)  # leak
    return pool.submit(pow, number, 2).result()
"""

ASK = """\
import sys, tasks
results = [tasks.square.delay(number) for number in range(4)]
if "leak" in sys.argv:
    results += [tasks.leaks.delay(number) for number in range(2)]
print([result.get(timeout=300) for result in results])
"""


class Worker:
    """A worker that has answered and was told to end."""

    def __init__(self, answer: str, status: int, folder: Path) -> None:
        """Keep how it ended."""
        self.answer, self.status = answer, status
        self.log = (folder / "log").read_text(encoding="utf-8")
        path = folder / "report.json"
        self.report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@pytest.fixture
def work(tmp_path: Path, environment: Callable[..., dict[str, str]]) -> Iterator[Callable[..., Worker]]:
    """Start a worker with two processes, send it tasks, tell it to end."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*words: str, agent: bool) -> Worker:
        folder = tmp_path / f"agent-{agent}"
        for name in ("queue", "control", "results"):
            (folder / name).mkdir(parents=True)
        (folder / "tasks.py").write_text(TASKS, encoding="utf-8")
        variables = {"LEAKAGENT": "1", "LEAKAGENT_REPORT": "text,json:report.json"} if agent else {}
        options = ["--pool", "prefork", "--concurrency", "2", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tasks", "worker", *options],
                env={**environment(), "C_FORCE_ROOT": "1", **variables},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started.append(process)
        asked = subprocess.run(
            [sys.executable, "-c", ASK, *words],
            env={**environment(), "PYTHONPATH": os.fspath(folder)},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert asked.returncode == 0, (asked, (folder / "log").read_text(encoding="utf-8"))
        process.send_signal(signal.SIGTERM)
        return Worker(asked.stdout, process.wait(timeout=120), folder)

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("words", [(), ("leak",)], ids=["proper", "leak"])
def test_same_results_and_leaks_of_its_processes(words: tuple[str, ...], work: Callable[..., Worker]) -> None:
    bare, ran = work(*words, agent=False), work(*words, agent=True)
    assert (ran.answer, ran.status) == (bare.answer, bare.status), ran.log
    assert bare.status == 0, bare.log
    found = [(one["reason"], one["kind"], one["site"]["file"], one["site"]["source"]) for one in ran.report["findings"]]
    line = "pool = ThreadPoolExecutor(1)  # leak"
    assert found == ([("not_shut_down", "thread_pool", "tasks.py", line)] if words else []), ran.log
    assert ran.report["agent"]["disabled"] == [], ran.log
