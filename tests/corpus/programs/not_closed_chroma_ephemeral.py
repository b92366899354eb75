"""A client in memory, made by a test helper again and again.

Like: https://github.com/confident-ai/deepeval/pull/2522
Needs: chromadb
"""

import chromadb


def helper():
    client = chromadb.EphemeralClient()  # leak: not_closed chromadb.client
    client.get_or_create_collection("words").add(ids=["a"], embeddings=[[1.0, 0.0]])
    return client


client = helper()
print(client.get_collection("words").count())
