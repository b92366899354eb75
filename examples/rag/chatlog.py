"""The chat log: one JSON line for each answer, with the rating that the reader gives when the conversation is over."""

from __future__ import annotations

import asyncio
import json
import weakref
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class ChatLog:
    """Appends to a file. It remembers its entries weakly, so that a long session does not keep every answer in memory."""

    def __init__(self, path: Path) -> None:
        """Append to the file `path`, which is created with the first line."""
        self._path = path
        self._unrated: weakref.WeakSet[_Entry] = weakref.WeakSet()
        self._answers = 0

    def note(self, question: str, answer: str, sources: Sequence[str]) -> None:
        """Note an answer; its line is written as soon as the rating is known."""
        self._answers += 1
        _Entry(self, self._answers, {"question": question, "answer": answer, "sources": list(sources)})

    async def rate(self, rating: str) -> None:
        """Give the conversation's rating to all its answers, and let them write their lines."""
        for entry in sorted(self._unrated, key=attrgetter("number")):
            entry.rating.set_result(rating)
        await asyncio.sleep(0)

    def expect(self, entry: _Entry) -> None:
        """Remember an entry until it is rated."""
        self._unrated.add(entry)

    def append(self, line: dict[str, object]) -> None:
        """Write one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class _Entry:
    """An answer that waits for its rating."""

    def __init__(self, log: ChatLog, number: int, line: dict[str, object]) -> None:
        self.number = number
        self.rating: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._log = log
        self._line = line
        log.expect(self)
        asyncio.create_task(self._write_when_rated())  # leak: lost_task asyncio.task

    async def _write_when_rated(self) -> None:
        self._line["rating"] = await self.rating
        self._log.append(self._line)
