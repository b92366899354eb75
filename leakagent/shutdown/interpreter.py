"""Every private name of CPython and its standard library that the project uses, with what was measured about it.

The problem.  What the agent promises at the end of a program can't be done with public names alone: `atexit` runs after
the executors were joined, a stuck worker keeps the interpreter in that join for ever, and whether a task waits for something
is known to the task only.

What we do.  Each private name stands here once, behind a function that says what happens where the name is missing: the
function answers None or False, and the caller does without.  Where a part can't do without, it is not put in place: when it is about to
patch a module, `missing_of` looks for what it needs there, and one line says what this Python does not have.  `private_names` tells
`leakagent doctor` about all of them.

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

import _imp
import _operator
import _signal  # type: ignore[import-not-found]
import _thread
import _weakref
import os
import sys
import time

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


def unfinished_results(pool: object) -> int:
    """Return how many results of a pool of `multiprocessing` have not come yet; 0 for any other pool."""
    return len(getattr(pool, "_cache", ()))


def pool_threads(pool: Executor | None) -> list[Thread]:
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


def task_registry() -> Any:  # noqa: ANN401 - a WeakSet
    """Return the set that every task puts itself into by its method ``add``, or None: 3.14 and newer have a list in C.

    It was ``asyncio.tasks._all_tasks`` up to 3.11.  3.14 keeps the name for tasks that are not asyncio's own.  A program that imports
    ``_asyncio`` first has that import `asyncio`, in the middle of its own start: 3.12.1 and 3.13.0 crash if a task is registered by then.
    """
    tasks = sys.modules.get("asyncio.tasks")
    if sys.version_info >= (3, 14) or not has_gil() or is_being_imported(sys.modules.get("_asyncio")):
        return None
    return getattr(tasks, "_scheduled_tasks", getattr(tasks, "_all_tasks", None))


def register_task(task: object) -> None:
    """Put something into asyncio's registry in the way in which tasks do it."""
    sys.modules["asyncio.tasks"]._register_task(task)  # noqa: SLF001


#: Names and variables in the code of functions of asyncio that create tasks, with what such code does: ``asyncio.create_task``,
#: ``TaskGroup.create_task``, ``ensure_future`` and ``BaseEventLoop.create_task``.
_CREATE_TASK = {
    ("events get_running_loop create_task _set_task_name", "coro name loop task"): "name, set later",
    ("events get_running_loop create_task _set_task_name", "coro name context loop task"): "context, name set later",
    ("events get_running_loop create_task", "coro name context loop task"): "context",
    ("events get_running_loop create_task", "coro kwargs loop"): "any",
    (
        "_entered RuntimeError _exiting _tasks _aborting _loop create_task tasks _set_task_name add_done_callback _on_task_done add",
        "self coro name context task",
    ): "group: context, name set later",
    (
        (
            "_entered RuntimeError _exiting _tasks _aborting _loop create_task tasks _set_task_name done _on_task_done add "
            "add_done_callback"
        ),
        "self coro name context task",
    ): "group: context, name set later, eager",
    (
        "_entered close RuntimeError _exiting _tasks _aborting _loop create_task done _on_task_done add add_done_callback",
        "self coro name context task",
    ): "group: context",
    (
        (
            "_entered close RuntimeError _exiting _tasks _aborting _loop create_task futures future_add_to_awaited_by _parent_task add "
            "add_done_callback _on_task_done"
        ),
        "self coro kwargs task",
    ): "group: any",
    (
        (
            "_entered close RuntimeError _exiting _tasks _aborting _loop create_task futures future_add_to_awaited_by _parent_task add "
            "add_done_callback _on_task_done done cancel"
        ),
        "self coro kwargs task",
    ): "group: any, cancelled when aborting",
    (
        (
            "futures isfuture _get_loop ValueError coroutines iscoroutine inspect isawaitable _wrap_awaitable TypeError events "
            "_get_event_loop create_task RuntimeError close"
        ),
        "coro_or_future loop called_wrap_awaitable",
    ): "ensure",
    (
        (
            "futures isfuture _get_loop ValueError coroutines iscoroutine inspect isawaitable TypeError events get_event_loop create_task "
            "RuntimeError close"
        ),
        "coro_or_future loop should_close _wrap_awaitable",
    ): "ensure",
    ("_check_closed _task_factory tasks Task _source_traceback _set_task_name", "self coro name task"): "method: name",
    ("_check_closed _task_factory tasks Task _source_traceback _set_task_name", "self coro name context task"): "method: context",
    (
        "_check_closed _task_factory tasks Task _source_traceback set_name",
        "self coro name context task",
    ): "method: context, named by itself",
    ("_check_closed _task_factory tasks Task _source_traceback", "self coro kwargs task"): "method: any",
}


