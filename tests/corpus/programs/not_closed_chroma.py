"""A persistent client of a script that is never closed.

Like: https://github.com/langchain-ai/langchain/issues/13409
Needs: chromadb
"""

import chromadb

client = chromadb.PersistentClient(path="db")  # leak: not_closed chromadb.client
collection = client.get_or_create_collection("words")
collection.add(ids=["a"], embeddings=[[1.0, 0.0]])
print(collection.count())
