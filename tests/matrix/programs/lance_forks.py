"""A forked child that uses the lancedb it has inherited.

python lance_forks.py FOLDER
"""

from __future__ import annotations

import os
import sys

import lancedb
from forked import forked

path = os.path.join(sys.argv[1], "db")
table = lancedb.connect(path).create_table("t", [{"id": 1}])


def use() -> None:
    assert len(lancedb.connect(path).open_table("t")) == 1


forked(use)
assert len(table) == 1
