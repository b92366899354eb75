"""``multiprocessing.Pool`` with ``close`` and ``join``."""

import multiprocessing


def square(number):
    return number * number


if __name__ == "__main__":
    pool = multiprocessing.get_context("fork").Pool(2)
    print(pool.map(square, range(4)))
    pool.close()
    pool.join()
