"""Every private name that the project uses: it exists in this interpreter and has the shape that is relied on."""

from __future__ import annotations

import _thread
import asyncio
import asyncio.runners
import concurrent.futures.thread
import inspect
import linecache
import queue
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from leakagent.shutdown import interpreter

if TYPE_CHECKING:
    from collections.abc import Callable


def test_all_names_are_here() -> None:
    names = interpreter.private_names()
    assert [name for name, found in names.items() if not found] == []
    assert len(names) >= 8


def test_register_atexit_takes_a_callback_and_runs_them_in_reverse() -> None:
    code = (
        "import threading\nfrom leakagent.shutdown import interpreter as i\n"
        "for word in ('one', 'two'): assert i.register_before_join(lambda word=word: print(word))\n"
        "import atexit\natexit.register(lambda: print('late', i.register_before_join(print)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout.split() == ["two", "one", "late", "False"]


def test_without_threading_there_is_no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "threading")
    assert not interpreter.register_before_join(print)
    assert interpreter.in_main_thread()


def test_pool_load() -> None:
    go, running = threading.Event(), threading.Semaphore(0)

    def job() -> None:
        running.release()
        go.wait()

    with ThreadPoolExecutor(2) as pool:
        assert interpreter.pool_load(pool) == (0, 0)
        for _ in range(5):
            pool.submit(job)
        running.acquire()
        running.acquire()
        assert interpreter.pool_load(pool) == (3, 2)
        assert len(interpreter.pool_threads(pool)) == 2
        assert set(interpreter.pool_threads(pool)) <= set(interpreter.worker_threads())
        assert isinstance(pool._work_queue, (queue.SimpleQueue, queue.Queue))
        go.set()
    assert interpreter.pool_load(object()) == (0, 0)  # type: ignore[arg-type]
    assert interpreter.pool_threads(object()) == []  # type: ignore[arg-type]


def test_the_lists_of_workers() -> None:
    assert hasattr(concurrent.futures.thread._threads_queues, "pop")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        (thread,) = interpreter.pool_threads(pool)
        assert thread in interpreter.worker_threads()
        assert isinstance(concurrent.futures.thread._shutdown, bool)
        assert concurrent.futures.thread._global_shutdown_lock.acquire(blocking=False)
        concurrent.futures.thread._global_shutdown_lock.release()
        interpreter.no_longer_joined(thread)
        interpreter.no_longer_joined(thread)
        assert thread not in interpreter.worker_threads()


def test_the_lists_of_threads() -> None:
    if sys.version_info >= (3, 13):
        assert callable(threading._thread_shutdown)  # type: ignore[attr-defined]
        assert inspect.getsource(threading._shutdown).endswith("    _thread_shutdown()\n")  # type: ignore[attr-defined]
    else:
        assert isinstance(threading._shutdown_locks, set)  # type: ignore[attr-defined]
        with threading._shutdown_locks_lock:  # type: ignore[attr-defined]
            pass
        assert "_main_thread._stop()" in inspect.getsource(threading._shutdown)  # type: ignore[attr-defined]
        event = threading.Event()
        thread = threading.Thread(target=event.wait)
        thread.start()
        try:
            assert thread._tstate_lock in threading._shutdown_locks  # type: ignore[attr-defined]
            assert interpreter.let_go(thread)
            assert thread._tstate_lock not in threading._shutdown_locks  # type: ignore[attr-defined]
        finally:
            event.set()
            thread.join()


