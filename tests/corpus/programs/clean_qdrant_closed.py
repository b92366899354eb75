"""A local store that is closed, and one in memory, which has nothing to close.

Needs: qdrant_client
"""

from qdrant_client import QdrantClient

client = QdrantClient(path="store")
print(client.get_collections())
client.close()
memory = QdrantClient(":memory:")
print(memory.get_collections())
