"""Ends by SIGTERM, SIGHUP and Ctrl+C: what runs, in which order, and the status; and when the signal comes too late or twice."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Started


#: Programs wait in short steps: a signal that comes after the interpreter's last look and before the system call (``pause``, a
#: lock) runs no handler until that returns.
HEAD = """\
import atexit, os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
atexit.register(print, "exit handler")
"""

PLAIN = (
    HEAD
    + """
try:
    print("ready")
    while True: time.sleep(0.05)
finally:
    print("finally")
"""
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_program_cleans_up_and_dies_by_the_signal(number: int, started: Callable[..., Started]) -> None:
    running = started(PLAIN)
    running.until("ready")
    running.send(number)
    assert running.end() == -number, running.errors
    assert running.lines == ["ready", "finally", "exit handler"]
    assert running.errors == ""
    assert running.report["exit"] == {"status": None, "signal": number}
    assert running.report["findings"] == []


def test_ignored_stays_ignored(started: Callable[..., Started]) -> None:
    text = """\
import os, signal, subprocess, sys
def ignore():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
code = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, signal.getsignal(signal.SIGINT).__name__)"
subprocess.run([sys.executable, "-c", code], preexec_fn=ignore)
"""
    running = started(text)
    assert running.end() == 0
    assert running.lines == ["True default_int_handler"]


def test_the_programs_own_handler_wins(started: Callable[..., Started]) -> None:
    text = HEAD + (
        "came = threading.Event()\n"
        'def own(*_):\n    print("own")\n    came.set()\n'
        'signal.signal(signal.SIGTERM, own)\nprint("ready")\ncame.wait()\n'
    )
    running = started(text)
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == 0
    assert running.lines == ["ready", "own", "exit handler"]


def test_a_handler_that_is_put_back_is_ours(started: Callable[..., Started]) -> None:
    text = HEAD + (
        "old = signal.signal(signal.SIGTERM, lambda *_: None)\nsignal.signal(signal.SIGTERM, old)\n"
        'print("ready")\nwhile True: time.sleep(0.05)\n'
    )
    running = started(text)
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM
    assert running.lines == ["ready", "exit handler"]


def test_the_second_signal_ends_at_once(started: Callable[..., Started]) -> None:
    wait = "    while True: time.sleep(0.05)\n"
    text = HEAD + f'try:\n    print("ready")\n{wait}finally:\n    print("finally")\n{wait}'
    running = started(text)
    running.until("ready")
    running.send(signal.SIGTERM)
    running.until("finally")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM
    assert running.lines == ["ready", "finally"]


def test_who_swallows_the_exception_is_ended_by_force(started: Callable[..., Started]) -> None:
    text = HEAD + (
        "def work(first):\n"
        "    try:\n"
        '        if first: print("ready")\n'
        "        while True: time.sleep(0.05)\n"
        "    except BaseException as error:\n"
        "        print(type(error).__name__, error)\n"
        "work(True)\n"
        "while True: work(False)\n"
    )
    running = started(text, LEAKAGENT_BUDGET="1")
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM
    assert running.lines == ["ready", "SystemExit 143"]
    assert "leakagent: the end after SIGTERM took longer than 1 s and is cut off here:" in running.errors
    assert 'app.py", line' in running.errors


# As chromadb does up to 0.6: what comes up in the middle of its work is caught, and the work is left half done.
CATCHES = (
    HEAD
    + """
from leakagent.shutdown.signals import CATCH_ALL, state
CATCH_ALL.add(("__main__", "work"))
def work():
    try:
        print("ready")
        # So that the signal has come again, and more than once.
        for _ in range(10):
            time.sleep(0.01)
            while not ends or not state.number: time.sleep(0.01)
        print("done")
    except BaseException as error:
        print("caught", error)
"""
)
CATCHES_RUN = """
try:
    work()
    while True: time.sleep(0.01)
finally:
    print("finally")
