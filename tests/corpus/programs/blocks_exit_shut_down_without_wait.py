"""``shutdown(wait=False)`` does not end a worker that hangs: the pool's thread is left.

Like: https://github.com/python/cpython/issues/80961
Options: --budget 2 --grace 0.5
"""

import threading
from concurrent.futures import ThreadPoolExecutor

never = threading.Event()
pool = ThreadPoolExecutor(1)  # leak: blocks_exit thread_pool
pool.submit(never.wait)
pool.shutdown(wait=False)
print("main ends")
