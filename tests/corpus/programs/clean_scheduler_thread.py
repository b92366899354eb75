"""A scheduler thread that waits for its stop event, and gets it.

Options: --stalled-after 0.3
"""

import threading
import time

stop = threading.Event()
ticks = []


def tick():
    while not stop.wait(0.05):
        ticks.append(1)


thread = threading.Thread(target=tick)
thread.start()
time.sleep(0.8)
stop.set()
thread.join()
print(bool(ticks))
