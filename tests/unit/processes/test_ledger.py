"""The ledger: what is noted is read again, and of a damaged file nothing but whole lines that make sense."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leakagent.processes import ledger

TEXTS = st.text(max_size=400)


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "leakagent"


def written(kind: str, names: list[str]) -> Path:
    """Note this process's starter and itself under these names, and return the file."""
    made = ledger.Ledger()
    for name in names:
        made.note(os.getppid() if len(name) % 2 else os.getpid(), kind, name, None, 0)
    return Path(made._path)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=5))
def test_what_is_noted_is_read(kind: str, names: list[str]) -> None:
    path = written(kind, names)
    page = ledger.read(str(path))
    assert page is not None
    assert (page.head["pid"], page.starter_is_gone) == (os.getpid(), False)
    # Helpers of multiprocessing are noted as well, if the test runner has any.
    mine = [entry for entry in page.entries if entry["kind"] == kind]
    assert [entry["name"] for entry in mine] == [name[: ledger._LONGEST_TEXT] for name in names]
    path.unlink()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(string.ascii_letters, min_size=1, max_size=10), min_size=1, max_size=4), st.floats(0, 1))
def test_of_a_file_that_ends_anywhere_the_whole_lines_are_read(names: list[str], share: float) -> None:
    path = written("process", names)
    whole = path.read_bytes()
    before = ledger.read(str(path))
    assert before is not None
    cut = int(share * len(whole))
    path.write_bytes(whole[:cut])
    page = ledger.read(str(path))
    # A line is whole without its last byte, the end of the line.
    lines = [line for line in (whole[:cut] + b"\n").split(b"\n") if line in whole.split(b"\n") and line]
    assert (0 if page is None else 1 + len(page.entries)) == len(lines)
    if page is not None:
        assert page.entries == before.entries[: len(page.entries)]
    path.unlink()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes(data: bytes, after_the_head: bool) -> None:
    path = written("process", ["a"])
    head = path.read_bytes().split(b"\n")[0] + b"\n"
    path.write_bytes(head + data if after_the_head else data)
    page = ledger.read(str(path))
    assert page is None or (after_the_head and page.entries == []) or data.startswith(b"{")
    path.unlink()
