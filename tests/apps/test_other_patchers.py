"""Beside others that patch Python: Sentry, ddtrace, nest_asyncio, debugpy, coverage, cloudpickle; before leakagent and after it.

`opentelemetry-instrument` and Logfire: `tests/otel/test_beside.py`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Uses what they patch as well, and leaves one pool and one task.
WORK = """
import asyncio, subprocess, sys, threading
from concurrent.futures import ThreadPoolExecutor

class Mine(threading.Thread):
    def run(self):
        self.done = True

async def part(number):
    await asyncio.sleep(0)
    return number

async def fails():
    raise KeyError("mine")

async def main():
    tasks = [asyncio.create_task(part(number), name=f"part {number}") for number in range(3)]
    print([task.get_name() for task in tasks], await asyncio.gather(*tasks), await asyncio.to_thread(abs, -4))
    try:
        await asyncio.create_task(fails())
    except KeyError as error:
        print(error)
    global kept
    kept = asyncio.create_task(asyncio.sleep(3600))  # leak: outlived_scope asyncio.task

def work():
    thread = Mine()
    thread.start()
    thread.join()
    print(thread.done, isinstance(thread, threading.Thread))
    with ThreadPoolExecutor(1) as pool:
        print(list(pool.map(abs, [-1, -2])))
    print(subprocess.run([sys.executable, "-S", "-c", "print(5)"], capture_output=True, text=True).stdout.strip())
    asyncio.run(main())

pool = ThreadPoolExecutor(1)  # leak: not_shut_down thread_pool
print(pool.submit(pow, 2, 3).result())
work()
"""

# eventlet, which is there for other tests, takes the name resolver apart when Sentry imports it, and fails to.
SENTRY = """
import os
os.environ["EVENTLET_NO_GREENDNS"] = "yes"
import sentry_sdk
from sentry_sdk.integrations.asyncio import AsyncioIntegration
from sentry_sdk.integrations.threading import ThreadingIntegration

class Transport(sentry_sdk.transport.Transport):
    def capture_envelope(self, envelope):
        pass

sentry_sdk.init(
    dsn="http://key@127.0.0.1:9/1", transport=Transport, traces_sample_rate=1.0, auto_enabling_integrations=False, integrations=[AsyncioIntegration(), ThreadingIntegration()]
)
"""

DDTRACE = """
import os
os.environ.update(
    DD_INSTRUMENTATION_TELEMETRY_ENABLED="false", DD_REMOTE_CONFIGURATION_ENABLED="false", DD_TRACE_ENABLED="true", DD_TRACE_STARTUP_LOGS="false",
    DD_CRASHTRACKING_ENABLED="false", DD_TRACE_AGENT_URL="http://127.0.0.1:9", DD_RUNTIME_METRICS_ENABLED="false",
)
import logging
logging.disable(logging.CRITICAL)
import ddtrace
ddtrace.patch(asyncio=True, futures=True, subprocess=True)
from ddtrace.trace import tracer
with tracer.trace("span"):
    pass
"""

NEST = """
import asyncio, nest_asyncio
nest_asyncio.apply()

async def inner():
    return asyncio.get_event_loop().run_until_complete(asyncio.sleep(0, "nested"))

print(asyncio.run(inner()))
"""

DEBUGPY = """
import debugpy
debugpy.listen(("127.0.0.1", 0), in_process_debug_adapter=True)
"""

TOOLS = {"sentry": SENTRY, "ddtrace": DDTRACE, "nest_asyncio": NEST, "debugpy": DEBUGPY}


def work_for(tool: str) -> str:
    # nest_asyncio's `asyncio.run` leaves the executor of its loop open, which is told, rightly.
    return WORK.replace(", await asyncio.to_thread(abs, -4)", "") if tool == "nest_asyncio" else WORK


@pytest.mark.parametrize("tool", TOOLS)
def test_after_the_agent(tool: str, compare: Callable[..., Any]) -> None:
    compare(TOOLS[tool] + work_for(tool)).check()


#: The agent comes when everything is patched, and goes while it is.
INSTALL = """
import leakagent, os
if "watched" in os.environ:
    leakagent.install(report="json:report.json")
"""
UNINSTALL = """
if "watched" in os.environ:
    leakagent.uninstall()
