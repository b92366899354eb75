"""A thread that is no daemon ends by itself, a moment after the main thread."""

import threading
import time


def finish():
    time.sleep(0.5)
    print("saved")


threading.Thread(target=finish).start()
print("main ends")
