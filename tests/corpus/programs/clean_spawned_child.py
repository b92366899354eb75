"""A spawned child with a pool of its own that it shuts down."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor


def work():
    with ThreadPoolExecutor(1) as pool:
        print(pool.submit(len, "abc").result(), flush=True)


if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
