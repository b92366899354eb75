"""SIGTERM ends a program whose pool is idle in a ``with`` block.

Signal: SIGTERM after ready
"""

import time
from concurrent.futures import ThreadPoolExecutor

with ThreadPoolExecutor(2) as pool:
    pool.submit(len, "abc").result()
    print("ready", flush=True)
    while True:
        time.sleep(0.05)
