"""Programs that are ended in the middle of writing: every row that was acknowledged is there, as without the agent."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Rows of a batch, and batches that have been acknowledged when the signal comes.
BATCH = 50
ENOUGH = 10

CHROMADB = f"""\
import chromadb
things = chromadb.PersistentClient("db").get_or_create_collection("things", embedding_function=None)
n = 0
while True:
    things.add(ids=[str(n + one) for one in range({BATCH})], embeddings=[[float(n + one), 1.0] for one in range({BATCH})])
    n += {BATCH}
    print(n, flush=True)
"""

CHROMADB_READS = """\
import chromadb
things = chromadb.PersistentClient("db").get_collection("things", embedding_function=None)
print(things.count(), len(set(things.get()["ids"])))
"""

LANCEDB = f"""\
import lancedb
rows = lambda n: [{{"id": n + one, "vector": [float(one), 1.0]}} for one in range({BATCH})]
table = lancedb.connect("db").create_table("t", rows(0))
n = {BATCH}
print(n, flush=True)
while True:
    table.add(rows(n))
    n += {BATCH}
    print(n, flush=True)
"""

LANCEDB_READS = """\
import lancedb
table = lancedb.connect("db").open_table("t")
print(table.count_rows(), len(set(table.to_arrow()["id"].to_pylist())))
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
@pytest.mark.parametrize(("writes", "reads"), [(CHROMADB, CHROMADB_READS), (LANCEDB, LANCEDB_READS)], ids=["chromadb", "lancedb"])
def test_every_acknowledged_row_is_there(
    environment: Callable[..., dict[str, str]], tmp_path: Path, writes: str, reads: str, signum: int
) -> None:
    env = environment({"ANONYMIZED_TELEMETRY": "False", "LEAKAGENT_REPORT": "text"})
    writer: Any
    command = [sys.executable, "-m", "leakagent", "-c", writes]
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as writer:
        for _ in range(ENOUGH):
            writer.stdout.readline()
        writer.send_signal(signum)
        stdout, stderr = writer.communicate(timeout=120)
    assert writer.returncode == -signum, stderr
    acknowledged = int(stdout.split()[-1]) if stdout else ENOUGH * BATCH
    ran = subprocess.run([sys.executable, "-c", reads], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    count, different = map(int, ran.stdout.split())
    # One batch may have been written and not acknowledged.
    assert (count, different) in {(acknowledged, acknowledged), (acknowledged + BATCH, acknowledged + BATCH)}, stderr
