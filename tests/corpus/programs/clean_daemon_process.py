"""A daemon process, which Python terminates at the end: a pattern of its documentation."""

import multiprocessing
import time


def work():
    time.sleep(60)


if __name__ == "__main__":
    multiprocessing.get_context("fork").Process(target=work, daemon=True).start()
    print("end")
