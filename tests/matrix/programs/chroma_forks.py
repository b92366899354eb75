"""A forked child that uses the client it has inherited.

python chroma_forks.py FOLDER
"""

from __future__ import annotations

import os
import sys

import chromadb
from forked import forked

settings = chromadb.Settings(anonymized_telemetry=False)
client = chromadb.PersistentClient(os.path.join(sys.argv[1], "db"), settings=settings)
things = client.get_or_create_collection("things", embedding_function=None)
things.upsert(ids=["1"], embeddings=[[1.0, 2.0]])


def use() -> None:
    assert client.get_collection("things", embedding_function=None).count() == 1


forked(use)
assert things.count() == 1
