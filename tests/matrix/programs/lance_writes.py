"""Writes into a directory until it is ended; with ``read`` it says what is there.

python lance_writes.py [read ROWS]
"""

from __future__ import annotations

import sys

import lancedb

BATCH = 50


def rows(n: int) -> list[dict]:
    return [{"id": n + one, "vector": [float(one), 1.0]} for one in range(BATCH)]


db = lancedb.connect("db")
if sys.argv[1:2] == ["read"]:
    table = db.open_table("t")
    count = table.count_rows()
    # `to_arrow` of 0.19 returns ten rows.
    found = table.search().select(["id"]).limit(count + 1).to_arrow()
    ids = set(found["id"].to_pylist())
    print(count, len(ids), BATCH, len(set(range(int(sys.argv[2]))) - ids))
    sys.exit()
table = db.create_table("t", rows(0))
n = BATCH
print(n, flush=True)
while True:
    table.add(rows(n))
    n += BATCH
    print(n, flush=True)
