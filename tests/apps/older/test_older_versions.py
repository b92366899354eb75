"""Releases of libraries that many programs still have: the same promises as with the newest."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# llama-index-core 0.12.16 keeps nothing that refers to the task behind a streamed answer.
ENGINE = """\
import asyncio
import gc
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage, ChatResponse, MockLLM
class LLM(MockLLM):
    async def astream_chat(self, messages, **more):
        async def answer():
            for n in range(3):
                if n == 1:
                    await half_way()
                yield ChatResponse(message=ChatMessage(role="assistant", content="x" * n), delta="x")
        return answer()
async def main():
    engine = SimpleChatEngine.from_defaults(llm=LLM())
    answer = await engine.astream_chat("a question")
    try:
        async for token in answer.async_response_gen():
            print(token)
    except ConnectionError as error:
        print("the user sees", type(error).__name__)
    print([message.content for message in engine.chat_history])
"""
LINE = "llama_index/core/chat_engine/simple.py"

REFUSES = f"""\
{ENGINE}
async def half_way():
    raise ConnectionError
asyncio.run(main())
"""

# The answer is dropped, and what the task waits for comes later.
DROPPED = f"""\
{ENGINE}
import weakref
class Backend:
    pass
async def half_way():
    backend = Backend()
    backend.answer = asyncio.get_running_loop().create_future()
    backend.answer.backend = backend
    backends.append(weakref.ref(backend))
    await backend.answer
backends = []
async def drop():
    engine = SimpleChatEngine.from_defaults(llm=LLM())
    answer = await engine.astream_chat("a question")
    while not backends:
        await asyncio.sleep(0)
    del answer
    gc.collect()
    backend = backends[0]()
    if backend is None:
        print("lost")
        return
    backend.answer.set_result(None)
    del backend
    while len(engine.chat_history) < 2:
        await asyncio.sleep(0)
    print([message.content for message in engine.chat_history])
asyncio.run(drop())
"""


def test_llama_index_with_a_backend_that_breaks_off(compare: Callable[..., Any]) -> None:
    ran = compare(REFUSES)
    ran.check(library=[("unretrieved_exception", "asyncio.task", LINE)])
    assert "the user sees ConnectionError" in ran.bare.stdout, ran.bare
    for agent, _ in (*ran.agents.values(), (ran.bare, None)):
        assert agent.stderr.count("Task exception was never retrieved") == 1, agent


def test_llama_index_whose_task_python_destroys(compare: Callable[..., Any]) -> None:
    ran = compare(DROPPED)
    assert ran.bare.stdout.splitlines() == ["lost"], ran.bare
    assert "Task was destroyed but it is pending!" in ran.bare.stderr, ran.bare
    for agent, report in ran.agents.values():
        assert (agent.returncode, agent.stdout) == (0, "['a question', 'xxx']\n"), agent
        assert "Task was destroyed" not in agent.stderr, agent
        (found,) = report["findings"]
        assert (found["reason"], found["kind"], found["owner"]) == ("lost_task", "asyncio.task", "library")
        assert found["site"]["file"] == LINE


CHROMADB = """\
import chromadb
def fill(client):
    collection = client.get_or_create_collection("things", embedding_function=None)
    collection.upsert(ids=["1", "2"], embeddings=[[1.0, 2.0], [3.0, 4.0]])
    return collection.count()
settings = chromadb.Settings(anonymized_telemetry=False)
a = chromadb.PersistentClient("a", settings=settings)  # leak: not_closed chromadb.client
b = chromadb.EphemeralClient(settings=settings)  # leak: not_closed chromadb.client
print(fill(a), fill(b))
def dropped():
    c = chromadb.PersistentClient("c", settings=settings)  # leak: not_closed chromadb.client
    print(fill(c))
dropped()
"""

LANCEDB = """\
import asyncio
import lancedb
from lancedb.background_loop import LOOP
rows = [{"id": n, "vector": [float(n), 1.0]} for n in range(3)]
a = lancedb.connect("a")  # leak: not_closed lancedb.connection
table = a.create_table("t", rows)
print(table.count_rows())
async def main():
    b = await lancedb.connect_async("b")  # leak: not_closed lancedb.connection
    things = await b.create_table("t", rows)
    print(await things.count_rows())
    return b
