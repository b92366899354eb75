"""Bring pages into the stores; copy them to the archive afterwards."""

from __future__ import annotations

import asyncio
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from documents import cut, read_page
from embeddings import embed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from documents import Passage
    from stores import Stores

WORKERS = 3
ARCHIVE_PAUSE_S = 0.3


class Ingestion:
    """Reads, cuts and embeds pages in a pool of threads."""

    def __init__(self) -> None:
        """Start with a pool that is used for the whole session."""
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="ingest")  # leak: not_shut_down thread_pool

    async def run(self, paths: Sequence[Path], stores: Stores) -> int:
        """Write all pages into the stores and return the number of passages."""
        loop = asyncio.get_running_loop()
        prepared = await asyncio.gather(*(loop.run_in_executor(self._pool, _prepare, path) for path in paths))
        passages = [passage for page, _ in prepared for passage in page]
        await stores.write(passages, np.concatenate([vectors for _, vectors in prepared]))
        return len(passages)

    def archive(self, paths: Sequence[Path], folder: Path) -> None:
        """Copy the pages to the archive in the background, slowly, because an archive is a slow and shared disk."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            self._pool.submit(_copy_gently, path, folder)


def _prepare(path: Path) -> tuple[list[Passage], NDArray[np.float32]]:
    page = read_page(path)
    passages = list(cut(page))
    return passages, embed([f"{passage.title}. {passage.text}" for passage in passages])


def _copy_gently(path: Path, folder: Path) -> None:
    time.sleep(ARCHIVE_PAUSE_S)
    shutil.copy(path, folder)
