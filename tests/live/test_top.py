"""``leakagent top --once``: all processes in one view, those that leak first.  The screen is in ``tests/apps/test_top_screen.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

CLEAN = """
import sys, threading
go = threading.Event()
thread = threading.Thread(target=go.wait)
thread.start()
print("ready", flush=True)
sys.stdin.readline()
go.set()
"""

LEAKS = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
pools = [ThreadPoolExecutor(1) for _ in range(3)]  # pools
async def main():
    global kept
    kept = [asyncio.create_task(asyncio.sleep(600)) for _ in range(5)]
    await asyncio.sleep(0)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
asyncio.run(main())
"""


def test_all_processes_those_that_leak_first(running: Callable[..., Any]) -> None:
    clean, leaks = running(CLEAN), running(LEAKS)
    for app in (clean, leaks):
        assert app.line() == "ready"
        app.socket()
    found = leaks.json("top", "--once", "--json")
    assert found["schema"] == "leakagent.top/1"
    assert [one["pid"] for one in found["processes"]] == [leaks.pid, clean.pid]
    first, second = found["processes"]
    # Of four pools one is the loop's own, and its to end.
    assert (first["kinds"]["thread_pool"]["live"], first["kinds"]["thread_pool"]["findings"]) == (4, 3)
    # No collection has come since they were made.
    assert first["kinds"]["asyncio.task"]["live"] == 6
    assert (second["kinds"]["thread"]["live"], second["findings"]) == (1, [])
    line = next(number for number, source in enumerate(LEAKS.splitlines(), 1) if source.endswith("# pools"))
    shown = leaks.ask("top", "--once").stdout.splitlines()
    assert shown[0].split() == ["PID", "STATE", "KIND", "LIVE", "+/MIN", "PEAK", "CREATED", "LEAKS", "PROGRAM"]
    assert shown[1].split()[:3] == [str(leaks.pid), "running", "thread_pool"]
    assert any(f"3 x not_shut_down  yours  app1.py:{line} " in text for text in shown), shown
    assert any("fix  `with ThreadPoolExecutor" in text for text in shown), shown


def test_nobody_is_there(running: Callable[..., Any]) -> None:
    app = running(CLEAN, options=("--live", "0"))
    assert app.line() == "ready"
    assert app.json("top", "--json")["processes"] == []
    for words in (["top", "--once"], ["ps"]):
        said = app.ask(*words).stdout
        assert said.startswith("leakagent: no process of yours can be asked; `python -m leakagent app.py`")
        assert said.count("\n") == 1


@pytest.mark.parametrize(("words", "status"), [(["--twice"], 2), (["--once", "1"], 2), ([], 1)])
def test_wrong_usage(running: Callable[..., Any], words: list[str], status: int) -> None:
    app = running(CLEAN)
    ran = app.ask("top", *words)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (status, "", 1), ran
