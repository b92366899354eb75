"""A ``multiprocessing.Pool`` that nobody closes or terminates.

Like: https://github.com/blacklanternsecurity/bbot/issues/3203
"""

import multiprocessing


def work(number):
    return number * number


if __name__ == "__main__":
    pool = multiprocessing.get_context("fork").Pool(2)  # leak: not_shut_down process_pool
    print(pool.map(work, range(3)))