"""


def test_a_function_that_catches_all_is_waited_for(started: Callable[..., Started]) -> None:
    running = started(CATCHES + "ends = True\n" + CATCHES_RUN)
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM, running.errors
    assert running.lines == ["ready", "done", "finally", "exit handler"]


def test_a_function_that_catches_all_and_does_not_end(started: Callable[..., Started]) -> None:
    running = started(CATCHES + "ends = False\n" + CATCHES_RUN, LEAKAGENT_BUDGET="1")
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM, running.errors
    assert running.lines == ["ready"]
    assert "took longer than 1 s and is cut off here" in running.errors


@pytest.mark.parametrize("how", ["with", "dropped", "kept"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_has_not_begun_is_cancelled(how: str, number: int, started: Callable[..., Started]) -> None:
    text = (
        HEAD
        + """
go = threading.Event()
def job(number):
    if number == 0:
        signal_came.wait()
    time.sleep(0.01)
    print("job", number)
signal_came = threading.Event()
def submit(pool):
    for number in range(200):
        pool.submit(job, number)
def wait():
    print("ready")
    while True: time.sleep(0.05)
class Wait:
    def __enter__(self): pass
    def __exit__(self, *_): signal_came.set()
"""
        + {
            "with": "with ThreadPoolExecutor(1) as pool, Wait():\n    submit(pool)\n    wait()\n",
            "dropped": "with Wait():\n    submit(ThreadPoolExecutor(1))\n    wait()\n",
            "kept": "pool = ThreadPoolExecutor(1)\nwith Wait():\n    submit(pool)\n    wait()\n",
        }[how]
    )
    running = started(text)
    running.until("ready")
    running.send(number)
    assert running.end() == -number
    done = [line for line in running.lines if line.startswith("job")]
    assert done[0] == "job 0"
    assert len(done) < 100, running.lines
    assert running.lines[-1] == "exit handler"
    assert running.report["agent"]["disabled"] == []


STUCK = {
    "thread": "threading.Thread(target=threading.Event().wait).start()",
    "pool": "pool = ThreadPoolExecutor(1)\npool.submit(threading.Event().wait)",
    "looping thread": "def spin():\n    while True: time.sleep(0.05)\nthreading.Thread(target=spin).start()",
}


@pytest.mark.parametrize("name", STUCK)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_waited_for_longer_than_the_grace(name: str, number: int, started: Callable[..., Started]) -> None:
    running = started(HEAD + STUCK[name] + '\nprint("ready")\nwhile True: time.sleep(0.05)\n', LEAKAGENT_GRACE="0.5")
    running.until("ready")
    running.send(number)
    assert running.end() == -number, running.errors
    assert running.lines == ["ready", "exit handler"]
    assert [one["reason"] for one in running.report["findings"] if one["reason"] == "blocks_exit"], running.report


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_python_waits_at_the_end(number: int, started: Callable[..., Started]) -> None:
    text = (
        HEAD
        + """
def spin():
    while threading.main_thread().is_alive(): time.sleep(0.01)
    print("ready")
    while True: time.sleep(0.05)
threading.Thread(target=spin).start()
"""
    )
    running = started(text, LEAKAGENT_GRACE="0.5")
    running.until("ready")
    running.send(number)
    assert running.end() == -number, running.errors
    assert running.lines == ["ready", "exit handler"]


def test_a_signal_in_an_exit_handler_is_waited_with(started: Callable[..., Started]) -> None:
    text = HEAD + (
        'def last():\n    print("ready")\n    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(0.2)\n    print("done")\n'
        "atexit.register(last)\n"
    )
    running = started(text)
    assert running.end() == -signal.SIGTERM
    assert running.lines == ["ready", "done", "exit handler"]
    assert running.errors == ""


def test_an_exit_handler_that_hangs_after_the_signal(started: Callable[..., Started]) -> None:
    text = HEAD + 'atexit.register(threading.Event().wait)\nprint("ready")\nwhile True: time.sleep(0.05)\n'
    running = started(text, LEAKAGENT_BUDGET="1")
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM
    assert "took longer than 1 s" in running.errors


ASYNCIO = (
    HEAD
    + """
