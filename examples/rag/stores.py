"""The two vector databases: a Chroma collection and a LanceDB table with the same passages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import chromadb
import lancedb

from documents import Passage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from chromadb.api.client import Client
    from numpy.typing import NDArray

PASSAGES = "passages"


class Stores:
    """Both databases under one folder."""

    def __init__(self, folder: Path, lance: lancedb.AsyncConnection) -> None:
        """Open the Chroma collection, and use an open LanceDB connection."""
        self._lance = lance
        self._chroma = chromadb.PersistentClient(path=folder / "chroma")  # leak: not_closed chromadb.client
        self._collection = self._chroma.get_or_create_collection(
            PASSAGES,
            embedding_function=None,
            configuration={"hnsw": {"space": "cosine"}},
        )

    @classmethod
    async def open(cls, folder: Path) -> Stores:
        """Open both databases, and create them where they do not exist yet."""
        lance = await lancedb.connect_async(folder / "lance")  # leak: not_closed lancedb.connection
        return cls(folder, lance)

    async def write(self, passages: Sequence[Passage], vectors: NDArray[np.float32]) -> None:
        """Store the passages with their vectors and replace what was stored under the same ids."""
        await asyncio.to_thread(
            self._collection.upsert,
            ids=[passage.id for passage in passages],
            documents=[passage.text for passage in passages],
            metadatas=[{"title": passage.title} for passage in passages],
            embeddings=vectors,
        )
        rows = [
            {"id": passage.id, "title": passage.title, "text": passage.text, "vector": vector}
            for passage, vector in zip(passages, vectors, strict=True)
        ]
        exists = PASSAGES in (await self._lance.list_tables()).tables
        with await self._lance.create_table(PASSAGES, data=rows, mode="overwrite" if exists else "create"):
            pass

    async def from_chroma(self, vector: NDArray[np.float32], limit: int) -> list[Passage]:
        """Return the passages nearest to a vector, by the graph index of Chroma."""
        found = await asyncio.to_thread(self._collection.query, query_embeddings=vector, n_results=limit)
        return [
            Passage(key, str(metadata["title"]), text)
            for key, metadata, text in zip(
                found["ids"][0],
                (found["metadatas"] or [[]])[0],
                (found["documents"] or [[]])[0],
                strict=True,
            )
        ]

    async def from_lance(self, vector: NDArray[np.float32], limit: int) -> list[Passage]:
        """Return the passages nearest to a vector, by an exact search in LanceDB."""
        with await self._lance.open_table(PASSAGES) as table:
            found = await table.vector_search(vector).limit(limit).to_list()
        return [Passage(row["id"], row["title"], row["text"]) for row in found]

    async def count(self) -> int:
        """Return how many passages LanceDB holds."""
        with await self._lance.open_table(PASSAGES) as table:
            return int(await table.count_rows())


def stored_rows(folder: Path) -> dict[str, int]:
    """Count what a program has really stored in a folder, with clients that are closed again."""
    with cast("Client", chromadb.PersistentClient(path=folder / "chroma")) as client:
        in_chroma = client.get_collection(PASSAGES, embedding_function=None).count()
    table = lancedb.connect(folder / "lance").open_table(PASSAGES)
    return {"chroma": in_chroma, "lance": table.count_rows()}