def creating_functions() -> list[str]:
    """Return the names of functions of `asyncio.tasks` that create tasks: up to 3.11 ``ensure_future`` has a private one inside."""
    private = "_ensure_future"
    return ["create_task", private if hasattr(sys.modules["asyncio.tasks"], private) else "ensure_future"]


def loop_turn() -> CodeType | None:
    """Return the code in which an event loop of asyncio calls what is ready: below it nobody has made anything."""
    handle = getattr(sys.modules.get("asyncio.events"), "Handle", None)
    return getattr(getattr(handle, "_run", None), "__code__", None)


def create_task_form(function: Any) -> str:  # noqa: ANN401 - a function
    """Say which of the known forms a function that creates tasks has; empty if it is none of them, or if there is no global lock.

    Read in 3.10.13, 3.11.7, 3.12.1, 3.13.0, 3.14.8 and 3.15.0; a patch release may change them.
    """
    code = getattr(function, "__code__", None)
    if code is None or not has_gil():
        return ""
    form = _CREATE_TASK.get((" ".join(code.co_names), " ".join(code.co_varnames)), "")
    return f"{form}, unregistered" if form == "ensure" and task_registry() is None else form


def coroutine_type() -> type:
    """Return the type of coroutines of ``async def``, as `types.CoroutineType`."""

    async def nothing() -> None:
        pass

    coroutine = nothing()
    coroutine.close()
    return type(coroutine)


def has_gil() -> bool:
    """Say whether only one thread runs Python code at a time: not in a free-threaded build, unless it was told to (`sys._is_gil_enabled`)."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def is_main_interpreter() -> bool:
    """Say whether this is the interpreter that the process has started with; up to 3.12 it is the one that may set signal handlers."""
    ask = getattr(_thread, "_is_main_interpreter", None)
    if ask is not None:
        return bool(ask())
    handler = _signal.getsignal(_signal.SIGTERM)
    if handler is None or not in_main_thread():
        return True
    try:
        _signal.signal(_signal.SIGTERM, handler)
    except ValueError:
        return False
    return True


def has_green_threads() -> bool:
    """Say whether gevent or eventlet have put functions of their own into `_thread`; debuggers do so as well, and their threads are real."""
    start: Any = _thread.start_new_thread
    return str(getattr(start, "__module__", "")).partition(".")[0] in {"gevent", "eventlet"}


def waiter_of(task: object) -> object:
    """Return the future that a task waits for, or None."""
    return getattr(task, "_fut_waiter", None)


def callbacks_of(future: object) -> list[Any]:
    """Return what is called when a future or task is done."""
    return [entry[0] if type(entry) is tuple else entry for entry in getattr(future, "_callbacks", None) or ()]


def thread_of(loop: object) -> int:
    """Return the identity of the thread that an event loop runs in; 0 if it does not run, or does not tell (uvloop)."""
    return getattr(loop, "_thread_id", None) or 0


def timers_of(loop: object) -> list[Any] | None:
    """Return the timers of an event loop that are not cancelled; None if it does not tell (uvloop)."""
    scheduled = getattr(loop, "_scheduled", None)
    return None if scheduled is None else [handle for handle in list(scheduled) if not handle.cancelled()]


def others_wait_for(loop: object) -> bool:
    """Say whether an event loop has something else to do than what it does now: a timer, a callback, a socket."""
    ready, selector = getattr(loop, "_ready", ()), getattr(loop, "_selector", None)
    watched = selector.get_map() if selector is not None else None
    # One of each is ours, or the loop's own: the question that it is asked, and the pipe that wakes it.
    return len(ready) > 1 or bool(timers_of(loop)) or (watched is not None and len(watched) > 1)


def is_server_side(transport: object) -> bool:
    """Say whether a transport of asyncio belongs to a connection that was accepted."""
    return getattr(transport, "_server", None) is not None


#: Follows a weak reference: ``operator.call`` of 3.11 and newer, or the slower method of the type.
call: Any = getattr(_operator, "call", _weakref.ref.__call__)

#: `exception_of` for tasks of asyncio's own, faster; None for one that has not failed.
task_exception = _operator.attrgetter("_exception")

#: Whether a fork warns in a process of more than one thread, as the kernel counts them.
FORK_COUNTS_THREADS = sys.version_info >= (3, 12)

#: The attribute that says whether one of asyncio's own tasks is done, and what it is before.
STATE, PENDING = "_state", "PENDING"

#: The attribute that `waiter_of` reads.
WAITER = "_fut_waiter"

#: `waiter_of` for tasks of asyncio's own, faster.
waits = _operator.attrgetter(WAITER)


def task_done() -> Any:  # noqa: ANN401 - a method
    """Return the method ``done`` of asyncio's own tasks, whose call costs less than one by name."""
    return sys.modules["asyncio.tasks"].Task.done


