"""Clients of every local kind that nobody closes, a thread that still writes, and the end of the program.

python chroma_end.py FOLDER
"""

from __future__ import annotations

import os
import sys
import threading

import chromadb

folder = sys.argv[1]


def settings() -> chromadb.Settings:
    return chromadb.Settings(anonymized_telemetry=False)


def fill(client: object) -> int:
    things = client.get_or_create_collection("things", embedding_function=None)
    things.upsert(ids=["1", "2"], embeddings=[[1.0, 2.0], [3.0, 4.0]])
    return things.count()


kept = chromadb.PersistentClient(os.path.join(folder, "kept"), settings=settings())  # leak: not_closed chromadb.client
memory = chromadb.EphemeralClient(settings=settings())  # leak: not_closed chromadb.client
print(fill(kept), fill(memory))


def drop() -> None:
    client = chromadb.PersistentClient(os.path.join(folder, "dropped"), settings=settings())  # leak: not_closed chromadb.client
    print(fill(client))


drop()


def work() -> None:
    threading.main_thread().join()
    for _ in range(5):
        fill(kept)
    print("the thread wrote", fill(kept), flush=True)


threading.Thread(target=work).start()
sys.exit(3)
