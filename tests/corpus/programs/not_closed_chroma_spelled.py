"""Each part of a program opens a client of its own of one directory, spelled in another way: told at once, and when none was closed.

Like: https://github.com/jbdamask/wkid-smaaht/issues/30
Signal: SIGUSR1 after keeps growing
Needs: chromadb
"""

import os
import signal
import threading

import chromadb

told = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: told.set())
os.mkdir("db")
os.symlink("db", "link")


def store(path):
    return chromadb.PersistentClient(path)  # leak: not_closed chromadb.client


stores = [store(path) for path in ("db", os.path.abspath("link"))]
told.wait(120)
print([one.count_collections() for one in stores])
