"""Exceptions and warnings that come through patched functions: no frame of the agent's in a traceback, the program's line in a warning."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FAILS = """\
import asyncio, builtins, concurrent.futures, multiprocessing, multiprocessing.pool, os, pickle, re, signal, sqlite3, subprocess, sys, threading, traceback
from multiprocessing.shared_memory import SharedMemory

class Broken(Exception):
    pass

def raises(*_):
    raise Broken

async def coroutine():
    await asyncio.sleep(0)
    raise Broken

def show(what, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except BaseException as error:
        steps = traceback.extract_tb(error.__traceback__)
        words = re.sub(" at 0x\\w+|psm_\\w+", "", str(error))
        print(what, type(error).__name__, words, *[f"{step.filename}:{step.lineno} {step.name}" for step in steps], sep="\\n    ")
    else:
        print(what, "did not fail")

def start_twice():
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    thread.start()

def start_child_twice():
    child = multiprocessing.get_context("fork").Process(target=int)
    child.start()
    child.join()
    child.start()

def signalled():
    signal.signal(signal.SIGUSR1, raises)
    signal.raise_signal(signal.SIGUSR1)

def through_a_scope():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        raise Broken

def exits():
    sys.exit(3)

def quits():
    builtins.exit(4)

async def no_coroutine():
    asyncio.get_running_loop().create_task(3)

async def group():
    await asyncio.gather(coroutine(), coroutine())

async def task():
    await asyncio.create_task(coroutine())

async def bad_factory():
    asyncio.get_running_loop().set_task_factory(raises)
    one = coroutine()
    try:
        asyncio.get_running_loop().create_task(one)
    finally:
        one.close()

async def closes_itself():
    asyncio.get_running_loop().close()

async def bad_handler():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(exits_in_handler)
    loop.call_exception_handler({"message": "x"})

def exits_in_handler(loop, context):
    raise SystemExit(5)

def after_shutdown():
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.shutdown()
    pool.submit(int)

def child_kill():
    child = multiprocessing.Process(target=int)
    child.kill()

def child_join():
    child = multiprocessing.Process(target=int)
    child.join()

def closed_child():
    child = multiprocessing.get_context("fork").Process(target=int)
    child.start()
    child.join()
    child.close()
    child.terminate()

def bad_unlink():
    block = SharedMemory(create=True, size=10)
    block.close()
    block.unlink()
    block.unlink()

if __name__ == "__main__":
    show("a thread is started twice", start_twice)
    show("a thread with too much", threading.Thread.start, threading.Thread(), 1)
    show("a child is started twice", start_child_twice)
    show("a child that is not started, killed", child_kill)
    show("a child that is not started, joined", child_join)
    show("a child that is closed", closed_child)
    show("a child that can't be pickled", multiprocessing.get_context("spawn").Process(target=lambda: 0).start)
    show("a pool of no workers", concurrent.futures.ThreadPoolExecutor, 0)
    show("a pool with an unknown argument", concurrent.futures.ThreadPoolExecutor, workers=1)
    show("a pool of processes of no workers", concurrent.futures.ProcessPoolExecutor, 0)
    show("a pool of multiprocessing of no workers", multiprocessing.pool.ThreadPool, 0)
    show("a job that raises", lambda: concurrent.futures.ThreadPoolExecutor(1).submit(raises).result())
    show("a pool that was shut down", after_shutdown)
    show("the block of a with", through_a_scope)
    show("a program that is not there", subprocess.Popen, ["/nowhere/program"])
    show("subprocess.run of it", subprocess.run, ["/nowhere/program"])
    show("Popen with a wrong argument", subprocess.Popen, ["true"], bufsize="x")
    show("a handler of a signal", signalled)
    show("a wrong signal", signal.raise_signal, 4000)
    show("sys.exit", exits)
    show("exit", quits)
    show("exit with too much", sys.exit, 1, 2)
    show("a database in no folder", sqlite3.connect, "/nowhere/folder/file.db")
    show("a block that is not there", SharedMemory, "nowhere")
    show("a block that is unlinked twice", bad_unlink)
    for name in ("task", "group", "bad_factory", "closes_itself", "bad_handler"):
        show(name, lambda: asyncio.run(globals()[name]()))
    # Python writes the function that checks it differently from release to release: the agent's calls what checks.
    show("no coroutine", lambda: asyncio.run(no_coroutine()))
"""


def test_no_frame_of_the_agent_is_in_a_traceback(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    app = program(FAILS)
    bare = python("-W", "ignore", app)
    assert "did not fail" not in bare.stdout, bare
    for ran in (python("-W", "ignore", "-m", "leakagent", app), python("-W", "ignore", app, env={"LEAKAGENT": "1"})):
        assert ran.returncode == bare.returncode == 0, (ran, bare)
        told, expected = _steps(ran.stdout), _steps(bare.stdout)
        if sys.version_info < (3, 11):
            # A frame can't be taken out there once an exception has passed through it (`leakagent.instrumentation.patching`).
            told = [line for line in told if "leakagent" not in line]
        assert told == expected, ran


def _steps(shown: str) -> list[str]:
    """Return what was shown without the steps inside of asyncio's own functions that the agent stands in for."""
    return [line for line in shown.splitlines() if not line.endswith(" create_task")]


UNCAUGHT = """\
import concurrent.futures
def fails():
    return concurrent.futures.ThreadPoolExecutor(0)
def calls():
    fails()
calls()
"""


def test_an_uncaught_exception_is_printed_as_python_does(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    app = program(UNCAUGHT)
    bare, ran = python(app), python("-m", "leakagent", app)
    assert (ran.returncode, bare.returncode) == (1, 1)
    if sys.version_info >= (3, 11):
        assert ran.stderr == bare.stderr
    assert ran.stderr.splitlines()[-1] == bare.stderr.splitlines()[-1]


WARNS = """\
import asyncio, concurrent.futures, multiprocessing, subprocess, sys, threading, warnings

class Pool(concurrent.futures.ThreadPoolExecutor):
    # As libraries do: the warning is about who called.
    def __init__(self, size):
        warnings.warn("Pool is old", DeprecationWarning, stacklevel=2)
        super().__init__(size)
    def shutdown(self, *args, **kwargs):
        warnings.warn("shutdown is old", DeprecationWarning, stacklevel=2)
        super().shutdown(*args, **kwargs)

def main():
    Pool(1).shutdown()
    process = subprocess.Popen([sys.executable, "-S", "-c", ""], bufsize=1, stdout=subprocess.PIPE)
    process.communicate()
    warnings.warn("mine", stacklevel=1)

with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    main()
for one in seen:
    print(one.category.__name__, one.filename, one.lineno, one.message)
print(__file__)
"""


def test_warnings_name_the_programs_line(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    app = program(WARNS)
    bare, ran = python(app), python("-m", "leakagent", app)
    assert "line buffering" in bare.stdout
    assert (ran.stdout, ran.stderr) == (bare.stdout, bare.stderr)


LIBRARY = """\
import sys, types, warnings

class Client:
    def __init__(self):
        warnings.warn("Client is old", DeprecationWarning, stacklevel=2)

module = types.ModuleType("old_library")
module.Client = Client
sys.modules["old_library"] = module

from leakagent.instrumentation.patching import Patches

patches = Patches()
if sys.argv[1] == "replace":
    patches.replace(Client, "__init__", lambda original: lambda client: original(client))
else:
    patches.wrap(Client, "__init__", lambda wrapped, client, args, kwargs: wrapped(*args, **kwargs))
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    Client()  # here
print(seen[0].filename == __file__, seen[0].lineno)
"""


def test_warnings_of_patched_constructors_name_who_called_them(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    line = next(number for number, text in enumerate(LIBRARY.splitlines(), 1) if text.endswith("# here"))
    for how in ("replace", "wrap"):
        assert python(program(LIBRARY), how).stdout == f"True {line}\n", how
