"""A tool worker waits in a call without a timeout; its pool keeps the process from ending.

Like: https://github.com/NousResearch/hermes-agent/issues/53107
Options: --budget 2 --grace 0.5
"""

import threading
from concurrent.futures import ThreadPoolExecutor

never = threading.Event()
pool = ThreadPoolExecutor(1)  # leak: blocks_exit thread_pool
pool.submit(never.wait)
print("main ends")
