"""Two clients of one folder, both closed.

Needs: chromadb
"""

import chromadb

first, second = chromadb.PersistentClient(path="db"), chromadb.PersistentClient(path="./db")
first.get_or_create_collection("words")
print(second.list_collections()[0].name)
second.close()
first.close()
