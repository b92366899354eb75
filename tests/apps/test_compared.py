"""docs/compared.md: every example of it, run by pytest, says what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = (Path(__file__).parents[2] / "docs" / "compared.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^## (.+?)\n.*?```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)


def test_there_are_examples_of_all() -> None:
    assert {title.split(":")[0] for title, _, _ in EXAMPLES} == {"pyleak", "goleak", "pytest-threadleak"}


@pytest.mark.parametrize(("title", "code", "said"), EXAMPLES, ids=[title for title, _, _ in EXAMPLES])
def test_example(title: str, code: str, said: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    program(code, "test_example.py")
    options = ("-p", "leakagent.pytest_plugin", "--leakagent", "-o", "leakagent_grace=0.2")
    ran = python("-m", "pytest", "-q", *options, env={"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    assert ran.returncode == 1, ran
    for line in said.splitlines():
        # Lines of the standard library differ from version to version.
        wanted = re.sub(r"(asyncio/tasks\\\.py:)\d+", r"\1\\d+", re.escape(line))
        assert re.search(wanted, ran.stdout), (line, ran)
