"""Every way into this lancedb, left open, dropped and closed as well as this release allows; prints one JSON line for each.

    python -m leakagent lance_connections.py FOLDER

The background loop ends with the last line, where it must have no thread any more.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading

import lancedb

import leakagent

folder = sys.argv[1]
numbers = iter(range(1000))
ROWS = [{"id": n, "vector": [float(n), 1.0]} for n in range(3)]
NAMES = ("LanceDBBackgroundEventLoop",)


def path() -> str:
    return os.path.join(folder, str(next(numbers)))


def connect() -> object:
    db = lancedb.connect(path())
    table = db.create_table("t", ROWS)
    assert table.search([1.0, 1.0]).limit(1).to_list()[0]["id"] == 1
    assert len(db.open_table("t")) == len(ROWS)
    return db


def connect_async() -> object:
    async def make() -> object:
        db = await lancedb.connect_async(path())
        table = await db.create_table("t", ROWS)
        assert await table.count_rows() == len(ROWS)
        return db

    return asyncio.run(make())


def connect_namespace() -> object:
    db = lancedb.connect_namespace("dir", {"root": path()})
    db.create_table("t", ROWS)
    return db


def connect_namespace_async() -> object:
    # No coroutine; what it returns has no close(), like a synchronous one.
    db = lancedb.connect_namespace_async("dir", {"root": path()})
    asyncio.run(db.create_table("t", ROWS))
    return db


# Nothing is asked over the network before the first call.
SERVER = {"uri": "db://nobody", "api_key": "key", "host_override": "http://127.0.0.1:9"}


def remote() -> object:
    return lancedb.connect(**SERVER)


def remote_async() -> object:
    async def make() -> object:
        return await lancedb.connect_async(**SERVER)

    return asyncio.run(make())


def core(db: object) -> object:
    """Return what can be closed of a connection, or None."""
    # A namespace's has the other name up to 0.34.
    names = () if type(db).__name__ == "AsyncConnection" else ("_conn", "_inner")
    inner = next((vars(db)[name] for name in names if name in vars(db)), db)
    return inner if "Async" in type(inner).__name__ else None


def close(db: object) -> None:
    inner = core(db)
    if inner is not None:
        inner.close()


def found_now() -> int:
    findings = leakagent.snapshot()["findings"]
    return sum(one["count"] for one in findings if (one["reason"], one["kind"]) == ("not_closed", "lancedb.connection"))


def main() -> None:
    kept = []
    for make in (connect, connect_async, connect_namespace, connect_namespace_async, remote, remote_async):
        if "namespace" in make.__name__ and not hasattr(lancedb, make.__name__):
            continue
        for how in ("closed", "dropped", "left open"):
            before = found_now()
            try:
                db = make()
            except (TypeError, ImportError) as error:
                print(json.dumps({"constructor": make.__name__, "how": how, "error": f"{type(error).__name__}: {error}"}))
                continue
            can_close = core(db) is not None
            if how == "closed":
                close(db)
            if how == "left open":
                kept.append(db)
            del db
            line = {"constructor": make.__name__, "how": how, "can_close": can_close, "found": found_now() - before}
            print(json.dumps(line), flush=True)
    report = leakagent.shutdown()
    found = [one for one in report["findings"] if one["kind"] == "lancedb.connection"]
    threads = [thread.name for thread in threading.enumerate() if thread.name in NAMES]
    # The line that made it is in the function of this name, or in one inside of it.
    by_function = {one["site"]["function"].partition(".")[0]: one["action"] for one in found if one["action"] != "none"}
    left = {"found": sum(one["count"] for one in found), "closed": sorted(by_function), "threads": threads}
    print(json.dumps({"constructor": "the end", "how": "", **left, "open": found_now()}), flush=True)


if __name__ == "__main__":
    main()
