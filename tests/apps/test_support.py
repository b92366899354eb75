"""The rows of docs/support.md for the newest releases; `make matrix` runs them all."""

from __future__ import annotations

import importlib
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

MATRIX = Path(__file__).resolve().parents[1] / "matrix"

sys.path.append(os.fspath(MATRIX))
rows, killed, matrix = (importlib.import_module(name) for name in ("rows", "killed", "run"))


def check(library: str, part: Callable[..., Any], folder: Path) -> None:
    found = [rows.Row(library, version(library), *cells) for cells in part(sys.executable, folder, version(library))]
    assert found
    assert [row.line() for row in found if row.problem] == []


@pytest.mark.parametrize(
    ("library", "part"),
    [
        ("chromadb", rows.chroma_clients),
        ("chromadb", rows.residue("chroma_residue.py")),
        ("lancedb", rows.lance_connections),
        ("lancedb", rows.residue("lance_residue.py")),
        ("llama-index-core", rows.llama_answers),
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_the_rows_of_the_newest_release(library: str, part: Callable[..., Any], tmp_path: Path) -> None:
    check(library, part, tmp_path)


@pytest.mark.parametrize("signum", killed.SIGNALS, ids=lambda one: one.name)
@pytest.mark.parametrize(("library", "program"), [("chromadb", "chroma_writes.py"), ("lancedb", "lance_writes.py")])
def test_every_acknowledged_row_is_there(library: str, program: str, signum: int, tmp_path: Path) -> None:
    check(library, killed.killed(program, (signum,)), tmp_path)


@pytest.mark.parametrize("signum", ["SIGINT", "SIGTERM"])
def test_clients_of_streamlit_sessions(run: Callable[..., Any], tmp_path: Path, signum: str) -> None:
    program = MATRIX / "programs" / "streamlit_sessions.py"
    ran = run([sys.executable, program, sys.executable, tmp_path / "sessions", signum], cwd=tmp_path, timeout=400.0)
    assert ran.returncode == 0, ran
    (row,) = (json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{"))
    assert row["problem"] == "", row


def test_the_table_is_what_the_command_has_written() -> None:
    results = json.loads(matrix.RESULTS.read_text(encoding="utf-8"))
    assert matrix.TABLE.read_text(encoding="utf-8") == matrix.page(results)
    assert matrix._missing(results) == []
    assert [row for parts in results.values() for part in parts.values() for row in part["rows"] if row["problem"]] == []
    assert {row["library"] for parts in results.values() for part in parts.values() for row in part["rows"]} == set(rows.ROWS)
