"""``pytest --leakagent``: the test that made a leak fails, and no other; told with its line and the fix."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET  # noqa: N817 - its usual name
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEAD = """\
import asyncio, multiprocessing, subprocess, sys, threading, time, unittest
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import pytest

kept = []
gate = threading.Event()

async def background():
    await asyncio.sleep(600)

def wait():
    gate.wait(600)
"""


class Outcome:
    """What pytest said of a file of tests."""

    def __init__(self, ran: Any, folder: Path, text: str) -> None:
        """Read its reports."""
        self.ran = ran
        self.text = text
        cases = ET.parse(folder / "junit.xml").getroot().iter("testcase")  # noqa: S314 - pytest has just written it
        self.cases = {str(case.get("name")): case for case in cases}
        report = folder / "report.json"
        self.findings = json.loads(report.read_text(encoding="utf-8"))["findings"] if report.exists() else []

    def __repr__(self) -> str:
        """Show everything: this is what a failed assertion prints."""
        return repr(self.ran)

    def of(self, outcome: str) -> list[str]:
        """Return the names of the tests that have failed, or had errors."""
        return [name for name, case in self.cases.items() if case.find(outcome) is not None]

    def message(self, name: str) -> str:
        """Return what was said of a failed test."""
        found = self.cases[name].find("failure")
        assert found is not None, self
        return f"{found.get('message')}\n{found.text}"


@pytest.fixture(name="outcome")
def outcome_fixture(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> Callable[..., Outcome]:
    """Run a file of tests with ``--leakagent``."""

    def run(text: str, *options: str, env: dict[str, str] | None = None) -> Outcome:
        path = program(HEAD + text, "test_it.py")
        variables = {"LEAKAGENT_REPORT": "json:report.json", "PYTEST_ADDOPTS": "", **(env or {})}
        words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--junit-xml=junit.xml", "--leakagent")
        ran = python(*words, *options, path.name, env=variables)
        assert (tmp_path / "junit.xml").exists(), ran
        return Outcome(ran, tmp_path, HEAD + text)

    return run


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


def test_each_kind_fails_the_test_that_made_it(outcome: Callable[..., Outcome]) -> None:
    after = outcome(EACH_KIND)
    leaky = [name for name in after.cases if name not in {"test_nothing", "test_the_rest_ends"}]
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


def test_who_is_blamed(outcome: Callable[..., Outcome]) -> None:
    after = outcome(WHO)
    assert after.of("failure") == [
        "test_by_its_fixture",
        "test_fails_by_itself",
        "test_unittest_leaks",
        "test_async_unittest_leaks",
    ], after
    assert after.of("error") == [], after
    assert "its own" in after.message("test_fails_by_itself")
    # A fixture that a wider scope shares belongs to no test.
    _, end = after.ran.stdout.split("leakagent: left alive at the end of the session")
    assert "made by fixture forgotten (session, test_it.py)" in end, after
    assert "fixture server" not in end, after


def test_the_end_of_the_session_alone_decides_the_status(outcome: Callable[..., Outcome]) -> None:
    text = "\npool = ThreadPoolExecutor(1)\n\ndef test_passes():\n    pass\n"
    after = outcome(text)
    assert (after.of("failure"), after.ran.returncode) == ([], 1), after
    assert "made by the session (imports" in after.ran.stdout, after
    assert outcome(text, "--collect-only").ran.returncode == 0
    assert outcome(text, "-o", "leakagent_ignore=thread_pool").ran.returncode == 0


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["-o", "leakagent_grace=soon"], "leakagent: leakagent_grace='soon' is not valid (allowed: a number of seconds)"),
        (["-o", "leakagent_level=all"], "leakagent: LEAKAGENT_LEVEL='all' is not valid (allowed: off, count, site, stack)"),
        (["--leakagent-baseline", "none.json"], "leakagent: baseline none.json: No such file or directory"),
    ],
)
def test_wrong_settings_are_one_line(
    options: list[str], line: str, python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    program("def test_it():\n    pass\n", "test_it.py")
    ran = python("-m", "pytest", "--leakagent", *options, env={"PYTEST_ADDOPTS": ""})
    assert ran.returncode == 4, ran
    assert [text for text in ran.stderr.splitlines() if "leakagent" in text] == [f"ERROR: {text}" for text in [line]] or (
        line in ran.stderr and "Traceback" not in ran.stderr
    ), ran


def test_without_the_option_nothing_is_loaded(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    program(
        """\
import sys, threading
from concurrent.futures import ThreadPoolExecutor

kept = []

def test_it(leakagent):
    kept.append(ThreadPoolExecutor(1))
    assert not leakagent.active and leakagent.alive() == []

def test_what_is_loaded(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("leakagent")

def test_first():
    before = {"leakagent", "leakagent.pytest_plugin"}
    assert {name for name in sys.modules if name.partition(".")[0] in ("leakagent", "wrapt")} - before == set()
""",
        "test_it.py",
    )
    ran = python("-m", "pytest", "-q", "test_it.py::test_first", "test_it.py", env={"PYTEST_ADDOPTS": ""})
    assert ran.returncode == 0, ran


def test_an_agent_that_is_active_is_used(outcome: Callable[..., Outcome]) -> None:
    text = "\ndef test_leaks():\n    kept.append(ThreadPoolExecutor(1))\n\ndef test_not():\n    pass\n"
    after = outcome(text, env={"LEAKAGENT": "1", "LEAKAGENT_REPORT": "text,json:report.json", "LEAKAGENT_LEVEL": "site"})
    assert after.of("failure") == ["test_leaks"], after
    assert "made by test test_it.py::test_leaks" in after.ran.stderr, after
    found, = after.findings
    assert (found["count"], found["test_id"]) == (1, "test_it.py::test_leaks"), after


def test_a_baseline_survives_lines_that_move(outcome: Callable[..., Outcome], python: Callable[..., Any], tmp_path: Path) -> None:
    text = "\ndef test_old():\n    kept.append(ThreadPoolExecutor(1))\n"
    assert outcome(text).of("failure") == ["test_old"]
    made = python("-m", "leakagent", "baseline", "report.json")
    assert made.returncode == 0, made
    (tmp_path / "accepted.json").write_text(made.stdout, encoding="utf-8")
    moved = "\n# Some lines\n# are new.\n" + text + "\ndef test_new():\n    kept.append(ThreadPoolExecutor(2))\n"
    after = outcome(moved, "--leakagent-baseline", "accepted.json")
    assert after.of("failure") == ["test_new"], after


@pytest.mark.parametrize("how", ["setup", "teardown", "skipped"])
def test_leaks_of_tests_that_end_otherwise(how: str, outcome: Callable[..., Outcome]) -> None:
    text = f"""
@pytest.fixture
def broken():
    kept.append(ThreadPoolExecutor(1))
    if {how == "setup"}:
        raise ValueError("its own")
    yield
    if {how == "teardown"}:
        raise ValueError("its own")

def test_it(broken):
    if {how == "skipped"}:
        pytest.skip("not here")

def test_next():
    pass
"""
    after = outcome(text)
    assert "test_next" not in [*after.of("failure"), *after.of("error")], after
    assert after.of("error") == ([] if how == "skipped" else ["test_it"]), after
    assert "leakagent: left alive" in after.ran.stdout or "Leak: " in after.ran.stdout or how == "skipped", after

