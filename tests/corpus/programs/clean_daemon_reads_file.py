"""A daemon thread follows a file that it has open for reading."""

import threading
import time

reading = threading.Event()


def follow():
    with open(__file__) as file:
        file.readline()
        reading.set()
        while True:
            time.sleep(0.01)


threading.Thread(target=follow, daemon=True).start()
reading.wait()
print("end")