def task_coroutine() -> Any:  # noqa: ANN401 - a method
    """Return the method ``get_coro`` of asyncio's own tasks."""
    return sys.modules["asyncio.tasks"].Task.get_coro


def complains(task: object) -> bool:
    """Say whether a task has failed and nobody has looked at its exception yet (asking changes nothing)."""
    return bool(getattr(task, "_log_traceback", False))


#: `complains` for tasks of asyncio's own, faster.
task_complains = _operator.attrgetter("_log_traceback")


def has_failed(task: object) -> bool:
    """Say whether a finished task has failed; False for one of a loop that keeps its exception elsewhere."""
    return getattr(task, "_exception", None) is not None


def creation_stack(task: object) -> list[Any] | None:
    """Return the stack that asyncio's debug mode has noted of a task, to be changed in place; None without one."""
    found: list[Any] | None = getattr(task, "_source_traceback", None)
    return found


def exception_of(task: Any) -> BaseException:  # noqa: ANN401 - a task
    """Return the exception of a failed task without marking it as looked at."""
    error: BaseException = task._exception  # noqa: SLF001
    return error


def is_ending(task: Any) -> bool:  # noqa: ANN401 - a task
    """Say whether a pending task was told to end and has not had a turn since."""
    waiter = waiter_of(task)
    return bool(task._must_cancel) or (waiter is not None and waiter.cancelled())  # type: ignore[attr-defined]  # noqa: SLF001


def coroutine_of(task: Any) -> object:  # noqa: ANN401 - a task
    """Return the coroutine of a task, or None.

    3.12.1 crashes in ``get_coro`` of an eager task that was done at once, which has none any more: the collector is asked there.
    """
    if sys.version_info[:2] != (3, 12) or not task.done():
        return task.get_coro()
    import gc  # not for every program

    return next((found for found in gc.get_referents(task) if hasattr(found, "cr_code") or hasattr(found, "gi_code")), None)


def context_of(task: Any) -> Any:  # noqa: ANN401 - a task, a context
    """Return the context that a task runs in.

    Up to 3.11 only the collector can tell: what a task refers to begins with its context (``TaskObj_traverse`` in
    Modules/_asynciomodule.c), behind which comes that of its first callback.
    """
    if hasattr(task, "get_context"):
        return task.get_context()
    import gc  # not for every program

    context = sys.modules["contextvars"].Context
    return next((found for found in gc.get_referents(task) if type(found) is context), None)


