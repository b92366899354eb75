"""A ``Thread`` subclass whose ``stop`` is never called.

Like: https://github.com/adtech-labs/spylon/issues/32
Options: --budget 2 --grace 0.5
"""

import threading


class Progress(threading.Thread):
    def __init__(self):
        super().__init__(name="progress")
        self.stopped = threading.Event()

    def run(self):
        self.stopped.wait()

    def stop(self):
        self.stopped.set()


progress = Progress()
progress.start()  # leak: blocks_exit thread
print("done")
