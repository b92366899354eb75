"""Embeddings without a model: words and letter groups, hashed into a vector of fixed length.

They know nothing of meaning, but they are the same on every machine and need no download.
"""

from __future__ import annotations

import zlib
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from documents import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

DIMENSIONS = 1024
_GROUP = 4
_FREQUENT_WORDS = """
    a about after all an and any are as at be been before but by can do doe for from has have how if in into is it its left no not of
    on only or so still such than that the them then there they thi this to under was what when where which who whom why will with
    you
"""
_FREQUENT = frozenset(_FREQUENT_WORDS.split())


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts: one row of `DIMENSIONS` numbers and of length one for each text."""
    rows = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for feature, count in Counter(_features(text)).items():
            digest = zlib.crc32(feature.encode())
            weight = 1.0 if feature.startswith("=") else 0.3
            row[digest % DIMENSIONS] += weight * count**0.5 * (1 if digest & 0x80000000 else -1)
    lengths: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.maximum(lengths, np.float32(1e-9))
    return rows


def telling_words(text: str) -> list[str]:
    """Return the stems of a text without the words that are in every text."""
    return [word for word in words(text) if word not in _FREQUENT]


def _features(text: str) -> Iterator[str]:
    for word in telling_words(text):
        yield f"={word}"
        padded = f"^{word}$"
        yield from (padded[start : start + _GROUP] for start in range(max(len(padded) - _GROUP + 1, 1)))
