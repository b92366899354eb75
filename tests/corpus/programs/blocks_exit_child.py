"""A child that is no daemon runs on when the main thread has ended: Python waits for it.

Like: https://github.com/rwth-i6/returnn/issues/1497
"""

import multiprocessing
import time


def work():
    time.sleep(0.5)
    print("child ends", flush=True)


if __name__ == "__main__":
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()  # leak: blocks_exit process
    print("main ends", flush=True)
