"""The program ends with jobs still queued: they run, and the pool is told.

Like: https://github.com/python/cpython/issues/86575
"""

import time
from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(1)  # leak: not_shut_down thread_pool


def job(number):
    time.sleep(0.05)
    print("ran", number)


for number in range(4):
    pool.submit(job, number)
