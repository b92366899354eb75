"""A worker waits for a queue; nobody puts the sentinel in.

Like: https://github.com/scylladb/scylla-ccm/pull/205
Options: --budget 2 --grace 0.5
"""

import queue
import threading

jobs = queue.Queue()


def work():
    while (job := jobs.get()) is not None:
        print(job)


thread = threading.Thread(target=work, name="worker")
thread.start()  # leak: blocks_exit thread
jobs.put("a job")
