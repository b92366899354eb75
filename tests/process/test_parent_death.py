"""What becomes of children when their starter dies: nothing is left of those that serve nobody else, and nobody else is touched."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

METHODS = ["fork", "spawn", "forkserver"]


def in_session(session: int) -> list[int]:
    """Return the processes of a session that run: `spawn` makes one for each program."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(name))
    return found


@pytest.fixture
def run_until_up(spawn: Callable[..., Any], until: Callable[..., None]) -> Callable[..., Any]:
    """Start a program under the agent; return it when it has printed a line with the number of its children, and those are up."""

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        process = spawn("-m", "leakagent", *arguments, **options)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()
        wanted = int(line)
        until(lambda: len(in_session(process.pid)) > wanted, "the children are up")
        return process

    return start


ALL_KINDS = """\
import multiprocessing, os, signal, sys, time
from concurrent.futures import ProcessPoolExecutor

def work(up):
    up.release()
    time.sleep(600)

def main(context, death):
    up = context.Semaphore(0)
    for daemon in (False, True):
        context.Process(target=work, args=(up,), daemon=daemon).start()
        up.acquire()
    idle, busy = context.Pool(1), context.Pool(1)
    idle.map(abs, [1])
    busy.map_async(time.sleep, [600])
    manager = context.Manager()
    manager.dict()
    executors = [ProcessPoolExecutor(1, mp_context=context) for _ in range(2)]
    for executor in executors:
        executor.submit(abs, 1).result()
    job = executors[1].submit(time.sleep, 600)
    while not job.running():
        time.sleep(0.01)
    print(7, flush=True)
    while death != "sigkill" and not os.path.exists("die"):
        time.sleep(0.01)
    if death == "os._exit":
        os._exit(3)
    if death == "segv":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(600)

if __name__ == "__main__":
    main(multiprocessing.get_context(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.parametrize("death", ["sigkill", "os._exit", "segv"])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left(
    method: str,
    death: str,
    *,
    run_until_up: Callable[..., Any],
    program: Callable[..., Path],
    until: Callable[..., None],
    tmp_path: Path,
) -> None:
    process = run_until_up(program(ALL_KINDS), method, death)
    if death == "sigkill":
        process.kill()
    (tmp_path / "die").touch()
    process.wait(timeout=120)
    until(lambda: in_session(process.pid) == [], f"all of {in_session(process.pid)} end")


CHILDREN = """\
import asyncio, atexit, multiprocessing, os, signal, sys, threading, time
from concurrent.futures import ProcessPoolExecutor

def say(text):
    with open("said", "a") as file:
        file.write(text + "\\n")

def wait():
    open("up", "w").close()
    time.sleep(600)

def sleeps():
    try:
        wait()
    finally:
        say("finally")

def cleans_up_for_long():
    try:
        wait()
    finally:
        say("begins")
        # Longer than it takes until it is asked again.
        end = time.monotonic() + 1
        while time.monotonic() < end:
            time.sleep(0.01)
        say("ends")

def waits_for_a_lock():
    lock = threading.Lock()
    lock.acquire()
    try:
        open("up", "w").close()
        lock.acquire()
    finally:
        say("finally")

def swallows_it():
    for _ in range(2):
        try:
            wait()
        except BaseException as error:
            say(type(error).__name__)
    sleeps()

def never_ends():
    while True:
        try:
            say("never")
            time.sleep(600)
        except BaseException:
            pass

def is_deaf():
    signal.pthread_sigmask(signal.SIG_SETMASK, range(1, signal.NSIG))
    say("deaf")
    time.sleep(600)

def runs_a_loop():
    async def main():
        task = asyncio.ensure_future(asyncio.sleep(600))
        # Once it waits: an exception before would pass the handlers by.
        asyncio.get_running_loop().call_soon(lambda: open("up", "w").close())
        try:
            await task
        except asyncio.CancelledError:
            say("cancelled")
            raise
        finally:
            say("finally")
    asyncio.run(main())

def has_a_thread():
    threading.Thread(target=time.sleep, args=(600,)).start()
    sleeps()

