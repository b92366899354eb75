"""Tools that look at a program from inside: tracing, profiling, tracemalloc, asyncio's debug mode, mocks, reloads, installing again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Uses what is patched.
WORK = """\
import asyncio, concurrent.futures, multiprocessing, subprocess, sys, threading

def square(number):
    return number * number

async def later(number):
    await asyncio.sleep(0)
    return number

async def main():
    task = asyncio.create_task(later(1), name="one")
    return await task, await asyncio.gather(later(2), later(3)), await asyncio.to_thread(square, 4)

def work():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        print(pool.submit(square, 2).result())
    thread = threading.Thread(target=square, args=(3,))
    thread.start()
    thread.join()
    print(asyncio.run(main()))
    print(subprocess.run([sys.executable, "-S", "-c", ""]).returncode)
"""

TRACES = {
    # As coverage and debuggers do: the same calls, lines and returns of the program's own functions, in the same order.
    "settrace": """\
import collections
seen = collections.defaultdict(list)
def trace(frame, event, argument):
    if frame.f_code.co_filename != __file__:
        return None
    seen[threading.current_thread().name.partition("_")[0]].append((event, frame.f_code.co_name, frame.f_lineno, type(argument).__name__))
    return trace
threading.settrace(trace)
sys.settrace(trace)
work()
sys.settrace(None)
threading.settrace(None)
print(dict(seen))
""",
    "setprofile": """\
seen = []
def profile(frame, event, argument):
    if frame.f_code.co_filename == __file__ and event in ("call", "return"):
        seen.append((event, frame.f_code.co_name, frame.f_lineno))
sys.setprofile(profile)
work()
sys.setprofile(None)
print(seen)
""",
    # The tool is still there when the agent has worked.
    "tools are left alone": """\
def trace(frame, event, argument):
    return None
sys.settrace(trace)
sys.setprofile(trace)
work()
print(sys.gettrace() is trace, sys.getprofile() is trace)
sys.settrace(None)
sys.setprofile(None)
""",
    "a debugger stops in the program": """\
import bdb
class Debugger(bdb.Bdb):
    def user_line(self, frame):
        if frame.f_code.co_filename == __file__:
            print(frame.f_code.co_name, frame.f_lineno)
        self.set_step()
debugger = Debugger()
debugger.runcall(asyncio.run, main())
""",
    "asyncio's debug mode": """\
import logging
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
async def debugged():
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 3600
    task = asyncio.create_task(later(1))
    print([(step.filename == __file__, step.name, step.lineno) for step in task._source_traceback][-1], await task)
    task = loop.create_task(later(1))
    print([(step.filename == __file__, step.name, step.lineno) for step in task._source_traceback][-1], await task)
    future = loop.create_future()
    print([(step.filename == __file__, step.name, step.lineno) for step in future._source_traceback][-2:])
    try:
        thread = threading.Thread(target=lambda: check(loop))
        thread.start()
        await asyncio.to_thread(thread.join)
    finally:
        future.cancel()
def check(loop):
    try:
        loop.call_soon(print)
    except RuntimeError as error:
        print(error)
asyncio.run(debugged(), debug=True)
""",
    "an error in asyncio's debug mode": """\
async def fails():
    raise KeyError("mine")
