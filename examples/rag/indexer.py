"""Term statistics for the search by words (BM25), counted by a process of its own.

The module imports neither vector database: the process is spawned, and so starts quickly and inherits none of their threads.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from collections import Counter
from typing import TYPE_CHECKING

from documents import cut, page_paths, read_page, words

if TYPE_CHECKING:
    from pathlib import Path

PAGE_PAUSE_S = 0.2
_SATURATION = 1.2
_LENGTH_WEIGHT = 0.75


def start_indexing(pages: Path, target: Path) -> None:
    """Count the words of all pages in another process, so that nobody has to wait for it."""
    process = multiprocessing.get_context("spawn").Process(target=write_statistics, args=(pages, target))
    process.start()  # leak: blocks_exit process


def write_statistics(pages: Path, target: Path) -> None:
    """Count the words of every passage and write them to a file which appears when it is complete."""
    counts: dict[str, dict[str, int]] = {}
    for path in page_paths(pages):
        counts.update({passage.id: dict(Counter(words(passage.text))) for passage in cut(read_page(path))})
        time.sleep(PAGE_PAUSE_S)  # leave the processor to the chat
    unfinished = target.with_suffix(".part")
    unfinished.write_text(json.dumps(counts), encoding="utf-8")
    unfinished.replace(target)


def rank_by_words(question: str, statistics: Path) -> list[str]:
    """Return the ids of the passages that share words with the question, best first; none before the first indexing."""
    if not statistics.exists():
        return []
    counts: dict[str, dict[str, int]] = json.loads(statistics.read_text(encoding="utf-8"))
    lengths = {key: sum(passage.values()) for key, passage in counts.items()}
    mean = sum(lengths.values()) / len(lengths)
    scores: Counter[str] = Counter()
    for word in set(words(question)):
        holders = [key for key, passage in counts.items() if word in passage]
        rarity = math.log(1 + (len(counts) - len(holders) + 0.5) / (len(holders) + 0.5))
        for key in holders:
            times = counts[key][word]
            damping = _SATURATION * (1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * lengths[key] / mean)
            scores[key] += rarity * times * (_SATURATION + 1) / (times + damping)  # type: ignore[assignment]
    return [key for key, _ in scores.most_common()]
