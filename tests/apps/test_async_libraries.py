"""anyio, nest_asyncio, uvloop and lancedb's own loop: their tasks are held from creation to done, and told with the right line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = """\
import asyncio, gc, sys

destroyed = []

class Note:
    def __del__(self):
        if not sys.is_finalizing():
            destroyed.append(self)

async def lose():
    note = Note()
    await asyncio.get_running_loop().create_future()

async def collect():
    for _ in range(5):
        await asyncio.sleep(0)
    for generation in (0, 1, 2):
        gc.collect(generation)
"""

DROPPED = {
    "nest_asyncio": """
import nest_asyncio
nest_asyncio.apply()

async def inner():
    asyncio.create_task(lose())  # leak: lost_task asyncio.task
    await collect()

async def main():
    asyncio.run(inner())
    await collect()

asyncio.run(main())
""",
    "anyio": """
import anyio

async def part(seconds):
    await anyio.sleep(seconds)

async def main():
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(part, 0.01)
        with anyio.move_on_after(5):
            await anyio.to_thread.run_sync(gc.collect)
        asyncio.create_task(lose())  # leak: lost_task asyncio.task
        await collect()

anyio.run(main)
""",
    "anyio on uvloop": """
import anyio

async def main():
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0.01)
        asyncio.create_task(lose())  # leak: lost_task asyncio.task
        await collect()

anyio.run(main, backend_options={"use_uvloop": True})
""",
    "uvloop.run": """
import uvloop

async def main():
    asyncio.create_task(lose())  # leak: lost_task asyncio.task
    await collect()

uvloop.run(main())
""",
    "the loop of lancedb": """
import tempfile
import lancedb
from lancedb.background_loop import LOOP

async def start():
    asyncio.create_task(lose())  # leak: lost_task asyncio.task

with tempfile.TemporaryDirectory() as folder:
    db = lancedb.connect(folder)
    table = db.create_table("t", [{"vector": [1.0, 2.0], "n": n} for n in range(20)])
    LOOP.run(start())
    LOOP.run(collect())
    print(table.count_rows())
    del table, db
""",
}


@pytest.mark.parametrize("name", DROPPED)
def test_a_dropped_task_is_held_and_told(name: str, compare: Callable[..., Any]) -> None:
    ran = compare(HEAD + DROPPED[name] + "\nprint('end')\n")
    ran.check()


FAILS = """
async def fail():
    raise ValueError("mine")

async def main():
    task = asyncio.create_task(fail())  # leak: unretrieved_exception asyncio.task
    await asyncio.sleep(0.01)
    del task
    await collect()
"""

RUNS = {
    "uvloop": "import uvloop\nuvloop.run(main())\n",
    "nest_asyncio": "import nest_asyncio\nnest_asyncio.apply()\nasyncio.run(main())\n",
    "anyio": "import anyio\nanyio.run(main)\n",
}


@pytest.mark.parametrize("name", RUNS)
def test_an_exception_that_nobody_looked_at(name: str, compare: Callable[..., Any]) -> None:
    ran = compare(HEAD + FAILS + RUNS[name] + "print('end')\n")
    ran.check()
    for one in (ran.bare, *(agent for agent, _ in ran.agents.values())):
        assert one.stderr.count("Task exception was never retrieved") == 1, one
        assert one.stderr.count("ValueError: mine") == 1, one


# What the user sees of a backend that can't be reached: the same under the agent, once.
CONNECTION = """
import logging
import httpx

logging.getLogger("httpx").setLevel(logging.WARNING)
async def ask():
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post("http://127.0.0.1:{port}/v1/chat/completions", json={{}}, timeout=10)

async def main():
    {wanted}

asyncio.run(main())
"""

ASKED = {
    "awaited": ("await ask()", 1, ""),
    "gathered": ("print([type(one).__name__ for one in await asyncio.gather(ask(), ask(), return_exceptions=True)])", 0, ""),
    "dropped": (
        "asyncio.create_task(ask())  # leak: unretrieved_exception asyncio.task\n    await asyncio.sleep(1)\n    await collect()",
        0,
        "Task exception was never retrieved",
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_backend_that_refuses(name: str, compare: Callable[..., Any], port: int) -> None:
    wanted, status, said = ASKED[name]
    ran = compare(HEAD + CONNECTION.format(port=port, wanted=wanted))
    ran.check(status=status)
    for agent, _ in ran.agents.values():
        for text in ("httpx.ConnectError: All connection attempts failed", said or "never retrieved"):
            assert agent.stderr.count(text) == ran.bare.stderr.count(text), (agent, ran.bare)
    if said:
        assert ran.bare.stderr.count(said) == 1, ran.bare


LLAMA = """
import httpx
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import MockLLM

class Backend(MockLLM):
    async def astream_chat(self, messages, **more):
        async def answer():
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.post("http://127.0.0.1:{port}/v1/chat/completions", json={{}}, timeout=10)
            yield
        return answer()

async def main():
    answer = await SimpleChatEngine.from_defaults(llm=Backend()).astream_chat("a question")
    try:
        async for token in answer.async_response_gen():
            print(token)
    except httpx.ConnectError as error:
        print("seen:", error)
    await collect()

asyncio.run(asyncio.wait_for(main(), 60))
"""


def test_llama_index_with_a_backend_that_refuses(compare: Callable[..., Any], port: int) -> None:
    ran = compare(HEAD + LLAMA.format(port=port))
    for agent, report in ran.agents.values():
        assert (agent.returncode, agent.stdout) == (ran.bare.returncode, ran.bare.stdout), (agent, ran.bare)
        for text in ("ConnectError: All connection attempts failed", "never retrieved", "Task was destroyed"):
            assert agent.stderr.count(text) == ran.bare.stderr.count(text), (agent, ran.bare)
        # Told exactly if Python says so.
        told = sum(one["count"] for one in report["findings"] if one["reason"] == "unretrieved_exception")
        assert told == ran.bare.stderr.count("never retrieved"), (report["findings"], ran.bare)
    assert "seen: All connection attempts failed" in ran.bare.stdout or "ConnectError" in ran.bare.stderr, ran.bare
