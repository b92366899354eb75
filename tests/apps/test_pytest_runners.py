"""``pytest --leakagent`` with pytest-asyncio, anyio and pytest-xdist, and with the clients of vector databases."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ASYNCIO = """
import pytest_asyncio

@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server():
    task = asyncio.create_task(background())
    yield task
    task.cancel()

@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def forgotten():
    kept.append(asyncio.create_task(background()))  # forgotten
    yield

@pytest_asyncio.fixture
async def tidy():
    task = asyncio.create_task(background())
    yield
    task.cancel()

@pytest.mark.asyncio
async def test_own_loop_leaks():
    kept.append(asyncio.create_task(background()))

@pytest.mark.asyncio
async def test_own_loop_ends(tidy):
    await asyncio.to_thread(int)

@pytest.mark.asyncio(loop_scope="module")
async def test_shared_loop_is_first(server, forgotten):
    await asyncio.sleep(0)

@pytest.mark.asyncio(loop_scope="module")
async def test_shared_loop_leaks(server):
    kept.append(asyncio.create_task(background()))

@pytest.mark.asyncio(loop_scope="module")
async def test_shared_loop_cancels(server):
    task = asyncio.create_task(background())
    await asyncio.sleep(0)
    task.cancel()

@pytest.mark.asyncio(loop_scope="module")
async def test_shared_loop_ends_in_a_moment(server):
    asyncio.create_task(asyncio.sleep(0))
"""

ANYIO = """
import anyio

@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param

@pytest.fixture(scope="module")
async def server(anyio_backend):
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 600)
        yield
        group.cancel_scope.cancel()

@pytest.mark.anyio
async def test_tidy(server):
    await anyio.to_thread.run_sync(int)
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0.01)

@pytest.mark.anyio
async def test_leaks(server, anyio_backend):
    if anyio_backend == "asyncio":
        kept.append(asyncio.create_task(background()))
    else:
        kept.append(ThreadPoolExecutor(1))

@pytest.mark.anyio
async def test_next(server):
    await anyio.sleep(0)
"""

CLIENTS = """
import chromadb, lancedb

@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    client = chromadb.PersistentClient(path=str(tmp_path_factory.mktemp("shared")))
    yield client
    client.close()

@pytest.fixture
def table(tmp_path):
    return lancedb.connect(tmp_path).create_table("t", [{"vector": [1.0, 2.0]}])

def test_chroma_leaks(shared, tmp_path):
    kept.append(chromadb.PersistentClient(path=str(tmp_path)))

def test_chroma_closes(shared, tmp_path):
    shared.get_or_create_collection("some")
    with chromadb.PersistentClient(path=str(tmp_path)) as client:
        client.create_collection("some")

def test_lance_lets_go(table):
    assert table.count_rows() == 1

def test_lance_leaks(tmp_path):
    kept.append(lancedb.connect(tmp_path))

def test_lance_async_leaks(tmp_path):
    async def main():
        kept.append(await lancedb.connect_async(tmp_path))
    asyncio.run(main())

def test_lance_async_closes(tmp_path):
    async def main():
        with await lancedb.connect_async(tmp_path) as db:
            await db.list_tables() if hasattr(db, "list_tables") else None
    asyncio.run(main())
"""


def test_pytest_asyncio(outcome: Callable[..., Any]) -> None:
    after = outcome(ASYNCIO, "-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function")
    assert after.of("failure") == ["test_own_loop_leaks", "test_shared_loop_leaks"], after
    assert after.of("error") == [], after
    _, end = after.ran.stdout.split("leakagent: left alive at the end of the session")
    # Where CI is set, pytest's summary has the whole of each message.
    end = end.partition("short test summary info")[0]
    assert end.count("asyncio task still alive") == 1, after
    assert "made by fixture forgotten (module, test_it.py)" in end, after


def test_anyio(outcome: Callable[..., Any]) -> None:
    after = outcome(ANYIO, "-p", "anyio.pytest_plugin")
    assert after.of("failure") == ["test_leaks[asyncio]", "test_leaks[trio]"], after
    assert after.of("error") == [], after
    assert "end of the session" not in after.ran.stdout, after


ANYIO_AND_OTHERS = """
import os
import anyio, anyio.to_process, httpx
from blockbuster import blockbuster_ctx
from leakagent import guard

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_process_pool():
    assert await anyio.to_process.run_sync(int) == 0

