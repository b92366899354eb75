"""A consumer thread does not look at the flag that the main thread sets in its ``finally``.

Like: https://github.com/NGCP/VTOL/issues/73
Options: --grace 0.5
Signal: SIGTERM after ready
"""

import threading
import time

running = True


def consume():
    threading.Event().wait()


threading.Thread(target=consume).start()  # leak: blocks_exit thread
print("ready", flush=True)
try:
    while True:
        time.sleep(0.1)
finally:
    running = False
