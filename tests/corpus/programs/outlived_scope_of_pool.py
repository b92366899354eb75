"""A pool that was made for one import is left open behind it.

Like: https://github.com/apache/shenyu/issues/6654
"""

from concurrent.futures import ThreadPoolExecutor

import leakagent

pools = []


def import_file(path):
    pool = ThreadPoolExecutor(1)  # leak: outlived_scope thread_pool
    pools.append(pool)
    return pool.submit(len, path).result()


with leakagent.scope("import"):
    print(import_file("a.txt"))
pools[0].shutdown()
