"""Processes of `multiprocessing`, by every start method: who is told, and that nobody is ended, joined or kept by the agent."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

METHODS = ["fork", "spawn", "forkserver"]

PROPER = """\
import atexit, multiprocessing, os, sys, threading
from concurrent.futures import ProcessPoolExecutor

def wait_for(event):
    event.wait()

def main(context):
    process = context.Process(target=abs, args=(1,))
    process.start()
    process.join()
    queue = context.Queue()
    process = context.Process(target=queue.put, args=("through the queue",))
    process.start()
    print(queue.get(), process.join())
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        print(pool.submit(abs, -2).result())
    with context.Pool(1) as pool:
        print(pool.map(abs, [-3]))
    with context.Manager() as manager:
        print(manager.list([4]))
    event = context.Event()
    killed = context.Process(target=wait_for, args=(event,))
    killed.start()
    killed.kill()
    killed.join()
    print(killed.exitcode)
    # Python ends this one.
    context.Process(target=wait_for, args=(event,), daemon=True).start()
    # Python joins this one, which has been told to end.
    context.Process(target=wait_for, args=(event,)).start()
    multiprocessing.active_children()[-1].terminate()
    for process in multiprocessing.active_children():
        process.terminate()
    threads = [threading.Thread(target=in_a_thread, args=(context,)) for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()

def in_a_thread(context):
    process = context.Process(target=abs, args=(5,))
    process.start()
    process.join()

if __name__ == "__main__":
    main(multiprocessing.get_context(sys.argv[1]))
"""


@pytest.mark.parametrize("method", METHODS)
def test_proper_use_is_not_told(method: str, told: Callable[..., Any]) -> None:
    after = told(PROPER, method)
    after.clean()
    assert after.lines == ["through the queue None", "2", "[3]", "[4]", "-9"], after
    assert after.ran.stderr == ""


LEFT = """\
import atexit, multiprocessing, os, signal, sys
from concurrent.futures import ProcessPoolExecutor

def wait_for(event, up):
    up.release()
    event.wait()

def die(event, up):
    up.release()
    event.wait()
    os.kill(os.getpid(), signal.SIGKILL)

def main(context):
    global kept, pool, executor
    event, up = context.Event(), context.Semaphore(0)
    # Before multiprocessing's own exit handler, which waits for the children.
    atexit.register(event.set)
    kept = context.Process(target=wait_for, args=(event, up))
    kept.start()  # kept
    context.Process(target=wait_for, args=(event, up), name="worker").start()  # dropped
    context.Process(target=die, args=(event, up)).start()  # dies
    # At its end the program removes the event's name, by which a child that is still starting would look for it.
    for _ in range(3):
        up.acquire()
    pool = context.Pool(1)  # pool
    print(pool.map(abs, [-1]))
    executor = ProcessPoolExecutor(1, mp_context=context)  # executor
    print(executor.submit(abs, -2).result())

if __name__ == "__main__":
    main(multiprocessing.get_context(sys.argv[1]))
"""


@pytest.mark.parametrize("method", METHODS)
def test_left_over_is_told_at_its_line(method: str, told: Callable[..., Any]) -> None:
    after = told(LEFT, method)
    assert (after.ran.returncode, after.lines) == (0, ["[1]", "2"]), after
    found = {one["site"]["line"]: one for one in after.findings}
    assert len(found) == len(after.findings) == 5, after
    for marker in ("kept", "dropped", "dies"):
        one = found[after.line(marker)]
        assert (one["kind"], one["reason"], one["action"], one["count"]) == ("process", "blocks_exit", "none", 1)
        assert f"status {-9 if marker == 'dies' else 0}," in one["evidence"][0], one
        assert one["evidence"][0].endswith(" MB of its own"), one
    assert found[after.line("dropped")]["names"][0].startswith("worker (pid ")
    for marker in ("pool", "executor"):
        assert (found[after.line(marker)]["kind"], found[after.line(marker)]["reason"]) == ("process_pool", "not_shut_down")


MANY = """\
import multiprocessing, os, sys
from multiprocessing.connection import wait

def descriptors():
    return len(os.listdir("/proc/self/fd"))

def zombies():
    states = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            states.append(fields[0])
    return states.count("Z")

def start(context):
    process = context.Process(target=int)
    process.start()
    return process.sentinel

def main(context):
    for _ in range(3):
        wait([start(context)])
    before = descriptors()
    most = 0
    for _ in range(200):
        # It ends, and nobody joins it.
        wait([start(context)])
        most = max(most, descriptors() - before)
    # One or two that have just closed their end of the pipe are not reaped yet.
    print(most <= 20, zombies() <= 20)
    for process in multiprocessing.active_children():
        process.join()
    if "leakagent.agent" in sys.modules:
        from leakagent import agent
        print(len(agent.current().registry) <= 20)

if __name__ == "__main__":
    main(multiprocessing.get_context("fork"))
"""


def test_many_processes_keep_nothing(told: Callable[..., Any], python: Callable[..., Any], tmp_path: Path) -> None:
    after = told(MANY)
    assert after.findings == [], after
    assert after.lines == ["True True", "True"], after
    assert python(tmp_path / "app.py").stdout == "True True\n"


OTHERS = """\
import os, subprocess, sys
keep = "import signal; print('up', flush=True); signal.pause()"
one = subprocess.Popen([sys.executable, "-c", keep], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
one.stdout.readline()
read, write = os.pipe()
two = os.fork()
if two == 0:
    import signal
    os.setsid()
    devnull = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(devnull, number)
    os.write(write, b"x")
    signal.pause()
    os._exit(0)
os.read(read, 1)
print(one.pid, two)
sys.exit(5)
"""


def test_processes_of_others_are_left_alone(told: Callable[..., Any]) -> None:
    after = told(OTHERS)
    pids = [int(pid) for pid in after.lines[0].split()]
    try:
        for pid in pids:
            os.kill(pid, 0)  # raises if it is gone
        assert (after.ran.returncode, after.findings, after.ran.stderr) == (5, [], ""), after
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


AGAIN = """\
import multiprocessing, os, sys
from concurrent.futures import ThreadPoolExecutor

def leak():
    global pool
    pool = ThreadPoolExecutor(1)  # made
    pool.submit(int).result()

def child():
    leak()
    if os.fork() == 0:
        # Neither this process nor its end has anything to do with the pool.
        os._exit(0)
    pid = os.fork()
    if pid == 0:
        leak()
        sys.exit(3)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    inner = multiprocessing.get_context("fork").Process(target=leak)
    inner.start()
    inner.join()

if __name__ == "__main__":
    outer = multiprocessing.get_context("fork").Process(target=child)
    outer.start()
    outer.join()
    print(outer.exitcode)
"""


def test_a_child_that_forks_again(told: Callable[..., Any]) -> None:
    after = told(AGAIN)
    assert (after.ran.returncode, after.lines) == (0, ["3", "0"]), after
    found = after.only("not_shut_down", "thread_pool")
    # The child's, that of the process that it forked, and that of its own child; the forked one that ended at once has none.
    assert (found["site"]["line"], found["count"], len(set(found["pids"]))) == (after.line("made"), 3, 3), after
    assert len(after.findings) == 1


@pytest.mark.parametrize("group", [True, False])
def test_ctrl_c_while_python_waits_for_a_child(
    group: bool, interrupted: Callable[..., Any], program: Callable[..., Path]
) -> None:
    text = """\
import atexit, multiprocessing, signal

def child(event):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    event.wait(0.5)

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    event = context.Event()
    context.Process(target=child, args=(event,)).start()
    atexit.register(print, "waiting", flush=True)
"""
    app = program(text)
    bare = interrupted([app], group=group)
    ran = interrupted(["-m", "leakagent", "--report", "off", app], group=group)
    assert (ran.returncode, ran.stdout) == (bare.returncode, bare.stdout) == (bare.returncode, "waiting\n"), (bare, ran)
