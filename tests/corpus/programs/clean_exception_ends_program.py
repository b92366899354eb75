"""An exception ends the program inside of its ``with`` blocks."""

from concurrent.futures import ThreadPoolExecutor

with ThreadPoolExecutor(1) as pool:
    pool.submit(len, "abc")
    raise SystemExit(3)
