"""A module-level pool that an exit handler of ``threading`` order shuts down: a warm pool of a library user."""

import atexit
from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(2)
atexit.register(pool.shutdown)
print(pool.submit(len, "abc").result())
