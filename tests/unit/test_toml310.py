"""Python 3.10 reads its one table as `tomllib` does, or refuses it; it never reads something else."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakagent._toml310 import table

NAME = "tool.leakagent"

READ: dict[str, Any] = {
    "budget = 3": {"budget": 3},
    "budget = 3.5 # seconds": {"budget": 3.5},
    "budget=3": {"budget": 3},
    "  budget  =  -1_000  ": {"budget": -1000},
    "live = true # yes": {"live": True},
    "live = false": {"live": False},
    "report = 'json:C:\\new'": {"report": "json:C:\\new"},
    'report = "a # b"': {"report": "a # b"},
    'report = "\\u00e9\\n"': {"report": "é\n"},
    'ignore = ["a", "b"]': {"ignore": ["a", "b"]},
    'ignore = [\n  "a", # one\n  "b",\n]\nbudget = 3': {"ignore": ["a", "b"], "budget": 3},
    "ignore = []": {"ignore": []},
    '"fail-on-leak" = true': {"fail-on-leak": True},
    "# nothing": {},
    "budget = 3\n[tool.other]\nbudget = 5": {"budget": 3},
    "budget = 3\n[tool.leakagent.sub]\nbudget = 5\nlevel = {a = 1}": {"budget": 3},
    "budget = 3\n[[tool.others]]\nx =": {"budget": 3},
}
REFUSED = [
    "budget", "budget =", "budget = 3\nbudget = 4", "budget = None", "live = True", "live = yes", "x = ()", "x = (1, 2)", "x = {}",
    "ignore = [", 'ignore = ["a"\nbudget = 3', 'x = "a', "x = 3 4", "x = __import__('os')", "x = 'a' + 1", "x = 1; y = 2",
]  # fmt: skip


@pytest.mark.parametrize("text", READ)
def test_what_is_read(text: str) -> None:
    assert table(f"[project]\nname = 'x'\nbudget = 9\n[{NAME}]\n{text}\n", NAME) == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"line \d+ is not understood: "):
        table(f"[{NAME}]\n{text}", NAME)


@pytest.mark.parametrize("header", ["[tool.leakagent] # ours", "[ tool.leakagent ]", "  [tool . leakagent]"])
def test_headers(header: str) -> None:
    assert table(f"{header}\nbudget = 3", NAME) == {"budget": 3}


@pytest.mark.parametrize(
    "header", ["[tool.leakagents]", "[[tool.leakagent]]", "[tool]", "#[tool.leakagent]", "x = '[tool.leakagent]'"]
)
def test_other_headers(header: str) -> None:
    assert table(f"{header}\nbudget = 3", NAME) == {}


def test_an_open_header() -> None:
    with pytest.raises(ValueError, match="line 1 is not understood"):
        table(f"[{NAME}\nbudget = 3", NAME)


def _quoted(text: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(char, char) for char in text) + '"'


SIMPLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FF, blacklist_characters="\x7f\x85"), max_size=20)
VALUES = st.one_of(SIMPLE, st.integers(-(10**6), 10**6), st.booleans(), st.lists(SIMPLE, max_size=3))
KEYS = st.text("abcdefghijklmnopqrstuvwxyz_-0123456789", min_size=1, max_size=12)


def _written(value: object) -> str:
    if isinstance(value, list):
        return "[" + ",\n ".join(_quoted(item) for item in value) + "]"
    return _quoted(value) if isinstance(value, str) else str(value).lower()


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_what_is_written_is_read(values: dict[str, object]) -> None:
    text = f"[{NAME}]\n" + "\n".join(f"{key} = {_written(value)}" for key, value in values.items())
    assert table(text, NAME) == values
    if sys.version_info >= (3, 11):
        import tomllib

        assert tomllib.loads(text).get("tool", {}).get("leakagent", {}) == values
