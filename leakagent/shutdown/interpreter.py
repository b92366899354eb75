"""Every private name of CPython and its standard library that the project uses, with what was measured about it.

The problem.  What the agent promises at the end of a program can't be done with public names alone: `atexit` runs after
the executors were joined, a stuck worker keeps the interpreter in that join for ever, and whether a task waits for something
is known to the task only.

What we do.  Each private name stands here once, behind a function that says what happens where the name is missing: the
function answers None or False, and the caller does without.  `private_names` tells `leakagent doctor` which ones are there.

What was measured (Linux, 3.10.13, 3.11.7, 3.12.1, 3.13.0, 3.14.8, 3.15.0):

- ``threading._register_atexit`` callbacks run in reverse order before non-daemon threads are joined; one that is registered
  after ``concurrent.futures.thread`` was imported runs before that module joins its workers.
- Taking a thread out of the join lists lets the interpreter finalize normally, with its own exit status: up to 3.12 its lock
  in ``threading._shutdown_locks``; from 3.13 on ``threading._thread_shutdown`` does the joining (a handle's ``_set_done``
  hangs on 3.13.0).  3.15.0 then still looks for threads that are no daemons, for ever, with the processor at 100 %.

What is still open.  A thread that is let go runs on as a daemon thread does: it stops at its next step after finalization
began.  Windows and macOS: by reading only.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _thread
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from threading import Thread
    from types import CodeType, FrameType
    from typing import Any


def register_before_join(callback: Callable[[], object]) -> bool:
    """Register a callback that runs when the main thread has ended and before other threads are joined.

    Returns:
        False where this interpreter has no such hook (the caller falls back to `atexit`), or where it is too late.

    """
    register = getattr(sys.modules.get("threading"), "_register_atexit", None)
    if register is None:
        return False
    try:
        register(callback)
    except RuntimeError:  # the interpreter is already past this point
        return False
    return True


def pool_load(pool: Executor) -> tuple[int, int]:
    """Return how many jobs of a ``ThreadPoolExecutor`` are queued and how many run (both 0 if it can't be known).

    A worker without a job stands in the worker's own loop; the count of idle ones that the pool keeps is too high as soon as
    it has done more jobs than it has workers.
    """
    queue = getattr(pool, "_work_queue", None)
    if queue is None:
        return 0, 0
    frames = [thread_frame(thread) for thread in pool_threads(pool) if thread.is_alive()]
    return queue.qsize(), sum(1 for frame in frames if frame is not None and frame.f_code.co_name != "_worker")


def pool_threads(pool: Executor) -> list[Thread]:
    """Return the worker threads of a ``ThreadPoolExecutor``."""
    return list(getattr(pool, "_threads", ()))


def worker_threads() -> list[Thread]:
    """Return every worker of every ``ThreadPoolExecutor``, dropped ones included."""
    queues = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", None)
    return [] if queues is None else list(queues)


def end_workers() -> None:
    """Tell the workers of all ``ThreadPoolExecutor`` objects to end when their queue is empty.

    This is the first half of ``concurrent.futures.thread._python_exit``, which is going to run next and to wait for them; doing it
    twice does no harm.
    """
    module = sys.modules.get("concurrent.futures.thread")
    if not hasattr(module, "_threads_queues"):
        return
    with module._global_shutdown_lock:  # type: ignore[union-attr]  # noqa: SLF001
        module._shutdown = True  # type: ignore[union-attr]  # noqa: SLF001
    for queue in list(module._threads_queues.values()):  # type: ignore[union-attr]  # noqa: SLF001
        queue.put(None)


def cancel_queued() -> int:
    """Cancel the jobs that wait for a worker of any thread pool, and return how many there were; no lock of a pool is taken."""
    module = sys.modules.get("concurrent.futures.thread")
    cancelled = 0
    for queue in list(getattr(module, "_threads_queues", {}).values()):
        left = True
        while left:
            try:
                job = queue.get_nowait()
            except sys.modules["_queue"].Empty:
                left = False
            else:
                if job is not None:
                    cancelled += job.future.cancel()
    return cancelled


def before_thread_join(callback: Callable[[], object]) -> None:
    """Call ``callback`` once, when the main thread is marked as ended, right before non-daemon threads are joined."""
    threading: Any = sys.modules["threading"]
    if hasattr(threading, "_thread_shutdown"):
        join_all = threading._thread_shutdown  # noqa: SLF001

        def shutdown() -> None:
            threading._thread_shutdown = join_all  # noqa: SLF001
            callback()
            # What `let_go` may have put there in the meantime.
            threading._thread_shutdown()  # noqa: SLF001

        threading._thread_shutdown = shutdown  # noqa: SLF001
        return
    main = threading.main_thread()
    stop = main._stop  # noqa: SLF001

    def stopped() -> None:
        del main._stop  # noqa: SLF001
        stop()
        callback()

    main._stop = stopped  # noqa: SLF001


def no_longer_joined(thread: Thread) -> None:
    """Take a worker out of the list that ``concurrent.futures.thread`` joins."""
    queues = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", None)
    if queues is not None:
        queues.pop(thread, None)


def let_go(thread: Thread) -> bool:
    """Take a stuck thread out of the lists that the interpreter joins; from 3.13 on this is the end of all joining.

    Returns:
        False where this interpreter does not offer it: the thread will be waited for.

    """
    threading: Any = sys.modules["threading"]
    no_longer_joined(thread)
    locks = getattr(threading, "_shutdown_locks", None)
    if locks is not None:
        with threading._shutdown_locks_lock:  # noqa: SLF001
            locks.discard(getattr(thread, "_tstate_lock", None))
        return True
    if hasattr(threading, "_thread_shutdown"):
        if sys.version_info >= (3, 15) and not _mark_as_daemon(thread):
            return False
        threading._thread_shutdown = lambda: None  # noqa: SLF001
        return True
    return False


#: What a thread state says about who made it (``_PyThreadState_WHENCE_INIT``, ``..._THREADING`` and ``..._THREADING_DAEMON``).
_OF_MAIN, _OF_THREAD, _OF_DAEMON = 1, 3, 6


def _mark_as_daemon(thread: Thread) -> bool:
    """Have the end of Python 3.15 take a running thread for a daemon.

    It comes back to joining, without end and without a pause, as long as a thread state is marked as a non-daemon thread's
    (``make_pre_finalization_calls`` in Python/pylifecycle.c).  Nothing in Python changes the mark, so it is done in the
    structure.  Where it is there is found out and proven by three threads whose marks are known: the main thread, this one,
    and a daemon made for that.
    """
    import ctypes  # only for stuck threads

    # A library object of its own: `ctypes.pythonapi` is the program's too.
    api = ctypes.PyDLL(None)
    head, following = api.PyInterpreterState_ThreadHead, api.PyThreadState_Next
    api.PyInterpreterState_Get.restype = head.restype = following.restype = ctypes.c_void_p
    head.argtypes = following.argtypes = [ctypes.c_void_p]
    ready, hold = _thread.allocate_lock(), _thread.allocate_lock()
    ready.acquire()
    hold.acquire()

    def park() -> None:
        ready.release()
        hold.acquire()

    starter: Any = _thread
    daemon = starter.start_joinable_thread(park, daemon=True)
    try:
        ready.acquire(timeout=5)
        marks = {sys.modules["threading"].main_thread().ident: _OF_MAIN, daemon.ident: _OF_DAEMON, thread.ident: _OF_THREAD}
        found: dict[int, Any] = {}
        state = head(api.PyInterpreterState_Get())
        while state:
            words = set((ctypes.c_size_t * 32).from_address(state))
            for ident in words & set(marks):
                # Behind four pointers stand small numbers, the mark among them (``struct _ts`` in Include/cpython/pystate.h).
                found[ident] = (ctypes.c_int * 6).from_address(state + 4 * ctypes.sizeof(ctypes.c_void_p))
            state = following(state)
        places = [
            place for place in range(6) if all(found[ident][place] == mark for ident, mark in marks.items() if ident in found)
        ]
        if len(found) != len(marks) or len(places) != 1:
            return False
        found[thread.ident or 0][places[0]] = _OF_DAEMON
        return True
    finally:
        hold.release()


def cancel_all_tasks_owner() -> tuple[Any, str] | None:
    """Return module and name of the function by which ``asyncio.run`` cancels what is left over."""
    runners = sys.modules.get("asyncio.runners")
    return (runners, "_cancel_all_tasks") if hasattr(runners, "_cancel_all_tasks") else None


def waiter_of(task: object) -> object:
    """Return the future that a task waits for, or None."""
    return getattr(task, "_fut_waiter", None)


def silence_destroyed(task: object) -> None:
    """Keep a task that refuses to end from logging that it was destroyed: it is in the report."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001


def frames() -> dict[int, FrameType]:
    """Return the frame that each thread runs now."""
    return sys._current_frames()  # noqa: SLF001


def thread_frame(thread: Thread) -> FrameType | None:
    """Return the frame that a thread runs now."""
    return None if thread.ident is None else sys._current_frames().get(thread.ident)  # noqa: SLF001


#: ``sys._getframe``: the frame that many calls above the caller (documented, "for internal and specialized purposes only").
frame_of = sys._getframe  # noqa: SLF001


def caller(depth: int) -> FrameType | None:
    """Return the frame ``depth`` calls above the caller, or None if the stack is shorter."""
    try:
        return sys._getframe(depth + 1)  # noqa: SLF001 - documented, "for internal and specialized purposes"
    except ValueError:
        return None


class _Status:
    """Ends the process when it is destroyed; see `end_with`."""

    def __init__(self, status: int) -> None:
        self.status = status
        # By then this module and others may be empty.
        self.exit, self.kill, self.pid, self.signal = os._exit, os.kill, os.getpid(), _signal.signal
        self.streams = [stream for stream in (sys.__stdout__, sys.__stderr__) if stream is not None]

    def __del__(self) -> None:
        for stream in self.streams:
            try:
                stream.flush()
            except ValueError:  # closed
                continue
            except OSError:  # what the program said is lost: Python ends with status 120 then
                return
        if self.status < 0:
            self.signal(-self.status, 0)
            self.kill(self.pid, -self.status)
        # Still here: a status, or the first process of a container, which no default action ends.
        self.exit(self.status if self.status >= 0 else 128 - self.status)


def end_with(status: int) -> None:
    """End with another status after everything else has happened: other exit handlers, the program's own finalizers.

    A negative status is a signal by which the process dies.

    Only the caller of ``Py_FinalizeEx`` knows the status, so the process has to be ended before that returns.  The namespace of `sys`
    is the last but one to be emptied, and private names go first (``PyModule_ClearDict``), while the streams are still there.
    """
    sys._leakagent_status = _Status(status)  # type: ignore[attr-defined]  # noqa: SLF001


def in_main_thread() -> bool:
    """Say whether the caller runs in the main thread; without `threading` there is no other."""
    threading = sys.modules.get("threading")
    return threading is None or threading.get_ident() == threading.main_thread().ident


def console_quitter() -> type | None:
    """Return the class of the builtin ``exit`` and ``quit``, which raise `SystemExit` themselves."""
    return getattr(sys.modules.get("_sitebuiltins"), "Quitter", None)


def is_being_imported(module: object) -> bool:
    """Say whether a module of `sys.modules` has not run to its end yet."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def executor_base() -> type | None:
    """Return the class that the executors of `concurrent.futures` inherit ``__exit__`` from."""
    return getattr(sys.modules.get("concurrent.futures._base"), "Executor", None)


def pool_name(pool: Executor) -> str:
    """Return what the threads of a ``ThreadPoolExecutor`` are called by."""
    return str(getattr(pool, "_thread_name_prefix", ""))


def closing_loop(frame: FrameType | None) -> int:
    """Return the native id of the thread whose event loop waits, at its end, for an executor's ``shutdown``; 0 if none does.

    Args:
        frame: Who calls ``shutdown``: asyncio and uvloop do it in a thread of its own (``BaseEventLoop._do_shutdown``).

    """
    if frame is None or in_main_thread():
        return 0
    name = frame.f_globals.get("__name__")
    if name == "asyncio.base_events" and frame.f_code.co_name == "_do_shutdown":
        ident = getattr(frame.f_locals.get("self"), "_thread_id", None)
    elif name == "threading" and frame.f_code.co_name == "run":
        # uvloop's method is no Python function: the thread seems to call ``shutdown`` itself.
        target = getattr(frame.f_locals.get("self"), "_target", None)
        if type(getattr(target, "__self__", None)).__module__.partition(".")[0] != "uvloop":
            return 0
        ident = sys.modules["threading"].main_thread().ident
    else:
        return 0
    return next((thread.native_id or 0 for thread in sys.modules["threading"].enumerate() if thread.ident == ident), 0)


#: What a terminal sends to all processes in it.
CTRL_C = int(_signal.SIGINT)

#: Functions of the standard library that run around each `os.fork` and take or free a lock (`logging` up to 3.12).
FORK_HOOKS = (("logging", "_acquireLock"), ("logging", "_releaseLock"))


def ending_signals() -> list[int]:
    """Return the signals by which a program is asked to end, without that of Ctrl+C."""
    return [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(_signal, name, None)) is not None]


def handler_of(number: int) -> object:
    """Return the handler of a signal as `signal.getsignal` does; 0 is the default action (`signal` itself imports `enum`)."""
    return _signal.getsignal(number)


def has_default_action(number: int) -> bool:
    """Say whether a signal's default action is in force."""
    return bool(_signal.getsignal(number) == _signal.SIG_DFL)


def set_handler(number: int, handler: Callable[[int, FrameType | None], object] | None) -> bool:
    """Set a signal's handler, None for the default action; returns False where that can't be done (in a subinterpreter)."""
    try:
        _signal.signal(number, _signal.SIG_DFL if handler is None else handler)
    except ValueError:
        return False
    return True


def restore_default_action(number: int) -> None:
    """Restore a signal's default action, from whichever thread."""
    try:
        _signal.signal(number, _signal.SIG_DFL)
    except ValueError:  # only the main thread may do it in Python
        import ctypes

        function = ctypes.CDLL(None).signal
        function.argtypes, function.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
        function(number, None)


def is_started_by_multiprocessing() -> bool:
    """Say whether `multiprocessing` has started this interpreter, for a child or for its fork server."""
    return any(text == "--multiprocessing-fork" or "multiprocessing.forkserver import" in text[:60] for text in sys.orig_argv)


def pool_waits_for(pool: Executor) -> list[Thread]:
    """Return the threads that ``shutdown(wait=True)`` of an executor joins."""
    manager = getattr(pool, "_executor_manager_thread", None)
    return [manager] if manager is not None else pool_threads(pool)


def is_handled_by_python(number: int) -> bool:
    """Say whether Python's own handler is the process's for a signal that Python has noticed.

    A library written in Rust or C may have put one in front that calls Python's as well, and handles the signal itself
    (signal-hook, which tokio uses, does not call the default action, but does call a handler).  Python knows nothing of
    it, so it is asked whose code the handler is: CPython's, with `faulthandler` that passes the signal on, or a library's.
    """
    try:
        import ctypes

        libc = ctypes.CDLL(None)
        libc.dladdr.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        words = ctypes.c_size_t * 64  # more than the structures have

        def handler(signal: int) -> int:
            found = words()  # the handler is the first member
            return found[0] if libc.sigaction(signal, None, found) == 0 else 0

        def owner(address: int) -> int:
            found = words()  # the second member is where the object file begins
            return found[1] if libc.dladdr(address, found) else 0

        for spare in range(_signal.SIGRTMAX, _signal.SIGRTMIN, -1):
            if handler(spare) == 0:
                _signal.signal(spare, lambda _number, _frame: None)
                own = handler(spare)
                _signal.signal(spare, _signal.SIG_DFL)
                return owner(handler(number)) == owner(own)
    except (ImportError, AttributeError, OSError, ValueError):  # no ctypes, no real-time signals
        return True
    return True


def block(numbers: list[int]) -> set[int]:
    """Block signals in the calling thread and return what was blocked before."""
    return set(_signal.pthread_sigmask(_signal.SIG_BLOCK, numbers))


def set_blocked(numbers: set[int]) -> None:
    """Block these signals in the calling thread and no others; what has come in the meantime is handled before this returns."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, numbers)


def pool_processes(pool: Executor) -> list[Any]:
    """Return the worker processes of a `concurrent.futures.ProcessPoolExecutor`, none of any other pool."""
    return list((getattr(pool, "_processes", None) or {}).values())


def is_multiprocessing_child() -> bool:
    """Say whether this process runs the target of a ``multiprocessing.Process`` (it ends without `atexit`)."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def dies_by(signalnum: int) -> bool:
    """Say whether a signal that the main thread is about to raise ends the process at once."""
    signal: Any = sys.modules["signal"]
    threading = sys.modules.get("threading")
    if not isinstance(signalnum, int) or signalnum not in {signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", None)}:
        return False
    if threading is not None and threading.current_thread() is not threading.main_thread():
        return False
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ()) if hasattr(signal, "pthread_sigmask") else ()
    return signal.getsignal(signalnum) is signal.SIG_DFL and signalnum not in blocked


def run_module_as_main(name: str, *, alter_argv: bool) -> None:
    """Run a module as ``python -m name`` does."""
    import runpy

    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]  # noqa: SLF001


