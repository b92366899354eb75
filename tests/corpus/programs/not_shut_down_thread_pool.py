"""A module-level pool that is never shut down; its jobs are done.

Like: https://github.com/rohanpm/more-executors/issues/87
"""

from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(2)  # leak: not_shut_down thread_pool
print(list(pool.map(len, ["a", "bc"])))
