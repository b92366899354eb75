"""Each request makes a pool of its own and forgets it.

Like: https://github.com/apereo/cas/pull/1465
"""

from concurrent.futures import ThreadPoolExecutor

pools = []


def handle(request):
    pool = ThreadPoolExecutor(1)  # leak: not_shut_down thread_pool
    pools.append(pool)
    return pool.submit(str.upper, request).result()


print([handle(request) for request in "abc"])