import asyncio
async def background():
    try:
        await asyncio.sleep(600)
    finally:
        print("background ends")
async def main():
    keep = asyncio.create_task(background())
    await asyncio.sleep(0)
    print("ready")
    try:
        {wait}
    finally:
        await asyncio.sleep(0.05)
        print("main ends")
asyncio.run(main())
"""
)


@pytest.mark.parametrize(
    "wait",
    ["await asyncio.sleep(600)", "while True: time.sleep(0.05)", "while True: await asyncio.sleep(0)"],
    ids=["waits", "blocks", "runs"],
)
def test_event_loops_are_closed(wait: str, started: Callable[..., Started]) -> None:
    running = started(ASYNCIO.format(wait=wait))
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM, running.errors
    # A coroutine that never gets to an ``await`` is ended by the exception itself, and the loop with it.
    assert "background ends" in running.lines, running.errors
    assert running.lines[-1] == "exit handler"
    # As with Ctrl+C, the exception may come between the making of a coroutine and the await: Python warns of that.
    assert running.errors == "" or "coroutine 'sleep' was never awaited" in running.errors


@pytest.mark.parametrize("number", [0, signal.SIGTERM, signal.SIGINT])
def test_a_default_executor_that_is_stuck(number: int, started: Callable[..., Started]) -> None:
    text = HEAD + (
        "import asyncio\nasync def main():\n    loop = asyncio.get_running_loop()\n"
        "    future = loop.run_in_executor(None, threading.Event().wait)\n"
        '    print("ready")\n    if len(sys.argv) > 1: await future\n'
        "asyncio.run(main())\n"
    )
    running = started(text, *(["wait"] if number else []), LEAKAGENT_BUDGET="2", LEAKAGENT_GRACE="0.5")
    running.until("ready")
    if number:
        running.send(number)
    assert running.end() == -number, running.errors
    assert running.lines == ["ready", "exit handler"]
    assert "blocks_exit" in {one["reason"] for one in running.report["findings"]}, running.report


CHILDREN = """\
import multiprocessing, os, signal, sys, threading, time
from concurrent.futures import ProcessPoolExecutor

def deaf(ready):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ready.set()
    time.sleep(600)

def willing(ready):
    ready.set()
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    events = [context.Event() for _ in range(2)]
    children = [context.Process(target=target, args=(event,)) for target, event in zip((deaf, willing), events)]
    for child in children: child.start()
    pool = ProcessPoolExecutor(1, mp_context=context)
    jobs = [pool.submit(time.sleep, 600) for _ in range(5)]
    while not jobs[0].running(): time.sleep(0.01)
    for event in events: event.wait()
    print(*[child.pid for child in children], *pool._processes)
    print("ready")
    while True: time.sleep(0.05)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.filterwarnings("ignore")
def test_children_end_with_the_program(
    method: str, number: int, started: Callable[..., Started], until: Callable[..., None]
) -> None:
    running = started(CHILDREN, method, LEAKAGENT_GRACE="0.5")
    running.until("ready")
    pids = [int(word) for word in running.lines[0].split()]
    assert len(pids) == 3
    running.send(number)
    assert running.end() == -number, running.errors
    until(lambda: not [pid for pid in pids if _is_alive(pid)], "all children are gone")
    actions = {(one["reason"], one["action"]) for one in running.report["findings"] if one["kind"] == "process"}
    assert actions == {("refused_cleanup", "killed"), ("blocks_exit", "terminated")}, running.report


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
    except OSError:
        return False


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_terminate_ends_a_child_at_once(method: str, started: Callable[..., Started]) -> None:
    text = """\
import multiprocessing, signal, sys, time

def child(ready):
    ready.set()
    try:
        time.sleep(600)
    finally:
        print("never")

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    ready = context.Event()
    process = context.Process(target=child, args=(ready,))
    process.start()
    ready.wait()
    process.terminate()
    process.join()
    print(process.exitcode)
"""
    running = started(text, method)
    assert running.end() == 0, running.errors
    assert running.lines == ["-15"]
    assert running.report["findings"] == []