def has_a_handler():
    def handler(number, frame):
        say("handler")
        sys.exit(0)
    signal.signal(signal.SIGTERM, handler)
    sleeps()

def closes_everything():
    os.closerange(3, 1000)
    sleeps()

def has_children():
    context = multiprocessing.get_context(sys.argv[1])
    context.Process(target=never_ends).start()
    sleeps()

def main():
    context = multiprocessing.get_context(sys.argv[1])
    context.Process(target=globals()[sys.argv[2]]).start()
    print(1, flush=True)
    time.sleep(600)

if __name__ == "__main__":
    main()
"""

SAID = {
    "sleeps": ["finally"],
    "cleans_up_for_long": ["begins", "ends"],
    "waits_for_a_lock": ["finally"],
    "swallows_it": ["SystemExit", "SystemExit", "finally"],
    "runs_a_loop": ["cancelled", "finally"],
    "has_a_thread": ["finally"],
    "has_a_handler": ["handler", "finally"],
    "closes_everything": ["finally"],
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("child", SAID)
def test_its_own_clean_up_runs(
    child: str,
    method: str,
    *,
    run_until_up: Callable[..., Any],
    program: Callable[..., Path],
    until: Callable[..., None],
    tmp_path: Path,
) -> None:
    process = run_until_up(program(CHILDREN), method, child, variables={"LEAKAGENT_GRACE": "60"})
    until((tmp_path / "up").exists, "the child waits")
    process.kill()
    until(lambda: in_session(process.pid) == [], "the child ends")
    assert (tmp_path / "said").read_text(encoding="utf-8").split() == SAID[child]


@pytest.mark.parametrize("child", ["never_ends", "is_deaf", "has_children"])
def test_it_is_killed_when_the_grace_is_over(
    child: str, run_until_up: Callable[..., Any], program: Callable[..., Path], until: Callable[..., None], tmp_path: Path
) -> None:
    process = run_until_up(program(CHILDREN), "fork", child, variables={"LEAKAGENT_GRACE": "0.5"})
    until((tmp_path / "said").exists, "the child is up")
    process.kill()
    until(lambda: in_session(process.pid) == [], "the child ends")


LEFT_ALONE = """\
import multiprocessing, os, signal, subprocess, sys, time

def detaches(up):
    os.setsid()
    up.put(os.getpid())
    time.sleep(600)

def forks_twice(up):
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        os.write(write, str(os.getpid()).encode())
        signal.pause()
    up.put(int(os.read(read, 20)))
    time.sleep(600)

def starts_a_program(up):
    up.put(subprocess.Popen(["sleep", "600"], start_new_session="new" in sys.argv).pid)
    time.sleep(600)

