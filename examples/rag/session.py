"""One session: ingest the pages, answer the questions, leave the slow work to the background."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat import make_engine
from chatlog import ChatLog
from documents import page_paths
from indexer import start_indexing
from ingest import Ingestion
from stores import Stores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from llama_index.core.chat_engine import ContextChatEngine

_REFRESH_S = 30.0
_LINE_WIDTH = 96


@dataclass(frozen=True)
class Plan:
    """What a session works on: the pages, the folder for everything it writes, and the questions."""

    pages: Path
    data: Path
    questions: Sequence[str]


def run(plan: Plan) -> None:
    """Run one session from the first page to the last answer."""
    paths = page_paths(plan.pages)
    ingestion = Ingestion()
    asyncio.run(_converse(plan, ingestion, paths))
    ingestion.archive(paths, plan.data / "archive")
    start_indexing(plan.pages, plan.data / "statistics.json")


async def _converse(plan: Plan, ingestion: Ingestion, paths: Sequence[Path]) -> None:
    stores = await Stores.open(plan.data)
    passages = await ingestion.run(paths, stores)
    print(f"{len(paths)} pages, {passages} passages.")
    asyncio.create_task(_keep_warm(stores))  # leak: outlived_scope asyncio.task
    engine = make_engine(stores, plan.data / "statistics.json")
    log = ChatLog(plan.data / "chat.jsonl")
    for question in plan.questions:
        await _answer(engine, log, question)
        gc.collect()  # a streamed answer leaves many cycles behind
    await log.rate("not rated")


async def _answer(engine: ContextChatEngine, log: ChatLog, question: str) -> None:
    print(f"\n> {question}")
    response = await engine.astream_chat(question)
    await _print_wrapped(response.async_response_gen())
    sources = list(dict.fromkeys(str(node.metadata["title"]) for node in response.source_nodes))
    print(f"[{'; '.join(sources)}]")
    log.note(question, response.response, sources)
    await asyncio.sleep(0)


async def _print_wrapped(tokens: AsyncIterator[str]) -> None:
    column = 0
    async for token in tokens:
        word = token.strip()
        separator = "" if column == 0 else "\n" if column + len(word) >= _LINE_WIDTH else " "
        print(separator + word, end="", flush=True)
        column = len(word) if separator == "\n" else column + len(separator + word)
    print()


async def _keep_warm(stores: Stores) -> None:
    while True:
        await asyncio.sleep(_REFRESH_S)
        await stores.count()