def running_loop() -> Any:  # noqa: ANN401 - an event loop
    """Return the event loop that runs in this thread, or None."""
    events: Any = sys.modules.get("asyncio.events")
    return events._get_running_loop() if hasattr(events, "_get_running_loop") else None  # noqa: SLF001


def tasks_of_all_loops() -> list[Any] | None:
    """Return the tasks of all loops from the set that asyncio keeps up to 3.13; None from 3.14 on, which has a list per thread."""
    tasks: Any = sys.modules.get("asyncio.tasks")
    if tasks is None:
        return []
    if sys.version_info >= (3, 14):
        return None
    known = tasks._all_tasks if hasattr(tasks, "_all_tasks") else tasks._scheduled_tasks  # noqa: SLF001
    return [task for task in list(known) if not task.done()]


def tasks_of(loop: Any) -> list[Any]:  # noqa: ANN401 - an event loop, tasks
    """Return the pending tasks of a loop."""
    asyncio: Any = sys.modules.get("asyncio.tasks")
    return [] if asyncio is None else list(asyncio.all_tasks(loop))


def references_of_asyncio() -> int:
    """Return how many weak references to each of its tasks asyncio has itself."""
    return 0 if sys.version_info >= (3, 14) else 1


def is_default_executor(loop: object, pool: object) -> bool:
    """Say whether a loop has made an executor for itself; uvloop has no name for it, but the collector knows."""
    import gc  # not for every program

    return getattr(loop, "_default_executor", None) is pool or any(found is pool for found in gc.get_referents(loop))


def thread_target(thread: Thread) -> object:
    """Return what a thread was made to call, or None."""
    return getattr(thread, "_target", None)


def started_threads() -> list[Thread]:
    """Return the threads that the program has started: not the main one, nor what stands for threads of others."""
    threading: Any = sys.modules.get("threading")
    if threading is None:
        return []
    dummy = getattr(threading, "_DummyThread", ())
    main = threading.main_thread()
    return [thread for thread in threading.enumerate() if thread is not main and not isinstance(thread, dummy)]


def remove_stand_in() -> None:
    """Take the calling thread off the list of `threading`, where it stands since somebody has asked for its name.

    `threading.current_thread` makes a ``_DummyThread`` for a thread of others that asks, and lists it until the thread has ended (before
    3.13: for good).
    """
    threading: Any = sys.modules.get("threading")
    listed, lock = getattr(threading, "_active", None), getattr(threading, "_active_limbo_lock", None)
    if listed is not None and lock is not None and _thread.get_ident() in listed:
        with lock:
            if isinstance(listed.get(_thread.get_ident()), getattr(threading, "_DummyThread", ())):
                del listed[_thread.get_ident()]


def code_of_thread(thread: Thread) -> CodeType | None:
    """Return the code that a running thread was made to run, or None: its target, or the ``run`` of its class."""
    called = getattr(thread, "_target", None)
    if called is None:
        called = type(thread).run
    called = getattr(called, "func", called)  # functools.partial
    found: CodeType | None = getattr(getattr(called, "__func__", called), "__code__", None)
    return found


def children() -> list[Any]:
    """Return the children of `multiprocessing` that this process has started and not joined."""
    return list(getattr(sys.modules.get("multiprocessing.process"), "_children", ()))


def is_open_loop(loop: Any) -> bool:  # noqa: ANN401 - an event loop
    """Say whether an event loop was not closed; one whose constructor has not run can't tell."""
    try:
        return not loop.is_closed()
    except Exception:  # noqa: BLE001 - a loop of somebody else's
        return False


def is_thread_pool(pool: object) -> bool:
    """Say whether the workers of a pool are threads."""
    return hasattr(pool, "_work_queue") or type(pool).__name__ == "ThreadPool"


def is_open_pool(pool: object) -> bool:
    """Say whether a pool was neither shut down nor closed: ``_shutdown``, ``_shutdown_thread``, or ``_state`` of `multiprocessing`."""
    values = vars(pool)
    return not (values.get("_shutdown") or values.get("_shutdown_thread") or values.get("_state", "RUN") != "RUN")


