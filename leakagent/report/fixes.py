"""What to write at the site: the fixed fix text for every reason and kind."""

from __future__ import annotations

from leakagent.core.findings import (
    BLOCKS_EXIT,
    GROWING,
    LOST_TASK,
    NOT_CLOSED,
    NOT_SHUT_DOWN,
    ORPHANED,
    OUTLIVED_SCOPE,
    REFUSED_CLEANUP,
    STALLED,
    STRANDED,
    UNRETRIEVED_EXCEPTION,
)
from leakagent.core.records import (
    CHROMADB_CLIENT,
    EVENT_LOOP,
    LANCEDB_CONNECTION,
    LANCEDB_LOOP,
    LANCEDB_TABLE,
    PROCESS,
    PROCESS_POOL,
    SHARED_MEMORY,
    SUBPROCESS,
    TASK,
    THREAD,
    THREAD_POOL,
)

_JOIN = "p.join(), or `with Pool()`"
_STOP_AND_JOIN = "tell it to stop and join it: stop.set(); thread.join()"
_STOPPABLE = "let long jobs look at a stop event, and give blocking calls a timeout"
_CANCEL_QUEUE = "pool.shutdown(cancel_futures=True) drops what is queued; running jobs need a stop event or calls with a timeout"
_ONE_POOL = "create one pool when the program starts and share it"
_ONE_CLIENT = "create one client when the program starts and share it"
_ONE_CONNECTION = "open one connection when the program starts and share it"
_END_ON_TERM = "let the child end on SIGTERM: no handler that ignores it, and no wait without a timeout"

#: Fix where the resource has to be ended by somebody.
_BY_KIND = {
    TASK: "await it, or cancel it and wait: task.cancel(); await asyncio.gather(task, return_exceptions=True)",
    EVENT_LOOP: "asyncio.run(main()), or loop.close() in a finally block",
    THREAD_POOL: "`with ThreadPoolExecutor(...) as pool:`, or pool.shutdown()",
    PROCESS_POOL: "`with ProcessPoolExecutor(...) as pool:`, or pool.shutdown()",
    THREAD: f"{_STOP_AND_JOIN}  (or daemon=True, if it may be cut off half-way)",
    PROCESS: _JOIN,
    SUBPROCESS: "`with subprocess.Popen(...) as p:`, or p.terminate(); p.wait() in a finally block",
    SHARED_MEMORY: "block.close(); block.unlink() in a finally block, or `with SharedMemoryManager() as manager:`",
    CHROMADB_CLIENT: "client.close(), or `with chromadb.PersistentClient(...) as client:`  (chromadb 1.5.2 or newer; "
    "older: keep one client for the whole program)",
    LANCEDB_CONNECTION: "share one connection; async: db.close(), or `with await lancedb.connect_async(uri) as db:`; "
    "the sync one has no close(): let go of it (del db)",
    LANCEDB_TABLE: "open the table once and share it; async: table.close(); the sync one has no close(): "
    "let go of it (del table)",
    LANCEDB_LOOP: "wait for the lancedb calls in flight before the program ends; the loop itself belongs to lancedb",
}

#: Fix where the kind says nothing: plug-in kinds, and reasons that need more than an end.
_BY_REASON = {
    LOST_TASK: "keep a reference to it until it is done",
    STRANDED: "complete or cancel what it waits for on every path (try/finally), or wait with a timeout",
    STALLED: "give the call that it waits in a timeout",
    UNRETRIEVED_EXCEPTION: "look at the result: await it, or call result() or exception()",
    OUTLIVED_SCOPE: "end it inside the scope that made it: `with`, or close it in a finally block",
    NOT_SHUT_DOWN: "`with ... as pool:`, or shutdown() in a finally block",
    NOT_CLOSED: "`with ... as client:`, or close() in a finally block",
    BLOCKS_EXIT: "tell it to stop and wait for it before the main thread ends",
    REFUSED_CLEANUP: "let it end when it is asked to: look at a stop event, and give blocking calls a timeout",
    ORPHANED: "end it before its starter ends: terminate it and wait for it in a finally block",
    GROWING: "end what is finished, or create one and share it",
}

