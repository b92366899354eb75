"""A pool of a helper that is dropped idle: its threads end with it, as Python has it.

Like: https://github.com/rohanpm/more-executors/issues/87
"""

from concurrent.futures import ThreadPoolExecutor


def helper():
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(len, "abc")


print(helper().result())
