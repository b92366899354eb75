"""A language model that runs in this process: it answers with the sentences of its context that fit the question best."""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import CompletionResponse, LLMMetadata
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_completion_callback

from documents import sentences
from embeddings import telling_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llama_index.core.base.llms.types import ChatMessage, CompletionResponseAsyncGen, CompletionResponseGen

CONTEXT_TEMPLATE = "<passages>\n{context_str}\n</passages>"
NOTHING_FOUND = "The pages say nothing about that."
_ANSWER_SENTENCES = 3
_PASSAGES = re.compile(r"<passages>\n(.*?)\n</passages>", flags=re.DOTALL)
_TOKEN_PAUSE_S = 0.004


class ExtractiveLLM(CustomLLM):
    """Selects sentences instead of writing new ones, and streams them word by word."""

    @property
    def metadata(self) -> LLMMetadata:
        """Say how much context fits, and that prompts are plain text."""
        return LLMMetadata(context_window=16_000, num_output=512, model_name="extractive", is_chat_model=False)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: ANN401, FBT001, FBT002, ARG002 - given by the base class
        """Answer a prompt at once."""
        return CompletionResponse(text=_answer(prompt))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:  # noqa: ANN401, FBT001, FBT002, ARG002 - given by the base class
        """Answer a prompt word by word."""
        yield from _growing(_answer(prompt))

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:  # noqa: ANN401, FBT001, FBT002, ARG002 - given by the base class
        """Answer a prompt word by word, at the pace of a small model."""

        async def stream() -> CompletionResponseAsyncGen:
            for response in _growing(_answer(prompt)):
                await asyncio.sleep(_TOKEN_PAUSE_S)
                yield response

        return stream()


def as_prompt(messages: Sequence[ChatMessage]) -> str:
    """Write a conversation as the plain text that the model reads."""
    return "".join(f"<{message.role.value}>\n{message.content}\n" for message in messages)


def _growing(answer: str) -> Iterator[CompletionResponse]:
    text = ""
    for token in re.findall(r"\S+\s*", answer):
        text += token
        yield CompletionResponse(text=text, delta=token)


def _answer(prompt: str) -> str:
    question = prompt.rpartition("<user>\n")[2].partition("<assistant>")[0]
    wanted = frozenset(telling_words(question))
    passages = [sentences(passage) for text in _PASSAGES.findall(prompt) for passage in text.split("\n\n")]
    spread = Counter(word for passage in passages for word in frozenset(telling_words(" ".join(passage))))
    best, best_score = NOTHING_FOUND, 0.0
    for place, passage in enumerate(passages):
        for start in range(len(passage)):
            extract = " ".join(passage[start : start + _ANSWER_SENTENCES])
            shared = wanted & frozenset(telling_words(extract))
            score = sum(math.log(1 + len(passages) / spread[word]) for word in shared) / (1 + place / len(passages))
            if score > best_score:
                best, best_score = extract, score
    return best
