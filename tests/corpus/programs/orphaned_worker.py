"""A worker's own child runs on when the worker is killed.

Like: https://github.com/mloda-ai/mloda/issues/1292
"""

import multiprocessing
import os
import signal
import time


def loop(ready):
    ready.set()
    while True:
        time.sleep(0.05)


def worker(ready):
    multiprocessing.Process(target=loop, args=(ready,)).start()  # leak: orphaned process
    ready.wait()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    ready = multiprocessing.Event()
    # At its end when nobody has the other end any more: the worker is gone, and so is what it has left.
    end, held = os.pipe()
    process = multiprocessing.Process(target=worker, args=(ready,))
    process.start()
    process.join()
    os.close(held)
    print("worker", process.exitcode, os.read(end, 1))
