"""A server's worker process is left when the server is told to end.

Like: https://github.com/python/cpython/issues/80180
Options: --grace 0.5
Signal: SIGTERM after ready
"""

import multiprocessing
import time


def work():
    while True:
        time.sleep(0.1)


if __name__ == "__main__":
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()  # leak: blocks_exit process
    print("ready", flush=True)
    while True:
        time.sleep(0.1)
