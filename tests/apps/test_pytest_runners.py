"""``pytest --leakagent`` with pytest-asyncio, anyio and pytest-xdist, and with the clients of vector databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

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