async def answers(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

@pytest.mark.anyio
async def test_a_client_without_a_connection():
    kept.append(httpx.AsyncClient(transport=httpx.ASGITransport(answers), base_url="http://here"))
    assert (await kept[0].get("/")).status_code == 200

@pytest.mark.anyio
async def test_a_client_with_a_connection():
    async def answer(reader, writer):
        await reader.readuntil(b"\\r\\n\\r\\n")
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        kept.append(httpx.AsyncClient())  # leaks
        await kept[-1].get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        server.close()

@pytest.mark.anyio
async def test_blocking_calls_are_looked_for():
    with blockbuster_ctx():
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
        await child.wait()
        if os.fork() == 0:
            os._exit(bool(guard.disabled))
        assert os.wait()[1] == 0
        with pytest.raises(Exception, match="Blocking call to time.sleep"):
            time.sleep(0.01)
    assert not guard.disabled
"""


def test_what_only_looks_like_a_leak(outcome: Callable[..., Any]) -> None:
    """What the suites of starlette and anyio have told falsely (docs/false-alarms.md)."""
    after = outcome(ANYIO_AND_OTHERS, "-p", "anyio.pytest_plugin")
    assert after.of("failure") == ["test_a_client_with_a_connection"], after
    line = next(number for number, text in enumerate(after.text.splitlines(), 1) if text.endswith("# leaks"))
    assert f"test_it.py:{line} " in after.message("test_a_client_with_a_connection"), after
    assert after.of("error") == [], after
    assert "end of the session" not in after.ran.stdout, after


def test_pytest_xdist(outcome: Callable[..., Any]) -> None:
    after = outcome(
        """
@pytest.fixture(scope="session")
def forgotten():
    kept.append(ThreadPoolExecutor(1))

@pytest.mark.parametrize("number", range(6))
def test_some(number, forgotten):
    if number == 3:
        kept.append(ThreadPoolExecutor(1))
""",
        *("-p", "xdist.plugin", "-n", "2"),
    )
    assert after.of("failure") == ["test_some[3]"], after
    assert after.of("error") == [], after
    _, end = after.ran.stdout.split("leakagent: left alive at the end of the session")
    assert "made by fixture forgotten (session, test_it.py)" in end, after
    assert [one["test_id"] for one in after.findings if one["test_id"]] == ["test_it.py::test_some[3]"], after


def test_clients(outcome: Callable[..., Any]) -> None:
    after = outcome(CLIENTS, env={"ANONYMIZED_TELEMETRY": "False"})
    assert after.of("failure") == ["test_chroma_leaks", "test_lance_leaks", "test_lance_async_leaks"], after
    assert after.of("error") == [], after
    assert "end of the session" not in after.ran.stdout, after


LANCE_LOOPS = """
import lancedb
from lancedb.background_loop import LOOP, BackgroundEventLoop
from leakagent.testing import restart_lancedb_loop, stop_lancedb_loop

pytest_plugins = ["leakagent.pytest_lancedb"]

def count(tmp_path):
    return lancedb.connect(tmp_path).create_table("t", [{"id": 1}]).count_rows()

def test_uses_it(tmp_path):
    assert count(tmp_path) == 1

def test_stops_it_well(tmp_path):
    assert stop_lancedb_loop()
    assert count(tmp_path) == 1

def test_by_the_fixture(tmp_path, no_lancedb_loop):
    assert count(tmp_path) == 1

def test_second_loop(tmp_path):
    assert count(tmp_path) == 1
    kept.append(BackgroundEventLoop())  # test_second_loop

def test_replaces_it(tmp_path):
    assert count(tmp_path) == 1
    LOOP.__init__()  # test_replaces_it

def test_call_in_flight(tmp_path):
    assert count(tmp_path) == 1
    began = threading.Event()
    async def call():
        began.set()
        await asyncio.sleep(600)
    def ask():
        LOOP.run(call())  # test_call_in_flight
    threading.Thread(target=ask, daemon=True).start()
    began.wait()

def test_stops_and_forgets_it():  # test_stops_and_forgets_it
    LOOP.loop.call_soon_threadsafe(LOOP.loop.stop)
    LOOP.thread.join()

def test_goes_on(tmp_path):
    LOOP.loop.close()
    assert restart_lancedb_loop()
    assert count(tmp_path) == 1
"""


def test_what_is_done_to_the_loop_of_lancedb(outcome: Callable[..., Any]) -> None:
    after = outcome(LANCE_LOOPS)
    leaky = ["test_second_loop", "test_replaces_it", "test_call_in_flight", "test_stops_and_forgets_it"]
    assert after.of("failure") == leaky, after
    assert after.of("error") == [], after
    for name in leaky:
        line = next(number for number, text in enumerate(after.text.splitlines(), 1) if text.endswith(f"# {name}"))
        assert f"test_it.py:{line} " in after.message(name), after
    kinds = {name: {one["kind"] for one in after.findings if one["test_id"] == f"test_it.py::{name}"} for name in leaky}
    loop = {"lancedb.loop"}
    assert kinds == {**dict.fromkeys(leaky, loop), "test_call_in_flight": {"thread", "asyncio.task"}}, after
    assert "the next call of lancedb waits for ever" in after.message("test_stops_and_forgets_it")
    assert "on lancedb's background loop" in after.message("test_call_in_flight")
    assert "end of the session" not in after.ran.stdout, after


BLOCK = """
import asyncio, lancedb
from lancedb.background_loop import LOOP
from leakagent.testing import LeaksFoundError, assert_no_leaks

with assert_no_leaks():
    lancedb.connect("db").create_table("t", [{"id": 1}])
try:
    with assert_no_leaks():
        LOOP.loop.call_soon_threadsafe(LOOP.loop.stop)
        LOOP.thread.join()
except LeaksFoundError as error:
    print(error)
LOOP.loop.close()
with assert_no_leaks():
    LOOP.__init__()
"""


def test_a_block_that_stops_the_loop_of_lancedb(run: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    ran = run([sys.executable, program(BLOCK)], cwd=tmp_path)
    assert ran.returncode == 0, ran
    assert "left alive by the block\nlancedb background loop not closed\n" in ran.stdout, ran
    assert "the next call of lancedb waits for ever" in ran.stdout, ran
