"""A wrapper's ``close`` forgets its executor.

Like: https://github.com/nitrobass24/seedsync/pull/702
"""

from concurrent.futures import ThreadPoolExecutor


class Notifier:
    def __init__(self):
        self.executor = ThreadPoolExecutor(max_workers=1)  # leak: not_shut_down thread_pool

    def notify(self, text):
        self.executor.submit(print, text).result()

    def close(self):
        self.closed = True


notifier = Notifier()
notifier.notify("hello")
notifier.close()
