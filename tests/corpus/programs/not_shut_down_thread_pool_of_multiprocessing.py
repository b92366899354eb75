"""``multiprocessing.pool.ThreadPool`` in a helper, without ``close``.

Like: https://github.com/aws/aws-parallelcluster-node/pull/461
"""

from multiprocessing.pool import ThreadPool

pool = ThreadPool(2)  # leak: not_shut_down thread_pool
print(pool.map(abs, [-1, -2]))
