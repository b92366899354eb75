"""A thread that a request started is still at work when the request's scope ends.

Like: https://github.com/deepsourcelabs/beacon-py/issues/18
"""

import threading

import leakagent

stop = threading.Event()
threads = []


def handle():
    thread = threading.Thread(target=stop.wait)
    threads.append(thread)
    thread.start()  # leak: outlived_scope thread


with leakagent.scope("one request"):
    handle()
stop.set()
threads[0].join()