work()
"""


@pytest.mark.parametrize("tool", TOOLS)
def test_before_the_agent(tool: str, python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    app = program(TOOLS[tool] + INSTALL + work_for(tool))
    bare = python(app, timeout=240.0)
    assert bare.returncode == 0, bare
    ran = python(app, env={"watched": "1"}, timeout=240.0)
    assert (ran.stdout, ran.returncode) == (bare.stdout, 0), (bare, ran)
    assert ran.stderr.count("Traceback") == bare.stderr.count("Traceback"), (bare, ran)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    told = sorted((one["reason"], one["kind"], one["owner"]) for one in report["findings"])
    assert told == [("not_shut_down", "thread_pool", "yours"), ("outlived_scope", "asyncio.task", "yours")], report["findings"]
    assert report["agent"]["disabled"] == []


@pytest.mark.parametrize("tool", TOOLS)
def test_the_agent_comes_and_goes(tool: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    app = program(INSTALL + TOOLS[tool] + WORK + UNINSTALL)
    bare = python(app, timeout=240.0)
    assert bare.returncode == 0, bare
    ran = python(app, env={"watched": "1"}, timeout=240.0)
    assert (ran.stdout, ran.returncode) == (bare.stdout, 0), (bare, ran)
    assert ran.stderr.count("Traceback") == bare.stderr.count("Traceback"), (bare, ran)


def test_coverage_counts_the_same_lines(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    app = program(WORK)
    found = []
    for env in ({}, {"LEAKAGENT": "1", "LEAKAGENT_REPORT": "off"}):
        ran = python("-m", "coverage", "run", "--branch", "--concurrency=thread", app, env=env)
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        assert python("-m", "coverage", "json", "-q", "-o", "coverage.json").returncode == 0
        files = json.loads((tmp_path / "coverage.json").read_text(encoding="utf-8"))["files"]
        found.append((ran.stdout, {name: (one["executed_lines"], one["executed_branches"]) for name, one in files.items()}))
        (tmp_path / ".coverage").unlink()
    assert found[0] == found[1]
    assert len(found[0][1]["app.py"][0]) > 25


#: By value what is of the program, by name what is Python's: read by an interpreter that has no agent.
CLOUDPICKLE = """
import asyncio, cloudpickle, subprocess, sys, threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

class Pool(ThreadPoolExecutor):
    def submit(self, function, /, *args):
        return super().submit(function, *args)

class Thread(threading.Thread):
    def start(self):
        super().start()

async def part():
    return await asyncio.create_task(asyncio.sleep(0, 3))

def all_of_it(start=threading.Thread.start, run=asyncio.run, create=asyncio.create_task, popen=subprocess.Popen.__init__, leave=sys.exit):
    thread = Thread(target=int)
    start(thread)
    thread.join()
    with Pool(1, initializer=threading.Event) as pool:
        return pool.submit(abs, -2).result(), run(part()), create.__name__, popen.__qualname__, leave.__name__

kinds = (all_of_it, Pool, Thread, ThreadPoolExecutor, ProcessPoolExecutor, asyncio.BaseEventLoop, threading.Thread.start, lambda: ThreadPoolExecutor)
with open("pickled", "wb") as file:
    file.write(cloudpickle.dumps(kinds))
print(all_of_it())
"""


def test_cloudpickle(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    app = program(CLOUDPICKLE)
    read = "import pickle, sys; it = pickle.load(open('pickled', 'rb')); print(it[0]()); print('leakagent' in sys.modules, it[3].__name__)"
    bare = python(app)
    without = (tmp_path / "pickled").read_bytes()
    (tmp_path / "pickled").unlink()
    ran = python("-m", "leakagent", app)
    assert (ran.stdout, ran.returncode, ran.stderr) == (bare.stdout, 0, ""), (bare, ran)
    pickled = (tmp_path / "pickled").read_bytes()
    assert b"leakagent" not in pickled
    assert python("-c", read).stdout == bare.stdout + "False ThreadPoolExecutor\n"
    # And the other way: what was pickled without the agent is read with it.
    (tmp_path / "pickled").write_bytes(without)
    assert python("-m", "leakagent", "-c", read).stdout == bare.stdout + "True ThreadPoolExecutor\n"


def test_the_debugger_stops_where_it_does_without_the_agent(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    """A session of pdb, which steps into the functions that are patched."""
    app = program(WORK)
    steps = "break work\ncontinue\n" + "next\n" * 6 + "where\ncontinue\n"
    bare = python("-m", "pdb", app, text=steps + "quit\n")
    ran = python("-m", "pdb", app, text=steps + "quit\n", env={"LEAKAGENT": "1", "LEAKAGENT_REPORT": "off"})
    assert "Breakpoint 1" in bare.stdout, bare
    assert (ran.stdout, ran.returncode) == (bare.stdout, bare.returncode), (bare, ran)
