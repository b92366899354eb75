"""A ``threading.Timer`` that is cancelled in time."""

import threading

timer = threading.Timer(60, print, ["never"])
timer.start()
timer.cancel()
timer.join()
print("end")
