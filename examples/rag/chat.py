"""The chat: a retriever that fuses several rankings, and a LlamaIndex chat engine that streams its answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from llama_index.core.async_utils import asyncio_run
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from embeddings import embed
from indexer import rank_by_words
from llm import CONTEXT_TEMPLATE, ExtractiveLLM, as_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from documents import Passage
    from stores import Stores

_NEAREST = 8
_USED = 4
_FLATNESS = 60


class FusedRetriever(BaseRetriever):
    """Asks both vector databases, and the search by words once its statistics exist, and fuses their rankings."""

    def __init__(self, stores: Stores, statistics: Path) -> None:
        """Retrieve from these stores; `statistics` is the file that the indexer writes."""
        super().__init__()
        self._stores = stores
        self._statistics = statistics

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        nodes: list[NodeWithScore] = asyncio_run(self._aretrieve(query_bundle))
        return nodes

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        vector = embed([query_bundle.query_str])[0]
        rankings = await asyncio.gather(self._stores.from_chroma(vector, _NEAREST), self._stores.from_lance(vector, _NEAREST))
        return self._fused(query_bundle.query_str, *rankings)

    def _fused(self, question: str, *rankings: Sequence[Passage]) -> list[NodeWithScore]:
        passages = {passage.id: passage for ranking in rankings for passage in ranking}
        by_words = [key for key in rank_by_words(question, self._statistics) if key in passages]
        scores = dict.fromkeys(passages, 0.0)
        for ranking in ([passage.id for passage in ranking] for ranking in rankings):
            for place, key in enumerate(ranking):
                scores[key] += 1 / (_FLATNESS + place)
        for place, key in enumerate(by_words):
            scores[key] += 1 / (_FLATNESS + place)
        best = sorted(scores, key=lambda key: (-scores[key], key))[:_USED]
        return [_node(passages[key], scores[key]) for key in best]


def make_engine(stores: Stores, statistics: Path) -> ContextChatEngine:
    """Build the chat engine: retrieval, memory and model."""
    return ContextChatEngine.from_defaults(
        retriever=FusedRetriever(stores, statistics),
        llm=ExtractiveLLM(messages_to_prompt=as_prompt),
        memory=ChatMemoryBuffer.from_defaults(token_limit=2_000, tokenizer_fn=str.split),
        context_template=CONTEXT_TEMPLATE,
    )


def _node(passage: Passage, score: float) -> NodeWithScore:
    node = TextNode(
        id_=passage.id,
        text=passage.text,
        metadata={"title": passage.title},
        excluded_llm_metadata_keys=["title"],
    )
    return NodeWithScore(node=node, score=score)