async def debugged():
    def handler(loop, context):
        print(sorted(context), context["message"], [(step.name, step.lineno) for step in context["source_traceback"]][-1])
    asyncio.get_running_loop().set_exception_handler(handler)
    asyncio.create_task(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
asyncio.run(debugged(), debug=True)
import gc
gc.collect()
""",
    "faulthandler": """\
import faulthandler, tempfile
with tempfile.TemporaryFile("w+") as file:
    faulthandler.enable(file)
    work()
    print(faulthandler.is_enabled())
    faulthandler.disable()
""",
    "cProfile": """\
import cProfile, io, pstats
profile = cProfile.Profile()
profile.runcall(work)
out = io.StringIO()
stats = pstats.Stats(profile, stream=out)
print(sorted((name, calls[0]) for (file, line, name), calls in stats.stats.items() if file == __file__))
""",
    "hooks are left alone": """\
work()
print(sys.excepthook is sys.__excepthook__, threading.excepthook is threading.__excepthook__, sys.unraisablehook is sys.__unraisablehook__)
print(sys.displayhook is sys.__displayhook__, sys.breakpointhook is sys.__breakpointhook__, sys.get_asyncgen_hooks() == (None, None))
print(sys.getswitchinterval(), sys.getrecursionlimit(), threading.stack_size(), sys.flags)
""",
}


@pytest.mark.parametrize("name", TRACES)
def test_a_tool_sees_the_same(name: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    app = program(WORK + TRACES[name])
    bare, ran = python(app), python("-m", "leakagent", "--report", "off", app)
    assert bare.returncode == 0, bare
    assert bare.stdout, bare
    assert (ran.stdout, ran.stderr, ran.returncode) == (bare.stdout, bare.stderr, 0), (bare, ran)


TRACEMALLOC = """\
import tracemalloc
work()
tracemalloc.start(10)
def one(number):
    return number
kept = [bytearray(1000) for _ in range(1000)]  # mine
before = tracemalloc.take_snapshot()
for _ in range(1000):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(one, 1).result()
import gc
gc.collect()
after = tracemalloc.take_snapshot()
mine = [found for found in after.statistics("lineno") if found.traceback[0].filename == __file__ and found.size > 900_000]
print(len(mine), mine[0].traceback[0].lineno)
grown = [one for one in after.compare_to(before, "filename") if "leakagent" in one.traceback[0].filename]
# Some hundred notes of threads that have ended are kept, until they are looked through; all of them would be three times as much.
print(sum(one.size_diff for one in grown) < 130_000, [str(one) for one in grown if one.size_diff > 130_000])
"""


def test_tracemalloc_finds_the_programs_memory_and_none_of_the_agents(
    python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    app = program(WORK + TRACEMALLOC)
    line = next(number for number, text in enumerate((WORK + TRACEMALLOC).splitlines(), 1) if text.endswith("# mine"))
    ran = python("-m", "leakagent", app)
    assert ran.returncode == 0, ran
    assert ran.stdout.splitlines()[-2:] == [f"1 {line}", "True []"], ran


MOCK = """\
from unittest import mock
points = [
    (threading.Thread, "start"), (subprocess.Popen, "__init__"), (asyncio, "create_task"), (asyncio.BaseEventLoop, "create_task"),
    (concurrent.futures.ThreadPoolExecutor, "shutdown"), (concurrent.futures.ThreadPoolExecutor, "__init__"),
    (multiprocessing.Process, "start"), (sys, "exit"),
]
for owner, name in points:
    before = vars(owner).get(name)
    with mock.patch.object(owner, name, autospec=True) as mocked:
        print(name, getattr(owner, name) is mocked)
    print(name, vars(owner).get(name) is before)
    with mock.patch.object(owner, name, wraps=getattr(owner, name)):
        pass
    print(name, vars(owner).get(name) is before)
with mock.patch("threading.Thread") as mocked:
    threading.Thread(target=work).start()
    print(mocked.return_value.start.call_count)
with mock.patch("concurrent.futures.ThreadPoolExecutor") as mocked:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        print(pool is mocked.return_value.__enter__.return_value)
with mock.patch.object(threading.Thread, "start", autospec=True, side_effect=threading.Thread.start) as mocked:
    thread = threading.Thread(target=square, args=(2,))
    thread.start()
    thread.join()
    print(mocked.call_count)
work()
"""


def test_mocks_of_the_same_names(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    app = program(WORK + MOCK)
    bare, ran = python(app), python("-m", "leakagent", app)
    assert bare.returncode == 0, bare
    assert (ran.stdout, ran.stderr, ran.returncode) == (bare.stdout, bare.stderr, 0), (bare, ran)


#: The agent is installed, or goes, while somebody else's patch is in force.
MOCK_AND_INSTALL = """\
import leakagent
from unittest import mock
original = threading.Thread.start
with mock.patch.object(threading.Thread, "start", autospec=True, side_effect=original) as mocked:
    leakagent.install(report="off")
    thread = threading.Thread(target=square, args=(2,))
    thread.start()
    thread.join()
    print(mocked.call_count)
    leakagent.uninstall()
    print(threading.Thread.start is mocked)
print(threading.Thread.start is original)
leakagent.install(report="off")
ours = threading.Thread.start
with mock.patch.object(threading.Thread, "start", autospec=True, side_effect=ours) as mocked:
    leakagent.uninstall()
    thread = threading.Thread(target=square, args=(2,))
    thread.start()
    thread.join()
    print(mocked.call_count)
work()
"""


def test_mocks_around_install_and_uninstall(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    ran = python(program(WORK + MOCK_AND_INSTALL))
    assert ran.returncode == 0, ran
    assert ran.stdout.splitlines()[:4] == ["1", "True", "True", "1"], ran
    # What somebody else has patched over is left to them, in one line.
    assert ran.stderr == "leakagent: start of Thread was patched by somebody else as well and is left as it is\n", ran


RELOAD = """\
import importlib, concurrent.futures.thread
names = [
    "threading", "subprocess", "concurrent.futures.thread", "concurrent.futures", "asyncio.tasks", "asyncio.base_events", "asyncio.runners", "asyncio",
    "multiprocessing.process", "multiprocessing.pool", "sqlite3", "multiprocessing.shared_memory", "signal",
]
for name in names if len(sys.argv) < 2 else sys.argv[1:]:
    importlib.import_module(name)
    module = importlib.reload(sys.modules[name])
    print(name, module is sys.modules[name], module.__spec__.name, type(module.__spec__.loader).__name__, type(module.__loader__).__name__)
from concurrent.futures import thread as module
pool = module.ThreadPoolExecutor(1)  # leaks
print(pool.submit(square, 5).result())
work()
"""


def test_modules_that_are_loaded_again_are_patched_again(
    python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    # `threading` anew has no main thread of its own, with the agent as without it: not that one.
    names = [
        "subprocess",
        "concurrent.futures.thread",
        "concurrent.futures",
        "asyncio.tasks",
        "asyncio.base_events",
        "sqlite3",
        "signal",
    ]
    app = program(WORK + RELOAD)
    bare = python(app, *names)
    ran = python("-m", "leakagent", "--report", "json:report.json", app, *names)
    assert bare.returncode == 0, bare
    assert (ran.stdout, ran.stderr, ran.returncode) == (bare.stdout, bare.stderr, 0), (bare, ran)
    line = next(number for number, text in enumerate((WORK + RELOAD).splitlines(), 1) if text.endswith("# leaks"))
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert f'"line": {line},' in text, text


AGAIN = """\
import gc, os, leakagent, sqlite3, multiprocessing.pool, multiprocessing.shared_memory

def state():
    gc.collect()
    return [
        sys.getallocatedblocks(), len(gc.get_objects()), len(gc.callbacks), threading.active_count(), len(os.listdir("/proc/self/fd")),
        len(sys.meta_path), len(sys.modules), len(sys.path_hooks), sum(len(vars(module)) for module in list(sys.modules.values()) if module),
        len(os.listdir("/proc/self/task")),
    ]

def turn(number):
    leakagent.install(report="off")
    if number % 100 == 0:
        work()
    leakagent.uninstall()

def turns():
    for number in range(100):
        turn(number)
    before = state()
    for number in range(100, 1100):
        turn(number)
    after = state()
    # A note for each turn that is kept would be thousands.
    assert after[0] - before[0] < 2_000 and after[1] - before[1] < 500, (before, after)
    assert after[2:] == before[2:], (before, after)

turns()
"""


def test_installed_and_uninstalled_a_thousand_times(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    ran = python(program(WORK + AGAIN))
    assert (ran.returncode, ran.stderr) == (0, ""), ran
