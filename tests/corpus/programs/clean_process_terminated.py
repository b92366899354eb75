"""A child process that is terminated and joined."""

import multiprocessing
import time


def work():
    time.sleep(60)


if __name__ == "__main__":
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.terminate()
    process.join()
    print("ended", process.exitcode)
