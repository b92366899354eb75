"""Pages on disk, and the passages that are cut from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSAGE_WORDS = 70
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")
_WORD = re.compile(r"[a-z_][a-z0-9_.+]*[a-z0-9_+]|[a-z]")


@dataclass(frozen=True)
class Page:
    """One document: its name, its title and its paragraphs."""

    name: str
    title: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class Passage:
    """A piece of a page that is embedded, stored and found as one."""

    id: str
    title: str
    text: str


def read_page(path: Path) -> Page:
    """Read a Markdown page whose first line is its title."""
    head, *paragraphs = re.split(r"\n\s*\n", path.read_text(encoding="utf-8").strip())
    return Page(path.stem, head.lstrip("# "), tuple(" ".join(text.split()) for text in paragraphs))


def page_paths(folder: Path) -> list[Path]:
    """Return the Markdown pages of a folder in the order of their names."""
    return sorted(folder.glob("*.md"))


def sentences(text: str) -> list[str]:
    """Split prose into sentences."""
    return [sentence for sentence in _SENTENCE_END.split(text) if sentence]


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, reduced to a rough stem."""
    return [_stem(word) for word in _WORD.findall(text.lower())]


def cut(page: Page) -> Iterator[Passage]:
    """Cut a page into passages of about `PASSAGE_WORDS` words; neighbours of one paragraph share a sentence."""
    number = 0
    for paragraph in page.paragraphs:
        current: list[str] = []
        for sentence in sentences(paragraph):
            if current and sum(len(part.split()) for part in (*current, sentence)) > PASSAGE_WORDS:
                yield Passage(f"{page.name}:{number}", page.title, " ".join(current))
                number += 1
                current = current[-1:]
            current.append(sentence)
        yield Passage(f"{page.name}:{number}", page.title, " ".join(current))
        number += 1


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) > 2:  # noqa: PLR2004 - shorter stems say nothing
            return word[: -len(ending)]
    return word
