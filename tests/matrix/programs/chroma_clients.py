"""Every constructor of this chromadb, left open, dropped, and closed as well as this release allows; prints one JSON line for each.

    python -m leakagent chroma_clients.py FOLDER PORT

PORT is a chromadb server's.  What remains is counted after everything was closed: by the agent where the program has not.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import sys
import time

import chromadb

import leakagent
from leakagent.watcher import own_threads

logging.disable(logging.CRITICAL)
#: How long what remains is waited for.
SECONDS = 10.0

folder, port = sys.argv[1:]
numbers = iter(range(1000))


def settings() -> chromadb.Settings:
    return chromadb.Settings(anonymized_telemetry=False)


def registry() -> dict:
    from chromadb.api.client import SharedSystemClient as Shared

    return next(vars(Shared)[name] for name in ("_identifier_to_system", "_identifer_to_system") if name in vars(Shared))


def persistent() -> object:
    return chromadb.PersistentClient(os.path.join(folder, str(next(numbers))), settings=settings())


def ephemeral() -> object:
    return chromadb.EphemeralClient(settings=settings())


def admin() -> object:
    path = os.path.join(folder, str(next(numbers)))
    wanted = chromadb.Settings(anonymized_telemetry=False, is_persistent=True, persist_directory=path)
    os.makedirs(path)
    made = chromadb.AdminClient(wanted)
    made.get_tenant("default_tenant")
    return made


def http() -> object:
    return chromadb.HttpClient(host="127.0.0.1", port=int(port), settings=settings())


def cloud() -> object:
    names = {"tenant": "default_tenant", "database": "default_database", "api_key": "key"}
    return chromadb.CloudClient(**names, cloud_host="127.0.0.1", cloud_port=int(port), enable_ssl=False, settings=settings())


def async_http() -> object:
    async def make() -> object:
        client = await chromadb.AsyncHttpClient(host="127.0.0.1", port=int(port), settings=settings())
        await client.heartbeat()
        return client

    return asyncio.run(make())


def use(client: object) -> None:
    if hasattr(client, "create_collection") and not isinstance(client, type) and "Async" not in type(client).__name__:
        things = client.get_or_create_collection("things", embedding_function=None)
        things.upsert(ids=["1", "2"], embeddings=[[1.0, 2.0], [3.0, 4.0]])
        assert things.query(query_embeddings=[[1.0, 2.0]], n_results=1)["ids"] == [["1"]]


def close(client: object) -> None:
    """Close a client as well as its author can: by close(), else by what that would do."""
    if hasattr(client, "close"):
        client.close()
        return
    if "Async" in type(client).__name__:
        return
    system = client._system
    if getattr(system, "_running", False):
        system.stop()
    for name in [name for name, known in registry().items() if known is system]:
        registry().pop(name)


def count() -> dict[str, int]:
    gc.collect()
    links = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _is_link(name)]
    return {
        "threads": len({*map(int, os.listdir("/proc/self/task"))} - own_threads()),
        "sockets": sum(link.startswith("socket:") for link in links),
        "files": sum(link.startswith("/") and folder in link for link in links),
        "Systems": len({id(system) for system in registry().values()}),
    }


def _is_link(name: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{name}")


def len_of(report: dict) -> int:
    return sum(one["count"] for one in report["findings"] if one["reason"] == "not_closed")


def ran(make: object, how: str) -> dict:
    before, earlier = count(), len_of(leakagent.snapshot())
    kept = []
    for _ in range(3):
        client = make()
        use(client)
        if how == "left open":
            kept.append(client)
        if how == "closed":
            close(client)
        del client
    seen = leakagent.snapshot()["findings"]
    report = leakagent.shutdown()
    kept.clear()
    # Native threads need a moment to be gone.
    end = time.monotonic() + SECONDS
    while (after := count()) != before and time.monotonic() < end:
        time.sleep(0.02)
    found = [one for one in report["findings"] if one["reason"] == "not_closed"]
    return {
        "found": len_of(report) - earlier,
        "functions": sorted({one["site"]["function"] for one in found}),
        "actions": sorted({one["action"] for one in found}),
        "unused": any("nobody uses it any more" in text for one in seen for text in one["evidence"]),
        "remains": {name: after[name] - before[name] for name in after if after[name] > before[name]},
    }


def main() -> None:
    constructors = {
        "PersistentClient": persistent,
        "EphemeralClient": ephemeral,
        "AdminClient": admin,
        "HttpClient": http,
        "CloudClient": cloud,
        "AsyncHttpClient": async_http,
    }
    # The first clients start what the process keeps for good.
    for client in [ephemeral(), *(persistent() for _ in range(3))]:
        use(client)
        close(client)
    del client
    for name, make in constructors.items():
        for how in ("left open", "dropped", "closed"):
            if not hasattr(chromadb, name) or (how == "closed" and name == "AsyncHttpClient"):
                continue
            try:
                result = ran(make, how)
            except TypeError as error:
                # CloudClient of old releases takes no address.
                result = {"error": str(error)}
            print(json.dumps({"constructor": name, "how": how, **result}), flush=True)


if __name__ == "__main__":
    main()
