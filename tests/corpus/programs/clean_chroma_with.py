"""A client in a ``with`` block.

Needs: chromadb
"""

import chromadb

with chromadb.PersistentClient(path="db") as client:
    collection = client.get_or_create_collection("words")
    collection.add(ids=["a"], embeddings=[[1.0, 0.0]])
    print(collection.count())
