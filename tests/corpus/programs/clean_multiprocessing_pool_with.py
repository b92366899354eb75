"""``multiprocessing.Pool`` in a ``with`` block, which terminates it."""

import multiprocessing


def square(number):
    return number * number


if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(square, range(4)))
