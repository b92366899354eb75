"""Ten clients of one constructor, left open, dropped or closed; prints what was told, and what the process has more than before.

    python -m leakagent client_libraries.py LIBRARY CONSTRUCTOR HOW FOLDER PORT

On PORT is a server of the right kind.  What remains is counted after everything was closed: by the agent where the program has not.
Prints nothing if this release has no such constructor.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import sys
from contextlib import suppress

from counted import everything, more

import leakagent

logging.disable(logging.CRITICAL)

library, constructor, how, folder, port = sys.argv[1:]
url = f"http://127.0.0.1:{port}/"
numbers = iter(range(10_000))
MADE = 10


class Kind:
    """One constructor: makes a client, uses it, closes it; a coroutine where the client is asynchronous."""

    def __init__(self, name: str, make: object, use: object, close: object) -> None:
        self.name, self.make, self.use, self.close = name, make, use, close


def httpx() -> list[Kind]:
    import httpx

    async def get(client: httpx.AsyncClient) -> None:
        await client.get(url)

    return [
        Kind("Client", httpx.Client, lambda client: client.get(url), lambda client: client.close()),
        Kind("AsyncClient", httpx.AsyncClient, get, lambda client: client.aclose()),
    ]


def aiohttp() -> list[Kind]:
    import aiohttp

    async def get(session: aiohttp.ClientSession) -> None:
        async with session.get(url) as answer:
            await answer.read()

    return [Kind("ClientSession", aiohttp.ClientSession, get, lambda session: session.close())]


def requests() -> list[Kind]:
    import requests

    return [Kind("Session", requests.Session, lambda session: session.get(url), lambda session: session.close())]


def sqlalchemy() -> list[Kind]:
    import sqlalchemy
    from sqlalchemy.pool import QueuePool

    def make() -> object:
        # What is the default for a file from 2.0 on.
        return sqlalchemy.create_engine(f"sqlite:///{folder}.db", poolclass=QueuePool)

    def use(engine: sqlalchemy.engine.Engine) -> None:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("select 1"))

    return [Kind("create_engine", make, use, lambda engine: engine.dispose())]


def redis() -> list[Kind]:
    import redis
    import redis.asyncio

    def close(client: redis.asyncio.Redis) -> object:
        return client.aclose() if hasattr(client, "aclose") else client.close()

    return [
        Kind("Redis", lambda: redis.Redis(port=int(port)), lambda client: client.ping(), lambda client: client.close()),
        Kind("asyncio.Redis", lambda: redis.asyncio.Redis(port=int(port)), lambda client: client.ping(), close),
    ]


def qdrant() -> list[Kind]:
    import qdrant_client

    def path() -> str:
        return os.path.join(folder, str(next(numbers)))

    found = [
        Kind(
            "QdrantClient",
            lambda: qdrant_client.QdrantClient(path=path()),
            lambda client: client.get_collections(),
            lambda client: client.close(),
        )
    ]
    if hasattr(qdrant_client, "AsyncQdrantClient"):
        found.append(
            Kind(
                "AsyncQdrantClient",
                lambda: qdrant_client.AsyncQdrantClient(path=path()),
                lambda client: client.get_collections(),
                lambda client: client.close(),
            )
        )
    return found


def grpcio() -> list[Kind]:
    import grpc
    import grpc.aio

    address = f"127.0.0.1:{port}"

    def ask(channel: grpc.Channel) -> None:
        with suppress(grpc.RpcError):
            channel.unary_unary("/nobody/knows")(b"")

    async def ask_asynchronously(channel: grpc.aio.Channel) -> None:
        with suppress(grpc.RpcError):
            await channel.unary_unary("/nobody/knows")(b"")

    return [
        Kind("insecure_channel", lambda: grpc.insecure_channel(address), ask, lambda channel: channel.close()),
        Kind(
            "aio.insecure_channel",
            lambda: grpc.aio.insecure_channel(address),
            ask_asynchronously,
            lambda channel: channel.close(),
        ),
    ]


LIBRARIES = {
    "httpx": httpx,
    "aiohttp": aiohttp,
    "requests": requests,
    "sqlalchemy": sqlalchemy,
    "redis": redis,
    "qdrant-client": qdrant,
    "grpcio": grpcio,
}


async def made(kind: Kind, how: str) -> list[object]:
    """Make clients on one line, in an event loop: one that is not asynchronous does not notice.  Returns those that are kept."""
    kept = []
    for _ in range(MADE):
        client = kind.make()
        for step in (kind.use, kind.close) if how == "closed" else (kind.use,):
            result = step(client)
            if hasattr(result, "__await__"):
                await result
            del result
        if how != "dropped":
            kept.append(client)
        del client
        # An engine is in a cycle.
        gc.collect()
    return kept


def main() -> None:
    os.makedirs(folder)
    kind = next((one for one in LIBRARIES[library]() if one.name == constructor), None)
    if kind is None:
        return
    # The first ones start what the process keeps for good.
    asyncio.run(made(kind, "closed"))
    before = everything()
    kept = asyncio.run(made(kind, how))
    found = [one for one in leakagent.shutdown()["findings"] if one["reason"] == "not_closed"]
    remains = more(before)
    actions = sorted({one["action"] for one in found})
    print(json.dumps({"found": sum(one["count"] for one in found), "actions": actions, "remains": remains}), flush=True)
    del kept


if __name__ == "__main__":
    main()