def workers_of_pools(pools: list[Any], managers: list[Any]) -> dict[int, str]:
    """Return the pid of each process that belongs to a pool or manager of the standard library, with the module of that."""
    found: dict[int, str] = {}
    for pool in pools:
        module = "multiprocessing.pool" if hasattr(pool, "_pool") else "concurrent.futures.process"
        processes = getattr(pool, "_pool", None) or pool_processes(pool)
        found.update({one.pid: module for one in processes if hasattr(one, "pid")})
    for manager in managers:
        process = getattr(manager, "_process", None)
        if process is not None:
            found[process.pid] = "multiprocessing.managers"
    return found


def silence_destroyed(task: object) -> None:
    """Keep a task that refuses to end from logging that it was destroyed: it is in the report."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001


def is_transport_of_popen(transport: object) -> bool:
    """Say whether a transport of asyncio has started its process by `subprocess`."""
    return hasattr(transport, "_proc")


def frames() -> dict[int, FrameType]:
    """Return the frame that each thread runs now."""
    return sys._current_frames()  # noqa: SLF001


def thread_frame(thread: Thread) -> FrameType | None:
    """Return the frame that a thread runs now."""
    return None if thread.ident is None else sys._current_frames().get(thread.ident)  # noqa: SLF001


def raise_in(thread: Thread, error: type[BaseException]) -> bool:
    """Raise an exception in another thread at its next instruction (``PyThreadState_SetAsyncExc``); returns whether it will be."""
    import ctypes

    if thread.ident is None or not hasattr(ctypes, "pythonapi"):
        return False
    return bool(ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error)))


def never_free(found: object) -> None:
    """Keep an object until the process is gone, the end of the interpreter included (``Py_IncRef``)."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(found))


#: ``sys._getframe``: the frame that many calls above the caller (documented, "for internal and specialized purposes only").
frame_of = sys._getframe  # noqa: SLF001


#: The number by which Python knows the calling thread, the key of `frames`.
thread_number = _thread.get_ident


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
        self.ends_by = status_by(-status) if status < 0 else None
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
        if self.ends_by is not None:
            self.exit(self.ends_by)
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


def imports(ident: int) -> bool:
    """Say whether a thread, by its identity, is in the middle of an import."""
    frame = frames().get(ident)
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False


def keep_import_lock(seconds: float) -> bool:
    """Take the import system's lock for good if nobody has it within that time, and say so; this thread may go on importing.

    Threads have it while they look for a module, and for some instructions at the begin and the end of an import.
    """
    end = time.monotonic() + seconds
    while _imp.lock_held():
        if time.monotonic() >= end:
            return False
        time.sleep(0.001)
    _imp.acquire_lock()
    return True


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


def is_interrupted(native_id: int) -> bool:
    """Say whether the thread with this native id is on its way out because of Ctrl+C: in a ``finally`` or ``__exit__`` of somebody."""
    thread = next((one for one in sys.modules["threading"].enumerate() if one.native_id == native_id), None)
    if thread is None or not hasattr(sys, "_current_exceptions"):
        return False
    handled = sys._current_exceptions().get(thread.ident)  # noqa: SLF001
    # Up to 3.11 it is what `sys.exc_info` returns.
    return isinstance(handled[1] if isinstance(handled, tuple) else handled, KeyboardInterrupt)


#: What a terminal sends to all processes in it.
CTRL_C = int(_signal.SIGINT)

#: Functions of the standard library that run around each `os.fork` and take or free a lock (`logging` up to 3.12).
FORK_HOOKS = (("logging", "_acquireLock"), ("logging", "_releaseLock"))


def ending_signals() -> list[int]:
    """Return the signals by which a program is asked to end, without that of Ctrl+C."""
    # SIGBREAK is Windows' (Ctrl+Break, ``CTRL_BREAK_EVENT``): what a supervisor can send there to a group of processes.
    return [number for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if (number := getattr(_signal, name, None)) is not None]


