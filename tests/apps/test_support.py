"""The rows of docs/support.md for the newest releases; `make matrix` runs them all."""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

MATRIX = Path(__file__).resolve().parents[1] / "matrix"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("matrix_rows", MATRIX / "rows.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["matrix_rows"] = module
    spec.loader.exec_module(module)
    return module


rows = load()


@pytest.mark.parametrize(
    ("library", "part"),
    [("chromadb", rows.chroma_clients), ("lancedb", rows.lance_connections), ("llama-index-core", rows.llama_answers)],
)
def test_the_rows_of_the_newest_release(library: str, part: Callable[..., Any], tmp_path: Path) -> None:
    found = [rows.Row(library, version(library), *cells) for cells in part(sys.executable, tmp_path, version(library))]
    assert found
    assert [row.line() for row in found if row.problem] == []


@pytest.mark.parametrize("signum", ["SIGINT", "SIGTERM"])
def test_clients_of_streamlit_sessions(run: Callable[..., Any], tmp_path: Path, signum: str) -> None:
    program = MATRIX / "programs" / "streamlit_sessions.py"
    ran = run([sys.executable, program, sys.executable, tmp_path / "sessions", signum], cwd=tmp_path, timeout=400.0)
    assert ran.returncode == 0, ran
    (row,) = (json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{"))
    assert row["problem"] == "", row


def test_the_table_has_no_row_that_fails() -> None:
    text = (MATRIX.parents[1] / "docs" / "support.md").read_text(encoding="utf-8")
    assert "fails**" not in text
    read = [rows.Row.from_line(line) for line in text.splitlines() if line.startswith("| ") and "`" in line]
    assert {row.library for row in read} == set(rows.ROWS)
    assert [row.line() for row in read] == [line for line in text.splitlines() if line.startswith("| ") and "`" in line]
