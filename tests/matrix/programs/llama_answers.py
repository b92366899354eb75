"""A streamed answer of every chat engine, to its end, broken off in the middle, and dropped by who asked.

python llama_answers.py
"""

from __future__ import annotations

import asyncio
import gc

from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.chat_engine import CondenseQuestionChatEngine, ContextChatEngine, SimpleChatEngine
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, MockLLM


class LLM(MockLLM):
    """Answers in three pieces, or does what the test wants in the middle."""

    async def astream_chat(self, *_messages: object, **_more: object) -> object:
        async def answer() -> object:
            for n in range(3):
                if n == 1:
                    await self.half_way()
                yield ChatResponse(message=ChatMessage(role="assistant", content="x" * (n + 1)), delta="x")

        return answer()

    async def apredict(self, *_arguments: object, **_more: object) -> str:
        return "a question by itself"

    async def acomplete(self, *_arguments: object, **_more: object) -> CompletionResponse:
        return CompletionResponse(text="an answer")

    async def astream_complete(self, *_arguments: object, **_more: object) -> object:
        async def answer() -> object:
            for n in range(3):
                if n == 1:
                    await self.half_way()
                yield CompletionResponse(text="x" * (n + 1), delta="x")

        return answer()

    async def half_way(self) -> None:
        await asyncio.sleep(0)


class Refuses(LLM):
    async def half_way(self) -> None:
        raise ConnectionError


class Stalls(LLM):
    async def half_way(self) -> None:
        await asyncio.get_running_loop().create_future()


index = VectorStoreIndex.from_documents([Document(text="a page")], embed_model=MockEmbedding(embed_dim=4))


def engines(llm: LLM) -> list:
    retriever = index.as_retriever(similarity_top_k=1)
    return [
        SimpleChatEngine.from_defaults(llm=llm),
        ContextChatEngine.from_defaults(retriever=retriever, llm=llm),
        CondenseQuestionChatEngine.from_defaults(query_engine=index.as_query_engine(llm=llm, streaming=True), llm=llm),
    ]


async def read(answer: object) -> str:
    return "".join([token async for token in answer.async_response_gen()])


async def main() -> None:
    for engine in engines(LLM()):
        print(type(engine).__name__, len(await read(await engine.astream_chat("a question"))) > 0)
    for engine in engines(Refuses()):
        try:
            await read(await engine.astream_chat("a question"))
        except ConnectionError as error:
            print(type(engine).__name__, type(error).__name__)
    for engine in engines(Stalls()):
        answer = await engine.astream_chat("a question")
        # The context engine of 0.12 begins to read when it is read.
        for _ in range(1000):
            await asyncio.sleep(0)
        del answer, engine
        gc.collect()
    print("dropped")


asyncio.run(main())
