"""The end of a program: everybody's own handlers run as they do without the agent, and the agent's report comes last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ORDER = """\
import asyncio, atexit, sys, threading, time, weakref
from concurrent.futures import ThreadPoolExecutor

def say(*words):
    print(*words, file=sys.stderr, flush=True)

pool = ThreadPoolExecutor(1)  # made
closed = []
atexit.register(say, "first exit handler")
weakref.finalize(pool, say, "finalize")

def submit():
    # The executor is still there, and refuses as it does without the agent.
    try:
        pool.submit(int)
    except RuntimeError as error:
        say("exit handler:", error)

atexit.register(submit)
threading._register_atexit(lambda: say("before threads:", pool.submit(pow, 2, 3).result(), len(closed)))

def slow(number):
    time.sleep(0.01)
    closed.append(number)

for number in range(10):
    pool.submit(slow, number)

def watcher():
    while threading.main_thread().is_alive():
        time.sleep(0.005)
    say("thread: main has ended,", len(closed), "jobs")

threading.Thread(target=watcher).start()
say("end of main")
"""


@pytest.mark.parametrize("way", ["module", "environment"])
def test_the_order_of_the_end(way: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    app = program(ORDER)
    bare = python(app)
    ran = python("-m", "leakagent", app) if way == "module" else python(app, env={"LEAKAGENT": "1"})
    said = bare.stderr.splitlines()
    assert said == [
        "end of main",
        "before threads: 8 10",
        "thread: main has ended, 10 jobs",
        "exit handler: cannot schedule new futures after shutdown",
        "finalize",
        "first exit handler",
    ], bare
    told = ran.stderr.splitlines()
    assert [line for line in told if line in said] == said, ran
    # The report stands behind the last exit handler.
    assert told[: len(said)] == said, ran
    assert told[len(said)].startswith("leakagent: 1 resource was still open"), ran


def test_exit_handlers_still_use_what_they_own(told: Callable[..., Any], python: Callable[..., Any], tmp_path: Path) -> None:
    text = """\
import asyncio, atexit, subprocess, sys, threading
from concurrent.futures import ThreadPoolExecutor
loop = asyncio.new_event_loop()
thread = threading.Thread(target=loop.run_forever, daemon=True)
thread.start()

async def farewell():
    await asyncio.sleep(0.001)
    task = asyncio.get_running_loop().create_task(asyncio.sleep(0.001, "task"))
    return await task

def handler():
    print(asyncio.run_coroutine_threadsafe(farewell(), loop).result(60))
    print(subprocess.run([sys.executable, "-c", "print('child')"], capture_output=True, text=True).stdout, end="")
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()

atexit.register(handler)
"""
    after = told(text)
    after.clean()
    assert after.lines == ["task", "child"] == python(tmp_path / "app.py").stdout.splitlines()


RECEIPT = """\
import asyncio, threading, time
from concurrent.futures import ThreadPoolExecutor

async def refuse():
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

async def wait():
    await asyncio.sleep(600)

async def main():
    global kept
    kept = [asyncio.create_task(refuse()), asyncio.create_task(wait())]
    await asyncio.sleep(0)

asyncio.run(main())
pool = ThreadPoolExecutor(2)
never = threading.Lock()
never.acquire()
pool.submit(never.acquire)
threading.Thread(target=never.acquire).start()
for _ in range(3):
    pool.submit(time.sleep, 0.01)
"""


def test_the_receipt_names_every_stage(told: Callable[..., Any]) -> None:
    after = told(RECEIPT, env={"LEAKAGENT_GRACE": "0.3", "LEAKAGENT_BUDGET": "1"})
    assert after.ran.returncode == 0
    stages = after.stages
    assert list(stages) == ["loops", "executors", "threads"], after
    assert (stages["loops"]["asked"], stages["loops"]["forced"], stages["loops"]["deadline"]) == (2, 1, 0.3)
    assert (stages["executors"]["forced"], stages["executors"]["deadline"]) == (1, 1)
    assert stages["executors"]["asked"] >= 1
    assert (stages["threads"]["asked"], stages["threads"]["forced"], stages["threads"]["deadline"]) == (1, 1, 1)
    # Nothing is forced before its time; how long it takes at most depends on the machine.
    assert stages["loops"]["seconds"] >= 0.3
    assert stages["executors"]["seconds"] >= 0.45
    assert stages["threads"]["seconds"] >= 0.45


def test_a_clean_program_has_an_empty_receipt(told: Callable[..., Any]) -> None:
    text = """\
import asyncio
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(1) as pool:
    pool.submit(int).result()
asyncio.run(asyncio.sleep(0))
"""
    after = told(text)
    after.clean()
    assert after.report["receipt"] == []
    assert after.report["ended"] >= after.report["started"]
    assert after.ran.stderr == ""


def test_a_loop_that_nobody_closed_is_closed_in_silence(told: Callable[..., Any]) -> None:
    # Its finalizer closes it when the interpreter has emptied sys.modules.
    text = """\
import asyncio
loop = asyncio.new_event_loop()
print(loop.run_until_complete(asyncio.sleep(0, "done")))
"""
    after = told(text)
    after.clean()
    assert after.ran.stderr == ""


def test_a_program_that_is_gone_from_the_path_ends_in_silence(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    text = """\
import sys, threading
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
threading.Thread(target=int).start()
for name in [name for name in sys.modules if name.startswith("leakagent.")]:
    del sys.modules[name]
del sys.meta_path[:]
print("end")
"""
    ran = python("-m", "leakagent", program(text))
    assert (ran.returncode, ran.stdout) == (0, "end\n"), ran
    # What the agent needs for its end can't be loaded any more: one line, no traceback.
    assert ran.stderr.count("\n") == 1, ran
    assert ran.stderr.startswith("leakagent: end of the program switched off"), ran
