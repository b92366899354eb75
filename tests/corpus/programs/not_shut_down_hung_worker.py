"""A job in a worker process waits for ever, and Python waits for the pool when the main thread has ended, until SIGTERM comes.

Like: https://github.com/wool-labs/wool/issues/294
Options: --grace 0.5
Signal: SIGTERM after main ends
"""

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor


def job(started):
    started.set()
    threading.Event().wait()


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        started = manager.Event()
        pool = ProcessPoolExecutor(1, mp_context=context)  # leak: not_shut_down process_pool
        pool.submit(job, started)
        started.wait()
    print("main ends")