def main():
    context = multiprocessing.get_context("fork")
    up = context.SimpleQueue()
    context.Process(target=globals()[sys.argv[1]], args=(up,)).start()
    print(up.get(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def ended() -> Iterator[list[int]]:
    """Return a list for the pids of processes that outlive a program: they are killed in the end."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("child", [["detaches"], ["forks_twice"], ["starts_a_program"], ["starts_a_program", "new"]])
def test_who_has_left_is_left_alone(
    child: list[str], spawn: Callable[..., Any], program: Callable[..., Path], until: Callable[..., None], ended: list[int]
) -> None:
    process = spawn("-m", "leakagent", program(LEFT_ALONE), *child)
    pid = int(process.stdout.readline())
    ended.append(pid)
    watched = [one for one in in_session(process.pid) if one not in {pid, process.pid}]
    process.kill()
    until(lambda: not set(watched) & set(in_session(process.pid)), "the children that serve it end")
    if child == ["detaches"]:
        # Nobody else ends by which we could see that ours was not asked to: its thread that watches is gone when it has decided.
        until(lambda: len(os.listdir(f"/proc/{pid}/task")) == 1, "it has seen it")
    assert Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "S"


def test_a_policy_keeps_them(run_until_up: Callable[..., Any], program: Callable[..., Path], until: Callable[..., None]) -> None:
    process = run_until_up("--orphans", "keep", program(CHILDREN), "fork", "sleeps")
    process.kill()
    process.wait(timeout=120)
    (child,) = in_session(process.pid)
    until(lambda: os.listdir(f"/proc/{child}/task") == [str(child)], "nothing watches in it")


FORKS = """\
import multiprocessing, os, sys, time, warnings

def inner():
    time.sleep(600)

def forks(up):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        multiprocessing.get_context("fork").Process(target=inner).start()
    up.put([str(one.message) for one in caught])
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    up = context.SimpleQueue()
    context.Process(target=forks, args=(up,)).start()
    print(up.get(), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_child_forks_without_a_warning_and_is_watched_after_it(
    method: str, spawn: Callable[..., Any], program: Callable[..., Path], until: Callable[..., None]
) -> None:
    process = spawn("-m", "leakagent", program(FORKS), method)
    assert process.stdout.readline() == "[]\n"
    process.kill()
    until(lambda: in_session(process.pid) == [], "the children end")


CATCHES = """\
import multiprocessing, os, time
from leakagent.shutdown.signals import CATCH_ALL
CATCH_ALL.add(("__main__", "batch"))

def batch(up):
    starter = os.getppid()
    try:
        up.put("ready")
        while os.getppid() == starter:
            time.sleep(0.01)
        # So that it is asked, and asked again.
        for _ in range(100):
            time.sleep(0.01)
        said = "done"
    except BaseException as error:
        said = f"caught {error}"
    with open("said", "w") as file:
        file.write(said)

def work(up):
    batch(up)
    while True:
        time.sleep(0.01)

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    up = context.SimpleQueue()
    context.Process(target=work, args=(up,)).start()
    print(up.get(), flush=True)
    time.sleep(600)
"""


def test_a_function_that_catches_all_is_waited_for(
    spawn: Callable[..., Any], program: Callable[..., Path], until: Callable[..., None], tmp_path: Path
) -> None:
    process = spawn("-m", "leakagent", "--report", "off", program(CATCHES))
    assert process.stdout.readline() == "ready\n"
    process.kill()
    until(lambda: in_session(process.pid) == [], "the child ends")
    assert (tmp_path / "said").read_text(encoding="utf-8") == "done"


ORPHANED = """\
import multiprocessing, os, time

def middle(up):
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    process.start()  # made
    up.put(process.pid)
    time.sleep(600)

def runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    up = context.SimpleQueue()
    process = context.Process(target=middle, args=(up,))
    process.start()
    pid = up.get()
    process.kill()
    process.join()
    while runs(pid):
        time.sleep(0.01)
    print(pid)
"""


def test_an_orphan_is_told_to_the_program_that_was_started(told: Callable[..., Any]) -> None:
    after = told(ORPHANED)
    one = after.only("orphaned", "process")
    assert one["pids"] == [int(after.lines[0])]
    # The starter was killed, but its ledger has the line.
    assert (one["site"]["line"], one["site"]["function"], one["owner"]) == (after.line("made"), "middle", "yours"), one
    assert (one["action"], len(after.findings)) == ("terminated", 1), after
    assert one["evidence"][0].startswith("its starter (pid "), one
    assert "p.join()" in one["fix"]


PILE = """\
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    executor = ProcessPoolExecutor(4, mp_context=multiprocessing.get_context(sys.argv[1]))
    list(executor.map(time.sleep, [0.1] * 8))
    print(4, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("method", METHODS)
def test_no_pile_of_workers(
    method: str, signum: int, *, run_until_up: Callable[..., Any], program: Callable[..., Path], until: Callable[..., None]
) -> None:
    # Three times the same script, each ended as an editor's stop button does it, or harder.
    app = program(PILE)
    processes = [run_until_up(app, method, variables={"LEAKAGENT_REPORT": "off"}) for _ in range(3)]
    for process in processes:
        process.send_signal(signum)
    for process in processes:
        assert process.wait(timeout=120) == -signum
        until(lambda process=process: in_session(process.pid) == [], f"all of {in_session(process.pid)} end")
