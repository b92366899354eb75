"""A script opens a local store and does not close it: the next one finds the folder locked.

Like: https://github.com/qdrant/qdrant-client/issues/1018
Needs: qdrant_client
"""

from qdrant_client import QdrantClient

client = QdrantClient(path="store")  # leak: not_closed qdrant.client
print(client.get_collections())