def test_a_python_child_hands_over_what_it_left(started: Callable[..., Started]) -> None:
    text = """\
import subprocess, sys
code = (
    "import time\\n"
    "from concurrent.futures import ThreadPoolExecutor\\n"
    "pool = ThreadPoolExecutor(1)\\n"
    "pool.submit(int).result()\\n"
    "print('up', flush=True)\\n"
    "while True: time.sleep(0.05)\\n"
)
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
child.stdout.readline()
child.terminate()
print(child.wait())
"""
    running = started(text)
    assert running.end() == 0, running.errors
    assert running.lines == ["-15"]
    (found,) = running.report["findings"]
    assert (found["reason"], found["kind"], found["site"]["line"]) == ("not_shut_down", "thread_pool", 3)


def test_uninstall_gives_the_signals_back(started: Callable[..., Started]) -> None:
    text = """\
import leakagent, signal
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
leakagent.uninstall()
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGHUP) is signal.SIG_DFL)
"""
    running = started(text)
    assert running.end() == 0
    assert running.lines == ["False True", "True True"]


@pytest.mark.parametrize("where", ["main", "thread"])
@pytest.mark.filterwarnings("ignore")
def test_a_forked_child_has_the_default_action(where: str, started: Callable[..., Started]) -> None:
    text = """\
import os, signal, sys, warnings
warnings.simplefilter("ignore")
def fork():
    pid = os.fork()
    if pid == 0:
        print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGHUP) is signal.SIG_DFL)
        os._exit(0)
    os.waitpid(pid, 0)
if sys.argv[1] == "main":
    fork()
else:
    import threading
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
"""
    running = started(text, where)
    assert running.end() == 0, running.errors
    assert running.lines == ["True True"]


def test_children_that_ctrl_c_has_reached_may_finish(started: Callable[..., Started]) -> None:
    text = """\
import multiprocessing, signal, time

def child(ready):
    try:
        ready.set()
        while True: time.sleep(0.05)
    except KeyboardInterrupt:
        time.sleep(0.3)
        print("child has cleaned up", flush=True)

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    context.Process(target=child, args=(ready,)).start()
    ready.wait()
    print("ready", flush=True)
    while True: time.sleep(0.05)
"""
    running = started(text)
    running.until("ready")
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.end() == -signal.SIGINT, running.errors
    assert running.lines == ["ready", "child has cleaned up"]


EVALUATES = """\
import atexit, signal
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
atexit.register(eval, "1")
print("ready", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("way", [["-m", "leakagent"], []], ids=["command line", "environment"])
def test_ctrl_c_is_not_forgotten(way: list[str], program: Callable[..., Path], interrupted: Callable[..., Any]) -> None:
    # Python alone forgets it here: code that is evaluated in an exit handler makes the status 1.
    ran = interrupted([*way, program(EVALUATES)], variables={} if way else {"LEAKAGENT": "1"})
    assert "1 resource was still open" in ran.stderr
    assert ran.returncode == -signal.SIGINT, ran


def test_faulthandler_passes_the_signal_on(started: Callable[..., Started]) -> None:
    text = (
        HEAD
        + 'import faulthandler\nfaulthandler.register(signal.SIGTERM, chain=True)\nprint("ready")\nwhile True: time.sleep(0.05)\n'
    )
    running = started(text)
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM, running.errors
    assert running.lines == ["ready", "exit handler"]
    assert "most recent call first" in running.errors


def test_a_signal_in_the_middle_of_a_collection(started: Callable[..., Started]) -> None:
    text = (
        HEAD
        + """
import asyncio, gc
from leakagent import agent
tasks = agent.current().parts["asyncio"].window
hold = tasks._hold
def hold_and_signal(generation):
    tasks._hold = hold
    os.kill(os.getpid(), signal.SIGTERM)
    hold(generation)
