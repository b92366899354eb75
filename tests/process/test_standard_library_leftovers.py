"""sqlite3 connections and temporary files: what is lost or piles up is told, what Python takes care of is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEAKY = """\
import gc
import sqlite3
import sys
import tempfile
from sqlite3 import connect
def opened(name):
    db = connect(name)  # line 7
    db.execute("create table if not exists t (a)")
    db.execute("insert into t values (1)")
    return db
lost = opened("lost.db")
saved = opened("saved.db")
saved.commit()
rolled_back = opened("rolled_back.db")
rolled_back.rollback()
closed = opened("closed.db")
closed.close()
opened("dropped.db")
gc.collect()
many = [sqlite3.connect("many.db") for _ in range(10)]  # line 20
for _ in range(2):
    tempfile.TemporaryDirectory()  # line 22
    tempfile.NamedTemporaryFile()  # line 23
    gc.collect()
files = [tempfile.NamedTemporaryFile() for _ in range(10)]  # line 25
folders = [tempfile.TemporaryDirectory() for _ in range(10)]
print(lost.execute("select count(*) from t").fetchone(), lost.in_transaction)
sys.exit(3)
"""


@pytest.fixture
def agent(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> Callable[..., Any]:
    """Run a program bare and under the agent, and return the latter and its report."""

    def run(text: str) -> tuple[Any, dict[str, Any]]:
        path = program(text)
        bare = python(path)
        for database in tmp_path.glob("*.db"):
            database.unlink()
        ran = python("-m", "leakagent", "--report", "json:report.json", path)
        assert (ran.returncode, ran.stdout, ran.stderr) == (bare.returncode, bare.stdout, bare.stderr)
        return ran, json.loads((tmp_path / "report.json").read_text("utf-8"))

    return run


def test_what_is_lost_or_piles_up(agent: Callable[..., Any], tmp_path: Path) -> None:
    ran, report = agent(LEAKY)
    assert (ran.returncode, ran.stdout) == (3, "(1,) True\n")
    found = {one["site"]["line"]: one for one in report["findings"]}
    assert {line: (one["kind"], one["count"], one["action"]) for line, one in found.items()} == {
        7: ("sqlite3.connection", 1, "none"),
        20: ("sqlite3.connection", 10, "none"),
        22: ("temporary_directory", 2, "none"),
        23: ("temporary_file", 2, "none"),
        25: ("temporary_file", 10, "closed"),
    }
    assert {one["reason"] for one in report["findings"]} == {"not_closed"}
    assert (found[7]["names"], found[7]["evidence"]) == (
        ["lost.db"],
        ["its transaction was not committed: what it has written is lost"],
    )
    assert "commit()" in found[7]["fix"]
    assert not [name for name in found[25]["names"] if (tmp_path / name).exists()]
    assert report["agent"]["disabled"] == []


CLEAN = """\
import contextlib
import gc
import sqlite3
import tempfile
import threading
shared = sqlite3.connect("one.db", check_same_thread=False)
shared.execute("create table if not exists t (a)")
shared.execute("insert into t values (1)")
shared.commit()
def used():
    with contextlib.closing(sqlite3.connect("one.db")) as db, db:
        db.execute("insert into t values (2)")
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(b"x")
    left = tempfile.TemporaryDirectory()
    left.cleanup()
    kept = tempfile.NamedTemporaryFile(delete=False)
    kept.close()
    sqlite3.connect(":memory:").execute("select 1")
for _ in range(3):
    used()
thread = threading.Thread(target=used)
thread.start()
thread.join()
folder = tempfile.TemporaryDirectory()
file = tempfile.NamedTemporaryFile()
text = tempfile.NamedTemporaryFile("w", suffix=".txt")
text.write("something")
class Mine(sqlite3.Connection):
    pass
mine = sqlite3.connect("two.db", factory=Mine)
print(type(mine).__name__, isinstance(shared, sqlite3.Connection), sqlite3.connect.__name__)
try:
    sqlite3.connect("/nowhere/at/all.db")
except sqlite3.OperationalError as error:
    print(error)
gc.collect()
"""


def test_what_is_as_documented(agent: Callable[..., Any]) -> None:
    _, report = agent(CLEAN)
    assert (report["findings"], report["agent"]["disabled"]) == ([], [])


FEW = """\
import sqlite3, tempfile
a = [sqlite3.connect(":memory:") for _ in range(9)]
b = [sqlite3.connect(":memory:") for _ in range(9)]
c = [tempfile.NamedTemporaryFile() for _ in range(9)]
d = [tempfile.NamedTemporaryFile() for _ in range(9)]
tempfile.TemporaryDirectory()
tempfile.TemporaryDirectory()
"""


@pytest.mark.parametrize("level", ["count", "site", "stack"])
def test_places_are_told_apart_at_every_level(
    python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path, level: str
) -> None:
    python("-m", "leakagent", "--level", level, "--report", "json:report.json", program(FEW))
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["findings"] == []


def test_the_identical_functions_come_back(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    text = """\
import sqlite3, sqlite3.dbapi2, tempfile, leakagent
def seen():
    return sqlite3.connect, sqlite3.dbapi2.connect, dict(vars(tempfile.TemporaryDirectory))
before = seen()
leakagent.install()
print(seen()[0] is before[0], seen()[1] is before[1], seen()[2] == before[2])
leakagent.uninstall()
print(seen() == before)
"""
    assert python(program(text)).stdout == "False False False\nTrue\n"


def test_they_are_no_background_work(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    # A program that makes some files needs no thread and no socket of the agent's.
    text = """\
import sqlite3, sys, tempfile
kept = tempfile.NamedTemporaryFile(), tempfile.TemporaryDirectory(), sqlite3.connect(":memory:")
import threading
print(threading.active_count(), [name for name in sys.modules if name.startswith("leakagent.live")])
"""
    assert python("-m", "leakagent", program(text)).stdout == "1 []\n"
