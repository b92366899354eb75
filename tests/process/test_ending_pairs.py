"""Programs that do odd things at their end do the same under the agent: output, order and status, side by side with Python alone."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Started

HEAD = """\
import asyncio, atexit, multiprocessing, os, sys, threading, time, weakref
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
atexit.register(print, "first exit handler")

def tried(call):
    try:
        print("got", call())
    except BaseException as error:
        print(type(error).__name__, error)

def started():
    thread = threading.Thread(target=print, args=["in a thread"])
    thread.start()
    thread.join()
"""

PROGRAMS = {
    "a pool in a finalizer": """
class Session:
    def __del__(self):
        tried(lambda: ThreadPoolExecutor(1).submit(pow, 2, 3).result())
kept, dropped = Session(), Session()
del dropped
""",
    "an exit handler starts all there is": """
atexit.register(tried, lambda: asyncio.run(asyncio.sleep(0, "from a loop")))
atexit.register(tried, lambda: ThreadPoolExecutor(1).submit(int))
atexit.register(tried, started)
ThreadPoolExecutor(1).submit(int)
""",
    "an exit handler raises": """
atexit.register(lambda: 1 / 0)
atexit.register(print, "last exit handler")
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
sys.exit(7)
""",
    "an exit handler exits": """
atexit.register(sys.exit, 9)
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
""",
    "an exit handler waits for a lock": """
lock = threading.Lock()
def hold():
    with lock:
        held.set()
        time.sleep(0.2)
def last():
    with lock: print("got the lock")
held = threading.Event()
threading.Thread(target=hold, daemon=True).start()
held.wait()
atexit.register(last)
""",
    "os._exit in the hook of exceptions": """
def hook(*error):
    print("hook", error[0].__name__, flush=True)
    os._exit(9)
sys.excepthook = hook
pool = ThreadPoolExecutor(1)
pool.submit(time.sleep, 0.1)
raise KeyError
""",
    "sys.exit in the hook of exceptions": """
def hook(*error):
    print("hook", error[0].__name__)
    sys.exit(9)
sys.excepthook = hook
pool = ThreadPoolExecutor(1)
pool.submit(time.sleep, 0.1)
raise KeyError
""",
    "a hook of exceptions that raises": """
def hook(*error):
    raise ValueError("in the hook")
sys.excepthook = hook
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
raise KeyError
""",
    "threads that exit and raise": """
threading.excepthook = lambda args: print("thread", args.exc_type.__name__)
threading.Thread(target=sys.exit, args=[5]).start()
threading.Thread(target=lambda: 1 / 0).start()
""",
    "loops in jobs of a loop": """
async def main():
    loop = asyncio.get_running_loop()
    print(await asyncio.gather(*[loop.run_in_executor(None, asyncio.run, asyncio.sleep(0.01, n)) for n in range(3)]))
asyncio.run(main())
""",
    "a loop in a thread outlives the main thread": """
async def main():
    await asyncio.sleep(0.2)
    print("thread's loop is done")
threading.Thread(target=lambda: asyncio.run(main())).start()
print("main thread ends")
""",
    "a pool in a daemon thread": """
def work():
    with ThreadPoolExecutor(1) as pool:
        for _ in range(5):
            pool.submit(lambda: (time.sleep(0.05), print("job")))
        begun.set()
begun = threading.Event()
threading.Thread(target=work, daemon=True).start()
begun.wait()
""",
    "a job that submits itself": """
pool = ThreadPoolExecutor(1)
def again():
    time.sleep(0.01)
    try:
        pool.submit(again)
    except RuntimeError as error:
        print(error)
again()
""",
    "a callback of a loop exits": """
async def main():
    asyncio.get_running_loop().call_soon(sys.exit, 6)
    await asyncio.sleep(60)
asyncio.run(main())
""",
    "an initializer that fails": """
def initialize():
    raise ValueError
import logging
logging.disable()
tried(lambda: ThreadPoolExecutor(1, initializer=initialize).submit(int).result(60))
""",
    "a stuck job in a pool that is left": """
with ThreadPool(1) as pool:
    pool.apply_async(threading.Event().wait)
print("left")
""",
    "queues and managers": """
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    queue, manager = context.Queue(), context.Manager()
    shared = manager.dict(a=1)
    queue.put("x" * 100_000)
    print(shared["a"], len(queue.get()))
    context.Queue().put("nobody takes it")
""",
    "a daemon that detaches itself": """
sys.stdout.flush()
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
    os._exit(3)
os.setsid()
pid = os.fork()
if pid:
    os.waitpid(pid, 0)
    os._exit(0)
print("daemon")
""",
    "another program in its place": """
print("first", flush=True)
if len(sys.argv) == 1:
    os.execv(sys.executable, [sys.executable, __file__, "again"])
""",
    "finalizers": """
class Session: pass
session = Session()
weakref.finalize(session, print, "finalized")
def generate():
    try:
        yield
    finally:
        print("generator ends")
generator = generate()
next(generator)
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("ignore")
def test_it_ends_as_it_does_alone(name: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    path = program(HEAD + PROGRAMS[name])
    environment = {"LEAKAGENT_REPORT": "off", "PYTHONWARNINGS": "ignore"}
    bare = python(path, env=environment)
    assert bare.stdout, bare
    ran = python(path, env={**environment, "LEAKAGENT": "1"})
    assert (ran.returncode, ran.stdout) == (bare.returncode, bare.stdout), (bare, ran)
    assert "leakagent:" not in ran.stderr, ran
    assert ran.stderr.count("Traceback") == bare.stderr.count("Traceback"), (bare, ran)


ODD_MOMENTS = {
    "imports": "while True:\n    for name in ('json', 'decimal', 'fractions'): sys.modules.pop(name, None)\n    import json, fractions",
    "starts of threads": "while True:\n    thread = threading.Thread(target=int)\n    thread.start()\n    thread.join()",
    "pools": "while True:\n    with ThreadPoolExecutor(1) as pool: pool.submit(int)",
    "busy loop": "async def spin():\n    while True: await asyncio.sleep(0)\nasyncio.run(spin())",
}


@pytest.mark.parametrize("moment", ODD_MOMENTS)
def test_a_signal_at_an_odd_moment(moment: str, started: Callable[..., Started]) -> None:
    running = started(HEAD + "print('ready')\n" + ODD_MOMENTS[moment])
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM, running.errors
    assert running.lines == ["ready", "first exit handler"], running.errors
    assert running.report["agent"]["disabled"] == []
