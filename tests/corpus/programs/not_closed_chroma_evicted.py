"""A cache of clients evicts one without closing it.

Like: https://github.com/MemPalace/mempalace/issues/1067
Needs: chromadb
"""

import chromadb

clients = {}


def palace(path):
    clients[path] = chromadb.PersistentClient(path=path)  # leak: not_closed chromadb.client
    return clients[path]


palace("a").get_or_create_collection("words")
clients.pop("a")
print(len(clients))
