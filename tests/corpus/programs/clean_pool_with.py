"""A pool in a ``with`` block."""

from concurrent.futures import ThreadPoolExecutor

with ThreadPoolExecutor(4) as pool:
    print(sum(pool.map(len, ["a", "bc", "def"])))
