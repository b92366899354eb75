"""CPython's own tests of what the agent patches, with it and without: a quick selection of `make downstream` (docs/downstream.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Runs tests and writes the outcome of each, and whether the agent was there in the end.
RUNNER = """\
import json, signal, sys, unittest

# In the background of a shell Ctrl+C is ignored, and asyncio's tests of it wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Outcomes(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.of = {}
    def addSuccess(self, test):
        self.of.setdefault(test.id(), "passed")
    def addSkip(self, test, reason):
        self.of[test.id()] = "skipped"
    def addFailure(self, test, error):
        self.of[test.id()] = self._exc_info_to_string(error, test)
    addError = addFailure
    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.addFailure(test, error)

outcomes = Outcomes()
unittest.defaultTestLoader.loadTestsFromNames(sys.argv[2:]).run(outcomes)
agent = sys.modules.get("leakagent.agent")
with open(sys.argv[1], "w") as file:
    json.dump([bool(agent and agent.is_active()), outcomes.of], file)
"""

ASYNCIO = ("test_taskgroups", "test_locks", "test_queues", "test_runners", "test_timeouts", "test_tasks.CTask_CFuture_Tests")
SELECTIONS = {
    "asyncio": [f"test.test_asyncio.{name}" for name in ASYNCIO],
    "threading": [f"test.test_threading.{name}" for name in ("ThreadTests", "ThreadJoinOnShutdown")],
}

#: They assert that a pending task that nobody refers to is destroyed: the agent keeps it (`lost_task`).
EXCEPTIONS = {"test.test_asyncio.test_tasks.CTask_CFuture_Tests.test_log_destroyed_pending_task"}


@pytest.mark.parametrize("name", SELECTIONS)
def test_cpythons_own_tests_pass_as_without_the_agent(
    name: str, python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    runner, found = program(RUNNER, "runner.py"), {}
    for agent in (False, True):
        results = tmp_path / f"results{agent}.json"
        variables = {"LEAKAGENT": str(int(agent)), "LEAKAGENT_REPORT": "off"}
        ran = python("-W", "ignore", runner, results, *SELECTIONS[name], env=variables, timeout=600)
        assert ran.returncode == 0, ran
        active, found[agent] = json.loads(results.read_text(encoding="utf-8"))
        assert active is agent
        assert "leakagent" not in ran.stderr, ran
    passed = {test for test, outcome in found[False].items() if outcome == "passed"}
    assert len(passed) > 40  # far more in each selection of each version
    assert {test: found[True].get(test) for test in passed - EXCEPTIONS if found[True].get(test) != "passed"} == {}


#: aiohttp's test_worker: a worker that is no more than what the test needs of it.
WORKER = """\
from gunicorn.workers.base import Worker
class Mine(Worker):
    def __init__(self):
        pass
try:
    Mine().init_process()
except AttributeError as error:
    print(error)
"""


def test_a_gunicorn_worker_that_does_not_know_its_starter(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    path = program(WORKER)
    bare, ran = (python(path, env={"LEAKAGENT": agent}) for agent in ("0", "1"))
    assert "ppid" not in bare.stdout, bare
    assert (ran.returncode, ran.stdout, ran.stderr) == (bare.returncode, bare.stdout, bare.stderr) == (0, bare.stdout, ""), (
        ran,
        bare,
    )
