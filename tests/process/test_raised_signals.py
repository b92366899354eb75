"""A program that handles a signal and then ends itself by it, as uvicorn does: it is told about, and ends as it would have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAIN = """\
import asyncio
import atexit
import signal
async def other():
    await asyncio.sleep(3600)
async def never():
    await asyncio.get_running_loop().create_future()
async def main():
    asyncio.create_task(never())  # dropped
    kept = asyncio.create_task(other())  # kept
    await asyncio.sleep(0.01)
    print("the end", flush=True)
    signal.raise_signal(signal.SIG)
    return kept
atexit.register(print, "exit handler")
asyncio.run(main())
print("not reached")
"""

# The main task is not the one that ends the program: nothing has outlived it.
ANOTHER = """\
import asyncio
import signal
async def never():
    await asyncio.get_running_loop().create_future()
async def end():
    asyncio.create_task(never())  # dropped
    await asyncio.sleep(0.01)
    print("the end", flush=True)
    signal.raise_signal(signal.SIG)
async def main():
    kept = asyncio.create_task(asyncio.sleep(3600))
    await asyncio.gather(end(), kept)
asyncio.run(main())
"""

CHILD = """\
import multiprocessing
import signal
from concurrent.futures import ThreadPoolExecutor
def child():
    global pool
    pool = ThreadPoolExecutor(1)  # pool
    print(pool.submit(abs, -1).result(), flush=True)
    signal.raise_signal(signal.SIGTERM)
if __name__ == "__main__":
    for method in ("fork", "spawn"):
        process = multiprocessing.get_context(method).Process(target=child)
        process.start()
        process.join()
        print(method, process.exitcode, flush=True)
"""


def found(told: Any) -> list[tuple[str, str, int]]:
    """Return reason, kind and line of each finding."""
    return sorted((one["reason"], one["kind"], one["site"]["line"]) for one in told.findings)


def alike(told: Any, python: Callable[..., Any], program: Callable[..., Path], folder: Path) -> None:
    """Assert that the bare program has the same status and the same output."""
    bare = python(program(told.text), cwd=folder)
    assert (bare.returncode, bare.stdout) == (told.ran.returncode, told.ran.stdout), (bare, told)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_raised_by_the_main_task(
    told: Callable[..., Any], python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    ran = told(MAIN.replace("signal.SIG)", f"signal.{name})"))
    assert found(ran) == [
        ("lost_task", "asyncio.task", ran.line("dropped")),
        ("outlived_scope", "asyncio.task", ran.line("kept")),
    ], ran
    assert ran.report["exit"] == {"status": None, "signal": -ran.ran.returncode}, ran
    bare = python(program(ran.text), cwd=tmp_path)
    assert (bare.returncode, bare.stdout) == (ran.ran.returncode, "the end\n"), (bare, ran)
    # What Python alone cuts off.
    assert ran.lines == ["the end", "exit handler"]


def test_raised_by_another_task(
    told: Callable[..., Any], python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    ran = told(ANOTHER.replace("signal.SIG)", "signal.SIGTERM)"))
    assert found(ran) == [("lost_task", "asyncio.task", ran.line("dropped"))], ran
    assert ran.lines == ["the end"]
    alike(ran, python, program, tmp_path)


def test_raised_in_children(
    told: Callable[..., Any], python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    ran = told(CHILD)
    assert found(ran) == [("not_shut_down", "thread_pool", ran.line("pool"))], ran
    assert ran.findings[0]["count"] == 2
    assert ran.findings[0]["action"] == "none"
    assert ran.lines == ["1", "fork -15", "1", "spawn -15"]
    alike(ran, python, program, tmp_path)


SURVIVED = """\
import signal
import threading
def raised(*signums):
    for signum in signums:
        signal.raise_signal(signum)
    print("lives", flush=True)
signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
raised(signal.SIGTERM, signal.SIGCHLD)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
raised(signal.SIGTERM)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
raised(signal.SIGTERM)
signal.sigwait([signal.SIGTERM])
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)  # pool
print(pool.submit(abs, -1).result(), flush=True)
try:
    signal.raise_signal("text")
except TypeError as error:
    print(type(error).__name__)
try:
    raised(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_raised_and_survived(
    told: Callable[..., Any], python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    ran = told(SURVIVED)
    assert found(ran) == [("not_shut_down", "thread_pool", ran.line("pool"))], ran
    assert ran.lines == ["handled", "lives", "lives", "lives", "1", "TypeError", "interrupted"]
    alike(ran, python, program, tmp_path)


def test_the_function_stays_what_it_is(python: Callable[..., Any]) -> None:
    code = """\
import inspect, signal
before = signal.raise_signal
import leakagent
leakagent.install()
patched = signal.raise_signal
print(patched is not before, patched.__name__, patched.__doc__ == before.__doc__, inspect.signature(patched))
leakagent.uninstall()
print(signal.raise_signal is before, inspect.signature(before))
"""
    ran = python("-c", code)
    assert ran.returncode == 0, ran
    first, second = ran.stdout.splitlines()
    assert first.startswith("True raise_signal True ("), ran
    assert second == "True " + first.split(" ", 3)[3], ran