_BY_BOTH = {
    (LOST_TASK, TASK): "keep the task: self._tasks.add(t); t.add_done_callback(self._tasks.discard)  (or a TaskGroup)",
    (STRANDED, TASK): "complete or cancel the future on every path (try/finally), or wait with a deadline: "
    "await asyncio.wait_for(..., timeout=30)",
    (STALLED, TASK): "give the call that it waits in a deadline: async with asyncio.timeout(30), or the client's own timeout; "
    "in a finally block as well",
    (STALLED, THREAD): "give its blocking calls a timeout: queue.get(timeout=...), socket.settimeout(...)",
    (STALLED, THREAD_POOL): "give the blocking calls in its jobs a timeout: socket.settimeout(30), requests.get(..., timeout=30)",
    (STALLED, PROCESS_POOL): "give its jobs a deadline: future.result(timeout=...), and timeouts inside the jobs",
    (STALLED, EVENT_LOOP): "keep blocking calls off the loop: await asyncio.to_thread(f)",
    (UNRETRIEVED_EXCEPTION, TASK): "await the task, or look when it is done: "
    "t.add_done_callback(lambda t: t.cancelled() or t.exception() and log.error(...))",
    (OUTLIVED_SCOPE, TASK): "end it inside the scope: task.cancel(); "
    "await asyncio.gather(task, return_exceptions=True)  (or a TaskGroup)",
    (BLOCKS_EXIT, THREAD_POOL): _CANCEL_QUEUE,
    (BLOCKS_EXIT, PROCESS_POOL): _CANCEL_QUEUE,
    (BLOCKS_EXIT, PROCESS): "tell it to stop, then p.join(timeout=...); daemon=True for a helper that may be stopped",
    (REFUSED_CLEANUP, TASK): "let the cancellation through: `except asyncio.CancelledError:` must end with `raise`",
    (REFUSED_CLEANUP, THREAD_POOL): _STOPPABLE,
    (REFUSED_CLEANUP, PROCESS_POOL): _STOPPABLE,
    (REFUSED_CLEANUP, PROCESS): _END_ON_TERM,
    (REFUSED_CLEANUP, SUBPROCESS): _END_ON_TERM,
    (REFUSED_CLEANUP, CHROMADB_CLIENT): "wait for the calls in flight, then client.close()",
    (REFUSED_CLEANUP, LANCEDB_LOOP): _BY_KIND[LANCEDB_LOOP],
    (NOT_CLOSED, SUBPROCESS): "p.wait() or p.poll() when it has ended, or subprocess.run(...) in place of Popen",
    (ORPHANED, PROCESS): _JOIN,
    (ORPHANED, SUBPROCESS): _BY_KIND[SUBPROCESS],
    (GROWING, TASK): "await or cancel tasks that are not needed any more, and limit how many run: asyncio.Semaphore(n)",
    (GROWING, EVENT_LOOP): "keep one loop, or close each one: asyncio.run(main())",
    (GROWING, THREAD): "use a ThreadPoolExecutor(max_workers=n) in place of one thread per job",
    (GROWING, THREAD_POOL): _ONE_POOL,
    (GROWING, PROCESS_POOL): _ONE_POOL,
    (GROWING, PROCESS): "use a ProcessPoolExecutor(max_workers=n) in place of one process per job, or p.join() each",
    (GROWING, SUBPROCESS): "p.wait() for each, and limit how many run at once",
    (GROWING, CHROMADB_CLIENT): _ONE_CLIENT,
    (GROWING, LANCEDB_CONNECTION): _ONE_CONNECTION,
    (GROWING, LANCEDB_TABLE): "open the table once and share it",
}

_ENDED_BY_SOMEBODY = frozenset({LOST_TASK, OUTLIVED_SCOPE, NOT_SHUT_DOWN, NOT_CLOSED, BLOCKS_EXIT, ORPHANED})


def fix_for(reason: str, kind: str, *, daemon: bool = False) -> str:
    """Return the fix for a reason and a kind; never empty, also for kinds and reasons of plug-ins.

    Args:
        reason: The reason.
        kind: The kind of what is to be fixed.
        daemon: Whether it is a daemon thread: nobody is told to make it one.

    """
    found = _BY_BOTH.get((reason, kind))
    if not found and reason in _ENDED_BY_SOMEBODY:
        found = _STOP_AND_JOIN if daemon and kind == THREAD else _BY_KIND.get(kind)
    return found or _BY_REASON.get(reason) or _BY_KIND.get(kind) or _BY_REASON[OUTLIVED_SCOPE]
