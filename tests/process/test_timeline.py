"""The timeline and the processes of a report, as a real program leaves them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROGRAM = """
import asyncio, multiprocessing, subprocess, sys, threading, time

def started():
    subprocess.run([sys.executable, "-c", "import subprocess; subprocess.run(['true'])"])  # grandchild

async def main():
    kept = []
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        kept.append(asyncio.create_task(asyncio.sleep(600)))
        await asyncio.sleep(0.05)

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=started, name="worker")
    child.start()
    child.join()
    asyncio.run(main())
    print("threads", threading.active_count(), "samples" in sys.argv, "leakagent.samples" in sys.modules)
"""

FORK = """
import os, sys, threading
threading.Thread(target=int).start()
while "leakagent.samples" not in sys.modules or not sys.modules["leakagent.samples"].samples.taken:
    pass  # the agent's thread is there
child = os.fork()
if not child:
    os._exit(0)
os.waitpid(child, 0)
"""


def test_live_counts_and_memory_over_time(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    ran = python("-m", "leakagent", "--report", "json:report.json,html:report.html", program(PROGRAM))
    assert (ran.returncode, ran.stdout) == (0, "threads 1 False True\n"), ran
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    timeline = report["timeline"]
    assert 3 <= len(timeline) <= 120
    assert [one["at"] for one in timeline] == sorted(one["at"] for one in timeline)
    assert all(one["memory"] > 1_000_000 for one in timeline)
    tasks = [one["live"].get("asyncio.task", 0) for one in timeline]
    assert max(tasks) > 3
    assert any(0 < number < max(tasks) for number in tasks)  # it grew
    (worker,) = [one for one in report["processes"] if one["kind"] == "process"]
    line = next(number for number, text in enumerate(PROGRAM.splitlines(), 1) if text.strip() == "child.start()")
    assert (worker["name"], worker["parent_pid"], worker["runs"]) == ("worker", report["pid"], False)
    assert worker["place"] == f"app.py:{line} <module>"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'class="l0"' in page
    assert "worker" in page


def test_nobody_looks_where_no_report_shows_it(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    ran = python("-m", "leakagent", program(PROGRAM))
    assert ran.stdout == "threads 1 False False\n", ran


def test_a_fork_does_not_warn(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    # 3.12 and newer warn of a fork beside another thread.
    ran = python("-W", "error::DeprecationWarning", "-m", "leakagent", "--report", "json:report.json", program(FORK))
    assert (ran.returncode, ran.stderr) == (0, ""), ran