tasks._hold = hold_and_signal
gc.collect()
while True: time.sleep(0.05)
"""
    )
    running = started(text)
    assert running.end() == -signal.SIGTERM, running.errors
    assert running.lines == ["exit handler"]
    assert running.errors == ""


def test_a_child_that_is_told_to_end_at_once(started: Callable[..., Started]) -> None:
    # The signal may come before the child runs its first line: two hundred times, somewhere in its first steps.
    text = """\
import os, signal, time
for number in range(200):
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    for _ in range(number * 20): pass
    os.kill(pid, signal.SIGTERM)
    assert os.waitpid(pid, 0)[1] == signal.SIGTERM
print("done")
"""
    running = started(text)
    assert running.end() == 0, running.errors
    assert running.lines == ["done"]


def test_a_signal_while_the_program_forks(started: Callable[..., Started]) -> None:
    text = (
        HEAD
        + """
# Once the signal has come, threads of the agent are there, and 3.12 and newer warn of a fork.
import warnings
warnings.simplefilter("ignore")
print("ready")
while True:
    pid = os.fork()
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
"""
    )
    running = started(text)
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM, running.errors
    assert running.lines == ["ready", "exit handler"]
    assert running.errors == ""


def test_a_signal_in_a_hook_of_a_fork(started: Callable[..., Started]) -> None:
    text = (
        HEAD
        + """
# As above.
import warnings
warnings.simplefilter("ignore")
def hook():
    if not once:
        once.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        while True: time.sleep(0.01)
once = []
os.register_at_fork(before=hook)
pid = os.fork()
if pid == 0: os._exit(0)
try:
    while True: time.sleep(0.01)
finally:
    print("finally")
"""
    )
    running = started(text)
    assert running.end() == -signal.SIGTERM, running.errors
    assert running.lines == ["finally", "exit handler"]
    assert running.errors == ""


def test_a_signal_in_a_finalizer(started: Callable[..., Started]) -> None:
    text = (
        HEAD
        + """
class Session:
    def __del__(self):
        print("ready")
        while True: time.sleep(0.01)
class Other:
    def __del__(self):
        raise SystemExit(3)
def end():
    Other()
    print("exit handler")
atexit.unregister(print)
atexit.register(end)
try:
    Session()
    while True: time.sleep(0.01)
finally:
    print("finally")
"""
    )
    running = started(text)
    running.until("ready")
    running.send(signal.SIGTERM)
    assert running.end() == -signal.SIGTERM, running.errors
    assert running.lines == ["ready", "finally", "exit handler"]
    # What the program loses itself is still told as Python tells it.
    assert "<function Other.__del__" in running.errors
    assert running.errors.count("Exception ignored") == 1


def test_one_budget_for_all_that_follows_ctrl_c(started: Callable[..., Started]) -> None:
    # The executor's grace is spent when the main thread has ended: the exit handler gets what is left of the budget.
    text = HEAD + (
        "def last():\n    started = time.monotonic()\n    print('last')\n"
        "    while True:\n        time.sleep(0.05)\n        open('now', 'w').write(str(time.monotonic() - started))\n        os.replace('now', 'seconds')\n"
        "atexit.register(last)\nimport asyncio\n"
        "async def main():\n    job = asyncio.to_thread(time.sleep, 3600)\n    print('ready')\n    await job\nasyncio.run(main())\n"
    )
    running = started(text, LEAKAGENT_GRACE="5", LEAKAGENT_BUDGET="6")
    running.until("ready")
    running.send(signal.SIGINT)
    # 3.12 starts no thread when the main thread has ended.
    assert running.end() == -signal.SIGINT, running.errors
    assert running.lines == ["ready", "last"]
    assert "the end after SIGINT took longer than 6 s" in running.errors
    # About one second is left, and the last words may take another one, in which it goes on; without the rule it is the whole budget.
    assert float((running.path.parent / "seconds").read_text()) < 5
