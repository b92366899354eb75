"""Each session opens a client of a folder of its own and keeps it.

Like: https://github.com/chroma-core/chroma/issues/1379
Needs: chromadb
"""

import chromadb

sessions = {}


def session(name):
    sessions[name] = chromadb.PersistentClient(path=f"db-{name}")  # leak: not_closed chromadb.client
    return sessions[name]


for name in ("a", "b", "c"):
    session(name).get_or_create_collection("words").add(ids=["a"], embeddings=[[1.0, 0.0]])
print(len(sessions))
