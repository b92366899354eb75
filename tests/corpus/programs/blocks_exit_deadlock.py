"""Two threads wait for each other's lock.

Like: https://github.com/ipython/ipykernel/pull/97
Options: --budget 2 --grace 0.5
"""

import threading

one, two, both = threading.Lock(), threading.Lock(), threading.Barrier(2)


def take(first, second):
    with first:
        both.wait()
        with second:
            print("never")


for locks in ((one, two), (two, one)):
    threading.Thread(target=take, args=locks).start()  # leak: blocks_exit thread
