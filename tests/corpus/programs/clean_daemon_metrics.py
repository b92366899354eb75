"""A daemon thread that sends numbers now and then, for as long as the process lives."""

import threading
import time


def send():
    while True:
        time.sleep(0.01)


threading.Thread(target=send, daemon=True, name="metrics").start()
time.sleep(0.05)
print("end")