def remember_source(code: CodeType, source: str) -> None:
    """Let tracebacks show the lines of ``-c`` code, as ``python`` itself does from 3.13 on."""
    if sys.version_info >= (3, 13):
        import linecache

        if hasattr(linecache, "_interactive_cache"):
            linecache._register_code(code, source, "<string>")  # type: ignore[attr-defined]  # noqa: SLF001
        else:  # 3.13.0 finds it by its name
            lines = [line + "\n" for line in source.splitlines()]
            linecache.cache["<string>"] = (len(source), None, lines, "<string>")


def private_names() -> dict[str, bool]:
    """Return each private name with whether this interpreter has it; modules that are not loaded are loaded."""
    import asyncio.runners
    import concurrent.futures.thread as futures_thread
    import threading

    with futures_thread.ThreadPoolExecutor(1) as pool:
        return {
            "threading._register_atexit": hasattr(threading, "_register_atexit"),
            "threading._shutdown_locks or _thread_shutdown": hasattr(threading, "_shutdown_locks")
            or hasattr(threading, "_thread_shutdown"),
            "concurrent.futures.thread._threads_queues": hasattr(futures_thread, "_threads_queues"),
            "ThreadPoolExecutor._work_queue": hasattr(pool, "_work_queue"),
            "ThreadPoolExecutor._threads": hasattr(pool, "_threads"),
            "concurrent.futures.thread._worker": hasattr(futures_thread, "_worker"),
            "asyncio.runners._cancel_all_tasks": hasattr(asyncio.runners, "_cancel_all_tasks"),
            "asyncio.Task._fut_waiter": hasattr(asyncio.Task, "_fut_waiter"),
        }
