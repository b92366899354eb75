"""A cached client that an exit handler closes.

Needs: chromadb
"""

import atexit

import chromadb

client = chromadb.PersistentClient(path="db")
atexit.register(client.close)
print(client.heartbeat() > 0)
