"""A program without leaks is the same with and without the agent, and patched methods stay what they were."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import multiprocessing.pool
import pickle
import threading
from typing import TYPE_CHECKING

import pytest

import leakagent
from leakagent import agent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLEAN = {
    "asyncio": """\
import asyncio
async def work(n):
    await asyncio.sleep(0.01)
    return n * 2
async def main():
    print(await asyncio.gather(*(work(n) for n in range(5))))
    task = asyncio.create_task(work(21), name="named")
    print(task.get_name(), await task)
    print(await asyncio.wait_for(asyncio.shield(work(1)), 10), await asyncio.to_thread(str, 5))
asyncio.run(main())
""",
    "pools": """\
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
if __name__ == "__main__":
    with ThreadPoolExecutor(2) as pool, ProcessPoolExecutor(2) as processes:
        print(list(pool.map(str, range(3))), processes.submit(abs, -1).result())
    pool = ThreadPoolExecutor(1)
    print(pool.submit(len, "abc").result())
    pool.shutdown()
""",
    "exit handler closes": """\
import atexit
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
atexit.register(pool.shutdown)
print(pool.submit(len, "abc").result())
""",
    "multiprocessing": """\
import multiprocessing
def square(n):
    return n * n
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(pool.map(square, range(4)))
    process = multiprocessing.Process(target=square, args=(1,))
    process.start()
    process.join()
    daemon = multiprocessing.Process(target=square, args=(1,), daemon=True)
    daemon.start()
    print(process.exitcode)
""",
    "subprocess": """\
import subprocess, sys
print(subprocess.run([sys.executable, "-c", "import sys; print(1); print(2, file=sys.stderr)"], capture_output=True))
""",
    "threads": """\
import threading, time
stop = threading.Event()
threading.Thread(target=stop.wait, daemon=True).start()
def poll():
    # Ends when Python marks the main thread as ended.
    while threading.main_thread().is_alive():
        time.sleep(0.01)
    print("main has ended")
poller = threading.Thread(target=poll)
poller.start()
def late():
    poller.join()
    print("timer")
threading.Timer(0.05, late).start()
print(threading.active_count())
""",
    "resubmits itself": """\
import time
from concurrent.futures import ThreadPoolExecutor
def again():
    time.sleep(0.01)
    try:
        pool.submit(again)
    except RuntimeError as error:
        print(error)
with ThreadPoolExecutor(1) as other:
    other.submit(print, "worked").result()
from threading import Thread
def run():
    global pool
    with ThreadPoolExecutor(2) as pool:
        pool.submit(again).result()
thread = Thread(target=run)
thread.start()
""",
    "unittest": """\
import unittest
class Case(unittest.IsolatedAsyncioTestCase):
    async def test_one(self):
        self.assertEqual(1, 1)
unittest.main(argv=["x"], verbosity=0) if False else print(unittest.TextTestRunner(stream=open("/dev/null", "w")).run(
    unittest.defaultTestLoader.loadTestsFromTestCase(Case)).wasSuccessful())
""",
    "logging and warnings": """\
import logging, warnings
logging.basicConfig(level=logging.DEBUG, format="%(name)s %(funcName)s %(lineno)d %(message)s")
warnings.simplefilter("error")
import asyncio
async def main():
    logging.getLogger("app").info("hello")
asyncio.run(main(), debug=True)
""",
    "never retrieved": """\
import asyncio, gc
async def fail():
    raise ValueError("nobody looks")
async def main():
    asyncio.get_running_loop().create_task(fail(), name="failing")
    await asyncio.sleep(0.01)
    print("before")
    gc.collect()
    print("after", flush=True)
asyncio.run(main())
""",
    "nothing": "",
}


@pytest.mark.parametrize("name", CLEAN)
@pytest.mark.parametrize("way", ["module", "environment"])
def test_a_clean_program_is_the_same(name: str, way: str, python: Callable[..., object], program: Callable[..., Path]) -> None:
    app = program(CLEAN[name])
    plain = python(app)
    watched = python("-m", "leakagent", app) if way == "module" else python(app, env={"LEAKAGENT": "1"})
    assert (watched.stdout, watched.returncode) == (plain.stdout, plain.returncode), (plain, watched)
    assert watched.stderr == plain.stderr, (plain, watched)


class Subclass(concurrent.futures.ThreadPoolExecutor):
    pass


POINTS = {
    "ThreadPoolExecutor": concurrent.futures.ThreadPoolExecutor,
    "ProcessPoolExecutor": concurrent.futures.ProcessPoolExecutor,
    "Thread": threading.Thread,
    "Process": multiprocessing.process.BaseProcess,
    "Pool": multiprocessing.pool.Pool,
    "BaseEventLoop": asyncio.BaseEventLoop,
}


def state() -> dict[str, object]:
    return {f"{name}.{key}": value for name, owner in POINTS.items() for key, value in vars(owner).items() if callable(value)}


@pytest.fixture
def installed() -> object:
    assert leakagent.install(report="off")
    yield agent.current()
    leakagent.uninstall()


def test_uninstall_puts_the_identical_objects_back() -> None:
    before = state()
    runners = dict(vars(asyncio.runners))
    for _ in range(100):
        assert leakagent.install(report="off")
        assert not leakagent.install()
        assert state() != before
        assert leakagent.uninstall()
        assert not leakagent.uninstall()
    after = state()
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert vars(asyncio.runners)["_cancel_all_tasks"] is runners["_cancel_all_tasks"]
    assert not leakagent.is_active()


def test_signatures_names_and_classes_stay() -> None:
    signatures = {name: (inspect.signature(owner), owner.__doc__) for name, owner in POINTS.items()}
    names = {name: (value.__qualname__, value.__module__) for name, value in state().items() if inspect.isfunction(value)}
    leakagent.install(report="off")
    try:
        assert {name: (inspect.signature(owner), owner.__doc__) for name, owner in POINTS.items()} == signatures
        now = {name: (value.__qualname__, value.__module__) for name, value in state().items() if inspect.isfunction(value)}
        assert now == names
        with Subclass(1) as pool:
            assert isinstance(pool, concurrent.futures.ThreadPoolExecutor)
            assert pool.submit(int).result() == 0
        assert pickle.loads(pickle.dumps(concurrent.futures.ThreadPoolExecutor)) is concurrent.futures.ThreadPoolExecutor
        assert pickle.loads(pickle.dumps(threading.Thread.start)) is threading.Thread.start
    finally:
        leakagent.uninstall()


def test_names_imported_before_are_covered(installed: agent.Agent) -> None:
    # This module imported the class before install().
    pool = concurrent.futures.ThreadPoolExecutor(1)
    try:
        (found,) = leakagent.snapshot()["findings"]
        assert (found["reason"], found["site"]["function"]) == ("not_shut_down", "test_names_imported_before_are_covered")
    finally:
        pool.shutdown()
    assert leakagent.snapshot()["findings"] == []
    assert installed.is_active()


def test_public_names() -> None:
    assert sorted(leakagent.__all__) == ["__version__", "install", "is_active", "shutdown", "snapshot", "uninstall"]
    assert all(hasattr(leakagent, name) for name in leakagent.__all__)
    with pytest.raises(AttributeError):
        _ = leakagent.nothing


def test_wrong_options_of_install() -> None:
    with pytest.raises(TypeError, match="no option 'nothing'"):
        leakagent.install(nothing=1)
    with pytest.raises(ValueError, match="LEAKAGENT_BUDGET='soon' is not valid"):
        leakagent.install(budget="soon")
    assert not leakagent.is_active()
    with pytest.raises(RuntimeError, match="not active"):
        leakagent.snapshot()
