"""``leakagent why PID`` names what a process waits for at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

THREAD = """
import threading
threading.Thread(target=threading.Event().wait).start()  # culprit
"""
POOL = """
import threading
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)  # culprit
pool.submit(threading.Event().wait)
"""
CHILD = """
import multiprocessing, threading
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    context.Process(target=threading.Event().wait).start()  # culprit
"""


@pytest.mark.parametrize(("text", "kind"), [(THREAD, "thread"), (POOL, "thread_pool"), (CHILD, "process")])
def test_the_culprit_of_a_hang_at_the_end(running: Callable[..., Any], text: str, kind: str) -> None:
    app = running(text)
    app.socket()
    app.until(lambda: app.json("why", app.pid, "--json")["state"] == "ending", "the main thread has ended")
    found = app.json("why", app.pid, "--json")
    line = next(number for number, source in enumerate(text.splitlines(), 1) if source.endswith("# culprit"))
    first = found["culprits"][0]
    assert (first["kind"], first["owner"], first["site"]["line"]) == (kind, "yours", line), found
    assert first["fix"]
    shown = app.ask("why", app.pid).stdout
    assert f"app0.py:{line} <module>" in shown
    assert "Python waits for" in shown


def test_a_main_thread_that_still_runs_is_shown_with_its_line(running: Callable[..., Any]) -> None:
    text = "import threading, sys\nthreading.Thread(target=int).start()\nprint('ready', flush=True)\nsys.stdin.readline()\n"
    app = running(text)
    assert app.line() == "ready"
    app.socket()
    found = app.json("why", app.pid, "--json")
    assert (found["state"], found["culprits"]) == ("running", [])
    assert "app0.py:4 <module>" in found["main"]