_IS_WINDOWS = os.name == "nt"


def status_by(number: int) -> int | None:
    """Return the exit status of a signal's default action on Windows, None elsewhere: there the process dies by the signal.

    Sources: documentation of the C runtime's ``signal`` and ``raise`` (3), STATUS_CONTROL_C_EXIT of ntstatus.h; `os.kill` would end the
    process with the signal's number as its status.  Never run there.
    """
    if not _IS_WINDOWS:
        return None
    return 0xC000013A - (1 << 32) if number in {CTRL_C, getattr(_signal, "SIGBREAK", CTRL_C)} else 3


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


def take_wakeup(descriptor: int) -> bool:
    """Have Python write the number of each signal to a descriptor; returns False if it writes to another one already.

    Raises:
        ValueError: This is not the main thread.

    """
    previous = _signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
    if previous == -1:
        return True
    _signal.set_wakeup_fd(previous)
    return False


def give_wakeup_back(descriptor: int) -> bool:
    """Have Python write to no descriptor, if it does to this one; returns False if that can't be done (in another thread)."""
    try:
        previous = _signal.set_wakeup_fd(-1)
        if previous not in {-1, descriptor}:
            _signal.set_wakeup_fd(previous)
    except (ValueError, OSError):
        return False
    return True


def restore_default_action(number: int) -> None:
    """Restore a signal's default action, from whichever thread."""
    try:
        _signal.signal(number, _signal.SIG_DFL)
    except ValueError:  # only the main thread may do it in Python
        if _IS_WINDOWS:
            return  # nobody needs it there: `status_by`
        import ctypes

        function = ctypes.CDLL(None).signal
        function.argtypes, function.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
        function(number, None)


#: How the names of loky's modules end; joblib brings a copy of it (``joblib.externals.loky``).
LOKY_CHILD, _LOKY_TRACKER = "loky.backend.popen_loky_posix", "loky.backend.resource_tracker"

#: Class of the executor that loky keeps itself, and the end of the name of the module that starts workers.
LOKY_KEPT, LOKY_EXECUTOR = "_ReusablePoolExecutor", "loky.process_executor"


def is_started_by_multiprocessing() -> bool:
    """Say whether `multiprocessing` or loky has started this interpreter, for a child or for the fork server."""
    words = sys.orig_argv
    return any(
        word == "--multiprocessing-fork"
        or "multiprocessing.forkserver import" in word[:60]
        or (before == "-m" and word.endswith(LOKY_CHILD))
        for before, word in zip(["", *words], words, strict=False)
    )


def pool_waits_for(pool: Executor) -> list[Thread]:
    """Return the threads that ``shutdown(wait=True)`` of an executor joins."""
    manager = getattr(pool, "_executor_manager_thread", None)
    return [manager] if manager is not None else pool_threads(pool)


def has_pending_jobs(pool: object) -> bool:
    """Say whether jobs of a `concurrent.futures.ProcessPoolExecutor` have not ended."""
    return bool(getattr(pool, "_pending_work_items", None))


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


def block_all() -> None:
    """Block all signals in the calling thread, where threads can do that."""
    if hasattr(_signal, "pthread_sigmask"):
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())


def take_pending(number: int) -> None:
    """Take a signal in this thread that waits for another one to run, as it does if it was sent while it still had a handler.

    The kernel has told one thread, which may not run for long, and drops the same signal until then; a thread whose mask changes looks itself.
    """
    if hasattr(_signal, "pthread_sigmask"):
        _signal.pthread_sigmask(_signal.SIG_BLOCK, [number])
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [number])


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


#: The method that runs in a child of `multiprocessing`, whatever started it; loky's children are started so as well.
BOOTSTRAP = "_bootstrap"


def starter_of(process: Any) -> int:  # noqa: ANN401 - a multiprocessing.Process
    """Return the pid of the process that started a child of `multiprocessing`: with a fork server it is not the parent."""
    return int(getattr(process, "_parent_pid", 0) or 0)