b = asyncio.run(main())
print(table.search([1.0, 1.0]).limit(1).to_list()[0]["id"], LOOP.thread.is_alive())
"""

WRITES = """\
import threading
import lancedb
table = lancedb.connect("db").create_table("t", [{"id": 1}])  # leak: not_closed lancedb.connection
works = threading.Event()
def work():
    while True:
        table.add([{"id": 2}])
        works.set()
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
works.wait()
print("end of the main thread", flush=True)
"""


def test_chromadb(compare: Callable[..., Any]) -> None:
    compare(CHROMADB).check()


# Bare, 0.24.0 aborts now and then when the interpreter ends.
@pytest.mark.parametrize("text", [LANCEDB, WRITES], ids=["idle", "writing"])
def test_lancedb_ends_with_its_status(compare: Callable[..., Any], text: str) -> None:
    ran = compare(text)
    for agent, report in ran.agents.values():
        assert (agent.returncode, agent.stdout) == (0, ran.bare.stdout), (agent, ran.bare)
        told = [(one["reason"], one["kind"], one["owner"], one["count"]) for one in report["findings"]]
        assert told == [("not_closed", "lancedb.connection", "yours", 1)] * text.count("# leak"), report["findings"]


# posthog sends from a thread, which its exit handler waits for.
REPORTS_ITS_USE = """\
import sys
import time
import chromadb
import posthog
posthog.host = sys.argv[1]
client = chromadb.PersistentClient("a")
client.heartbeat()
print(time.time(), flush=True)
"""

#: Seconds from the last line of the program to the end of its process: bare, it takes a minute and more, however fast the machine is.
FAR_BELOW = 40


def test_chromadb_that_reports_its_use_to_a_server_which_never_answers(
    python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        ran = python("-m", "leakagent", "--report", f"json:{report}", program(REPORTS_ITS_USE), address)
        ended = time.time()
        assert ran.returncode == 0, ran
        assert ended - float(ran.stdout) < FAR_BELOW, ran
        found = json.loads(report.read_text(encoding="utf-8"))["findings"]
        assert ("blocks_exit", "thread", "library", "released") in [
            (one["reason"], one["kind"], one["owner"], one["action"]) for one in found
        ], found
        # It has been there, and waits for its answer.
        server.settimeout(60)
        server.accept()[0].close()


# A forked child of 0.24.0 waits for ever in its first call: told by the child, before it does.
FORKS = """\
import multiprocessing
import lancedb
table = lancedb.connect("db").create_table("t", [{"id": 1}])
def child():
    lancedb.connect("db").open_table("t").count_rows()  # used
process = multiprocessing.get_context("fork").Process(target=child, daemon=True)
process.start()
input()
process.kill()
process.join()
print(process.exitcode, table.count_rows())
"""


def test_a_forked_child_of_lancedb_is_told_before_it_hangs(
    environment: Callable[..., dict[str, str]], program: Callable[..., Path], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-W", "ignore", "-m", "leakagent", "--report", f"text,json:{report}", program(FORKS)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        late = threading.Timer(120, process.kill)
        late.start()
        try:
            lines = []
            while not lines or ("   fix  " not in lines[-1] and lines[-1]):
                lines.append(process.stderr.readline())
            stdout, stderr = process.communicate("\n")
        finally:
            late.cancel()
            process.kill()
    line = next(number for number, line in enumerate(FORKS.splitlines(), 1) if line.endswith("# used"))
    told = "".join(lines)
    assert "leakagent: lancedb background loop kept the process from ending" in told, told
    assert f"app.py:{line} child" in told, told
    assert stdout.splitlines() == ["-9 1"], stderr
    found = json.loads(report.read_text(encoding="utf-8"))["findings"]
    assert ("blocks_exit", "lancedb.loop", line) in [(one["reason"], one["kind"], one["site"]["line"]) for one in found], found


# 0.6.3 catches what comes up while a batch is handed on to the indices, and acknowledges it in part: the signal comes in the middle of that.
IN_A_BATCH = """\
import sys
import time
import chromadb
client = chromadb.PersistentClient("db", settings=chromadb.Settings(anonymized_telemetry=False))
things = client.get_or_create_collection("things", embedding_function=None)
if sys.argv[1:] == ["read"]:
    print(things.count())
    sys.exit()
from chromadb.segment.impl.metadata.sqlite import SqliteMetadataSegment
from leakagent.shutdown.signals import state
write = SqliteMetadataSegment._insert_record
def slowly(*args):
    print("writing", flush=True)
    while not state.number:
        time.sleep(0.01)
    return write(*args)
SqliteMetadataSegment._insert_record = slowly
things.add(ids=[str(n) for n in range(50)], embeddings=[[float(n), 1.0] for n in range(50)])
while True:
    time.sleep(0.01)
"""


def test_sigterm_in_the_middle_of_a_batch_of_chromadb(
    environment: Callable[..., dict[str, str]], python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    report, pipe = tmp_path / "report.json", subprocess.PIPE
    command = [sys.executable, "-W", "ignore", "-m", "leakagent", "--report", f"json:{report}", program(IN_A_BATCH)]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.terminate()
        try:
            _, stderr = process.communicate(timeout=240)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGTERM, stderr
    assert "Exception occurred" not in stderr
    found = json.loads(report.read_text(encoding="utf-8"))["findings"]
    assert [(one["reason"], one["kind"], one["action"]) for one in found] == [("not_closed", "chromadb.client", "closed")]
    assert python(program(IN_A_BATCH), "read").stdout == "50\n"