def test_the_hook_before_threads_are_joined_runs_once_when_main_is_marked() -> None:
    code = (
        "import threading\nfrom leakagent.shutdown import interpreter as i\n"
        "def called(): print('main alive', threading.main_thread().is_alive(), 'others', threading.active_count())\n"
        "import time\ndef wait():\n    while threading.main_thread().is_alive(): time.sleep(0.005)\n    go.wait(); print('thread')\n"
        "go = threading.Event()\nthreading.Thread(target=wait).start()\n"
        "i.before_thread_join(lambda: (called(), go.set()))\nprint('main')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    lines = ran.stdout.splitlines()
    assert (lines[0], lines[1].split()[:3], lines[2:], ran.stderr) == ("main", ["main", "alive", "False"], ["thread"], "")


def test_asyncio_names() -> None:
    assert interpreter.cancel_all_tasks_owner() == (asyncio.runners, "_cancel_all_tasks")
    assert list(inspect.signature(asyncio.runners._cancel_all_tasks).parameters) == ["loop"]

    async def main() -> tuple[object, object, object]:
        future = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(asyncio.wait_for(future, 60))
        ready = interpreter.waiter_of(task)
        await asyncio.sleep(0)
        waiting = interpreter.waiter_of(task)
        interpreter.silence_destroyed(task)
        assert task._log_destroy_pending is False  # type: ignore[attr-defined]
        future.set_result(1)
        await task
        return ready, waiting, interpreter.waiter_of(task)

    ready, waiting, done = asyncio.run(main())
    assert (ready, done) == (None, None)
    assert asyncio.isfuture(waiting)
    assert interpreter.waiter_of(object()) is None


def test_frames() -> None:
    assert interpreter.caller(0) is sys._getframe()
    assert interpreter.frame_of(0) is sys._getframe()
    assert interpreter.caller(10**6) is None
    event, started = threading.Event(), threading.Event()

    def inside() -> None:
        started.set()
        event.wait()

    thread = threading.Thread(target=inside)
    assert interpreter.thread_frame(thread) is None
    thread.start()
    started.wait()
    names = []
    frame = interpreter.thread_frame(thread)
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    assert "inside" in names
    event.set()
    thread.join()
    assert interpreter.thread_frame(thread) is None


def test_which_thread_this_is() -> None:
    seen: list[object] = [interpreter.in_main_thread()]
    known = threading.active_count()

    def look() -> None:
        seen.append(interpreter.in_main_thread())

    import _thread

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    done = _thread.allocate_lock()
    done.acquire()
    _thread.start_new_thread(lambda: (look(), done.release()), ())
    assert done.acquire(timeout=60)
    assert seen == [True, False, False]
    # Asking makes no thread known that was not.
    assert threading.active_count() == known


def test_this_is_no_child_of_multiprocessing() -> None:
    assert not interpreter.is_multiprocessing_child()


@pytest.mark.parametrize("flush", [True, False])
def test_ending_with_another_status(flush: bool) -> None:
    code = (
        "import atexit, sys\nfrom leakagent.shutdown import interpreter as i\n"
        "class Farewell:\n    def __del__(self): print('finalizer')\nfarewell = Farewell()\n"
        "atexit.register(print, 'exit handler')\ni.end_with(9)\nprint('main')\n" + ("sys.stdout.flush()" if flush else "")
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (ran.returncode, ran.stdout.split("\n"), ran.stderr) == (9, ["main", "exit handler", "finalizer", ""], "")


def test_source_of_code_that_was_given_on_the_command_line() -> None:
    before = dict(linecache.cache)
    interpreter.remember_source(compile("1 / 0", "<string>", "exec"), "1 / 0")
    linecache.cache.clear()
    linecache.cache.update(before)
    run: Callable[..., object] = interpreter.run_module_as_main
    assert list(inspect.signature(run).parameters) == ["name", "alter_argv"]
    import runpy

    assert list(inspect.signature(runpy._run_module_as_main).parameters) == ["mod_name", "alter_argv"]  # type: ignore[attr-defined]


def test_a_thread_of_others_that_has_asked_for_its_name_is_taken_off_the_list() -> None:
    asked, go_on, ended = (threading.Lock() for _ in range(3))
    for lock in (asked, go_on, ended):
        lock.acquire()

    def thread() -> None:
        threading.current_thread()
        asked.release()
        go_on.acquire()
        interpreter.remove_stand_in()
        interpreter.remove_stand_in()  # there is none any more
        ended.release()

    before = threading.enumerate()
    _thread.start_new_thread(thread, ())
    asked.acquire()
    assert [type(one).__name__ for one in threading.enumerate() if one not in before] == ["_DummyThread"]
    go_on.release()
    ended.acquire()
    assert threading.enumerate() == before
    # One of the program's own stays.
    interpreter.remove_stand_in()
    assert threading.enumerate() == before