def multiprocessing_helpers() -> dict[str, int]:
    """Return the pids of the helper processes that `multiprocessing` has started for this one, by kind."""
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    found = {"forkserver": getattr(server, "_forkserver_pid", None), "tracker": getattr(tracker, "_pid", None)}
    for number, copy in enumerate(("", "joblib.externals."), 1):
        loky = getattr(sys.modules.get(copy + _LOKY_TRACKER), "_resource_tracker", None)
        found[f"loky tracker {number}"] = getattr(loky, "_pid", None)
    return {kind: pid for kind, pid in found.items() if isinstance(pid, int)}


def before_multiprocessing_ends(callback: Callable[[], object]) -> None:
    """Call ``callback`` when a child of `multiprocessing` has done its work, before it joins children of its own."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        # Those with a priority of 0 or more run first (``multiprocessing.util._exit_function``).
        util.Finalize(None, callback, exitpriority=1_000_000)


def take_spare_signal(handler: Callable[[int, FrameType | None], object]) -> int:
    """Set the handler of a real-time signal that nobody uses, and return its number; 0 where there is none or not in this thread."""
    for number in range(getattr(_signal, "SIGRTMAX", 0), getattr(_signal, "SIGRTMIN", 0), -1):
        if has_default_action(number):
            return number if set_handler(number, handler) else 0
    return 0


def interrupt(thread: int, number: int) -> None:
    """Send a signal to one thread of this process: it comes back from the system call that it waits in."""
    _signal.pthread_kill(thread, number)


_soon: list[tuple[Callable[[], object], FrameType | None, int]] = []
_pending: list[Any] = []


def _run_soon(_argument: object) -> int:
    here = sys._getframe().f_back  # noqa: SLF001
    while _soon:
        callback, frame, lasti = _soon[0]
        above = None if here is frame or here is None else here.f_back
        while above is not None and above is not frame:
            above = above.f_back
        if above is not None and above.f_lasti == lasti:
            # Its instruction still runs, and this is a hook that it has called.
            _add_pending()
            return 0
        del _soon[0]
        callback()
    return 0


def _add_pending() -> bool:
    import ctypes

    return bool(ctypes.pythonapi.Py_AddPendingCall(_pending[0], None) == 0)


def call_after(callback: Callable[[], object], frame: FrameType | None, lasti: int) -> bool:
    """Call ``callback`` in the main thread when an instruction is over, soon after it (``Py_AddPendingCall``).

    Args:
        callback: What to call.
        frame: Whose instruction it is.
        lasti: Which one.

    Returns:
        False where that can't be done.

    """
    try:
        import ctypes

        if not _pending:
            # Kept for good: the interpreter may still have to call it.
            _pending.append(ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(_run_soon))
        _soon.append((callback, frame, lasti))
        return _add_pending()
    except (ImportError, AttributeError, OSError):
        return False


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


class UnixSocket:
    """A socket of `_socket`, the C module: importing `socket` would put modules into a program that has none of them.

    Attributes:
        uid: User of the process at the other end (``SO_PEERCRED``, unix(7)); -1 for a socket that listens.

    """

    def __init__(self, raw: Any, uid: int = -1) -> None:  # noqa: ANN401 - a socket
        """Take a socket over."""
        self._raw = raw
        self.uid = uid

    @classmethod
    def listen(cls, folder: str, name: str, clients: int) -> UnixSocket:
        """Bind a socket that only its user can connect to.

        Raises:
            OSError: It can't be bound.

        """
        import _socket

        raw = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        directory = -1
        try:
            directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            os.fchmod(raw.fileno(), 0o600)
            # A path of its own may be longer than the 108 bytes of an address.
            raw.bind(f"/proc/self/fd/{directory}/.{name}")
            raw.listen(clients)
            # Who finds the name can connect: between the two calls a client would be refused.
            os.rename(f".{name}", name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            raw.close()
            raise
        finally:
            if directory >= 0:
                os.close(directory)
        return cls(raw)

    def accept(self) -> UnixSocket:
        """Wait for a client.

        Raises:
            OSError: The socket was shut down, or no descriptor is left.

        """
        import _socket

        descriptor, _ = self._raw._accept()  # noqa: SLF001 - what `socket.socket.accept` calls
        client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, descriptor)
        found = client.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        return UnixSocket(client, int.from_bytes(found[4:8], sys.byteorder))

    def receive_line(self, longest: int, end: float) -> bytes:
        """Return what comes before the first line end, at most ``longest`` bytes, until ``end`` on the clock of `time.monotonic`."""
        found = b""
        while b"\n" not in found and len(found) < longest:
            self._until(end)
            part = self._raw.recv(longest - len(found))
            if not part:
                break
            found += part
        return found.partition(b"\n")[0]

    def send(self, data: bytes, end: float) -> None:
        """Send all of it until ``end``."""
        self._until(end)
        # The timeout is for all of it (documentation of `socket.sendall`).
        self._raw.sendall(data)

    def _until(self, end: float) -> None:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._raw.settimeout(left)

    def shut_down(self) -> None:
        """Wake whoever waits on it; another thread may have closed it by now."""
        try:
            self._raw.shutdown(2)
        except OSError:
            return

    def close(self) -> None:
        """Close it."""
        self._raw.close()


def temporary_file() -> Any:  # noqa: ANN401 - a class
    """Return the class of what ``tempfile.NamedTemporaryFile`` returns (documented as "a file-like object"); the module is loaded."""
    return sys.modules["tempfile"]._TemporaryFileWrapper  # noqa: SLF001


#: Module that a part patches -> names without which the part would have to guess; of some, one of several that versions have.
NEEDED = {
    "threading": ["_active", "_active_limbo_lock", "_thread_shutdown|_shutdown_locks"],
    "concurrent.futures.thread": ["_threads_queues", "_worker"],
    "asyncio.tasks": ["Task._fut_waiter", "Task._log_traceback", "Task._state", "Task._exception", "Task._must_cancel"],
    "tempfile": ["_TemporaryFileWrapper"],
}


def missing_of(module: Any) -> list[str]:  # noqa: ANN401 - a module
    """Return what a module of this interpreter does not have of the names that the part which is about to patch it needs."""
    name = module.__name__
    needed = NEEDED.get(name, ())
    return [f"{name}.{' or '.join(one.split('|'))}" for one in needed if not any(_has(module, word) for word in one.split("|"))]


def _has(module: Any, path: str) -> bool:  # noqa: ANN401 - a module
    owner, _, name = path.rpartition(".")
    found = getattr(module, owner, None) if owner else module
    # A class that is written in Python (`nest_asyncio` puts asyncio's own in place of the fast one) sets it when it makes an object.
    code = getattr(getattr(found, "__init__", None), "__code__", None) if owner else None
    return hasattr(found, name) or (code is not None and name in code.co_names)


def private_names() -> dict[str, bool]:
    """Return each private name with whether this interpreter has it; modules that are not loaded are loaded."""
    import asyncio.runners
    import concurrent.futures.thread as futures_thread
    import tempfile  # noqa: F401 - looked at by its name
    import threading

    missing = {one for name in NEEDED for one in missing_of(sys.modules[name])}
    needed = [f"{name}.{' or '.join(one.split('|'))}" for name, names in NEEDED.items() for one in names]
    with futures_thread.ThreadPoolExecutor(1) as pool:
        return {
            **{one: one not in missing for one in needed},
            "threading._register_atexit": hasattr(threading, "_register_atexit"),
            "ThreadPoolExecutor._work_queue": hasattr(pool, "_work_queue"),
            "ThreadPoolExecutor._threads": hasattr(pool, "_threads"),
            "sys._current_exceptions": hasattr(sys, "_current_exceptions"),
            "asyncio.Handle._run": hasattr(asyncio.Handle, "_run"),
            "asyncio.runners._cancel_all_tasks": hasattr(asyncio.runners, "_cancel_all_tasks"),
        }
