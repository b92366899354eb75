"""A daemon thread is stopped while it has its file open for writing.

Like: https://github.com/python/cpython/issues/96387
"""

import threading

writing = threading.Event()


def write_log():
    with open("log.txt", "w") as file:
        file.write("half")
        writing.set()
        threading.Event().wait()
        file.write("whole")


threading.Thread(target=write_log, daemon=True).start()  # leak: outlived_scope thread
writing.wait()
print("end")
