"""``pytest --leakagent``: the test that made a leak fails, and no other; told with its line and the fix."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EACH_KIND = """
def test_task():
    async def main():
        kept.append(asyncio.create_task(background()))  # test_task
        await asyncio.sleep(0)
    asyncio.run(main())

def test_thread():
    threading.Thread(target=wait, daemon=True).start()  # test_thread

def test_executor():
    kept.append(ThreadPoolExecutor(1))  # test_executor

def test_executors_of_processes():
    kept.append(ProcessPoolExecutor(1))  # test_executors_of_processes

def test_process():
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,), daemon=True)
    child.start()  # test_process

def test_subprocess():
    kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))  # test_subprocess

def test_loop():
    kept.append(asyncio.new_event_loop())  # test_loop

def test_task_of_a_loop_that_stands_still():
    loop = asyncio.new_event_loop()
    kept.append(loop.create_task(background()))  # test_task_of_a_loop_that_stands_still
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

def test_nothing():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
    subprocess.run([sys.executable, "-c", ""], check=True)
    asyncio.run(asyncio.to_thread(int))

def test_the_rest_ends():
    kept[-3].communicate(b"")
    gate.set()
"""


def test_each_kind_fails_the_test_that_made_it(outcome: Callable[..., Any]) -> None:
    after = outcome(EACH_KIND)
    leaky = [name for name, _ in after.cases if name not in {"test_nothing", "test_the_rest_ends"}]
    assert after.of("failure") == leaky, after
    assert after.of("error") == [], after
    assert after.ran.returncode == 1
    for name in leaky:
        line = next(number for number, text in enumerate(after.text.splitlines(), 1) if text.endswith(f"# {name}"))
        assert f"test_it.py:{line} " in after.message(name), after
        assert "\n   fix  " in after.message(name), after
        assert f"FAILED test_it.py::{name} - Leak: " in after.ran.stdout, after
    told = {one["test_id"]: one["kind"] for one in after.findings if one["test_id"]}
    assert set(told) == {f"test_it.py::{name}" for name in leaky}, after
    assert told["test_it.py::test_loop"] == "event_loop"
    assert told["test_it.py::test_subprocess"] == "subprocess"
    assert "waiting in test_it.py:9 background > asyncio/tasks.py" in after.message("test_task")
    assert "runs test_it.py:12 wait > threading.py" in after.message("test_thread")
    assert "stop.set(); thread.join()\n" in after.message("test_thread"), after  # a daemon already


WHO = """
@pytest.fixture(scope="module")
def server():
    thread = threading.Thread(target=wait)
    thread.start()
    yield
    gate.set()
    thread.join()

@pytest.fixture(scope="session")
def forgotten():
    kept.append(ThreadPoolExecutor(1))  # forgotten

@pytest.fixture
def leaky():
    kept.append(ThreadPoolExecutor(1))  # leaky

@pytest.fixture
def tidy():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        yield pool

def test_first_of_the_module(server, forgotten, tidy):
    pass

def test_by_its_fixture(leaky):
    pass

def test_ends_in_a_moment():
    threading.Timer(0.05, int).start()

def test_fails_by_itself():
    kept.append(ThreadPoolExecutor(1))
    assert 0, "its own"

@pytest.mark.xfail(strict=True)
def test_expected_to_fail():
    kept.append(ThreadPoolExecutor(1))
    assert 0

@pytest.mark.leakagent(ignore="thread_pool")
def test_may_leave_a_pool():
    kept.append(ThreadPoolExecutor(1))

@pytest.mark.leakagent(ignore=True)
def test_may_leave_anything():
    threading.Thread(target=wait).start()

def test_asks(leakagent):
    assert leakagent.active
    assert leakagent.alive() == []
    kept.append(ThreadPoolExecutor(1))  # asked
    line, = leakagent.alive()
    assert line.startswith("thread_pool of test_it.py:") and line.endswith(" test_asks")
    leakagent.ignore("test_asks")

class TestOfUnittest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.end = threading.Event()
        cls.thread = threading.Thread(target=cls.end.wait)
        cls.thread.start()

    @classmethod
    def tearDownClass(cls):
        cls.end.set()
        cls.thread.join()

    def test_unittest_leaks(self):
        kept.append(ThreadPoolExecutor(1))

    def test_unittest_cleans_up(self):
        pool = ThreadPoolExecutor(1)
        self.addCleanup(pool.shutdown)

class TestOfAsyncUnittest(unittest.IsolatedAsyncioTestCase):
    async def test_async_unittest_leaks(self):
        kept.append(asyncio.create_task(background()))

    async def test_async_unittest_ends(self):
        await asyncio.create_task(asyncio.sleep(0))
"""


def test_who_is_blamed(outcome: Callable[..., Any]) -> None:
    after = outcome(WHO)
    assert after.of("failure") == [
        "test_by_its_fixture",
        "test_fails_by_itself",
        "test_unittest_leaks",
        # Python 3.10's IsolatedAsyncioTestCase cancels what is left in code of its own.
        *(["test_async_unittest_leaks"] if sys.version_info >= (3, 11) else []),
    ], after
    assert after.of("error") == [], after
    assert "its own" in after.message("test_fails_by_itself")
    # A fixture that a wider scope shares belongs to no test.
    _, end = after.ran.stdout.split("leakagent: left alive at the end of the session")
    assert "made by fixture forgotten (session, test_it.py)" in end, after
    assert "fixture server" not in end, after


AT_THE_SAME_MOMENT = """
@pytest.fixture(scope="session")
def loop():
    loop = asyncio.new_event_loop()
    serving = loop.create_task(background())
    yield loop
    for task in asyncio.all_tasks(loop): task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

def test_right_after_its_fixture(loop):
    kept.append(loop.create_task(background()))
    gc.collect()  # the notes of old tasks are shorter

def test_before_the_loop_is_closed(loop):
    pass
"""


def test_moments_between_two_tasks_are_told_apart(outcome: Callable[..., Any]) -> None:
    after = outcome("import gc\n" + AT_THE_SAME_MOMENT)
    assert after.of("failure") == ["test_right_after_its_fixture"], after


def test_without_the_option_nothing_is_loaded(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    program(
        """\
import sys, threading
from concurrent.futures import ThreadPoolExecutor

kept = []

def test_first():
    before = {"leakagent", "leakagent.pytest_plugin"}
    assert {name for name in sys.modules if name.partition(".")[0] in ("leakagent", "wrapt")} - before == set()

def test_it(leakagent):
    kept.append(ThreadPoolExecutor(1))
    assert not leakagent.active and leakagent.alive() == []

def test_what_is_loaded(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("leakagent")
""",
        "test_it.py",
    )
    ran = python("-m", "pytest", "-q", env={"PYTEST_ADDOPTS": ""})
    assert ran.returncode == 0, ran
