"""A queue listener of logging that is stopped by an exit handler."""

import atexit
import logging
import logging.handlers
import queue
import sys

records = queue.Queue()
listener = logging.handlers.QueueListener(records, logging.StreamHandler(sys.stdout))
listener.start()
atexit.register(listener.stop)
logger = logging.getLogger("app")
logger.addHandler(logging.handlers.QueueHandler(records))
logger.warning("hello")
