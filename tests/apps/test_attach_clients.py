"""``leakagent attach`` takes up clients that are there: what it runs in the program (`leakagent.attached`), with real libraries.

That the interpreter runs it in another process is shown by ``tests/live/test_attach.py``, on versions that can.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROGRAM = """
import asyncio, gc, json
import chromadb, lancedb

async def connect():
    return await lancedb.connect_async("lance")

client = chromadb.PersistentClient(path="chroma")
same = chromadb.PersistentClient(path="chroma")
closed = chromadb.EphemeralClient()
closed.close()
kept = lancedb.connect("lance")
table = kept.create_table("t", [{"id": 1}])
dropped = lancedb.connect("lance")
opened = asyncio.run(connect())
ended = asyncio.run(connect())
ended.close()

from leakagent.attached import attach
print(json.dumps(attach({"LEAKAGENT_REPORT": "text,json:report.json"}, is_borrowed=False)), flush=True)
del dropped
gc.collect()
print(client.get_or_create_collection("some").count(), table.count_rows())
"""


def test_clients_that_are_there(run: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    ran = run([sys.executable, program(PROGRAM)], cwd=tmp_path, env={"ANONYMIZED_TELEMETRY": "False"})
    first, last = ran.stdout.splitlines()
    assert (ran.returncode, last) == (0, "0 1"), ran
    adopted = json.loads(first)["adopted"]
    assert (adopted["chromadb.client"], adopted["lancedb.connection"]) == (2, 3), ran
    assert "thread_pool" not in adopted, ran  # lancedb's own
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["findings"]
    told = {(one["kind"], one["reason"]): one for one in found}
    assert set(told) == {("chromadb.client", "not_closed"), ("lancedb.connection", "not_closed")}, found
    chroma = told["chromadb.client", "not_closed"]
    assert chroma["count"] == 2
    assert [name.partition("(")[2] for name in sorted(chroma["names"])] == ["__main__.client)", "__main__.same)"], chroma
    assert "made before leakagent was attached, nobody saw where" in chroma["evidence"]
    assert chroma["action"] == "closed"
    lance = told["lancedb.connection", "not_closed"]
    assert sorted(lance["names"]) == ["__main__.kept", "__main__.opened"], lance  # the one that was let go of has ended
