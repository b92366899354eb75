"""A job raises ``SystemExit`` into its future; the program goes on."""

import sys
from concurrent.futures import ThreadPoolExecutor

with ThreadPoolExecutor(1) as pool:
    print(repr(pool.submit(sys.exit, 3).exception()))
