"""Writes into a directory until it is ended; with ``read`` it says what is there.

python chroma_writes.py [read ROWS]
"""

from __future__ import annotations

import sys

import chromadb

BATCH = 50

client = chromadb.PersistentClient("db", settings=chromadb.Settings(anonymized_telemetry=False))
things = client.get_or_create_collection("things", embedding_function=None)
if sys.argv[1:2] == ["read"]:
    found = set(things.get()["ids"])
    print(things.count(), len(found), BATCH, len(set(map(str, range(int(sys.argv[2])))) - found))
    sys.exit()
n = 0
while True:
    numbers = range(n, n + BATCH)
    things.add(ids=[str(one) for one in numbers], embeddings=[[float(one), 1.0] for one in numbers])
    n += BATCH
    print(n, flush=True)
