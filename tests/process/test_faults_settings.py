"""Wrong settings: one clear line that names the variable, the value and what is allowed; the program is as it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

APP = """\
import sys
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(1) as pool:
    print("result", pool.submit(pow, 2, 5).result())
sys.exit(7)
"""

SECONDS = ("a number of seconds above 0", "using 10")
WRONG: dict[str, tuple[str, tuple[str, ...]]] = {
    "LEAKAGENT": ("banana", ("1, true, on, yes or 0, false, off, no", "the agent stays off")),
    "LEAKAGENT_BUDGET": ("banana", SECONDS),
    "LEAKAGENT_GRACE": ("-1", ("a number of seconds above 0", "using 3")),
    "LEAKAGENT_STALLED_AFTER": ("nan", ("a number of seconds above 0", "using 60")),
    "LEAKAGENT_LEVEL": ("sites", ("off, count, site, stack", "using site")),
    "LEAKAGENT_REPORT": ("jason:x", ("text, json:PATH, html:PATH", "'jason:x' is no report format", "using text")),
    "LEAKAGENT_FAIL_ON_LEAK": ("maybe", ("1, true, on, yes or 0, false, off, no", "using 0")),
    "LEAKAGENT_OTEL": ("loud", ("auto, global, off", "using auto")),
    "LEAKAGENT_LIVE": ("2", ("1, true, on, yes or 0, false, off, no", "using 1")),
    "LEAKAGENT_CONFIG": ("missing.toml", ("can't be read (No such file or directory)", "using the defaults")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value(name: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    value, words = WRONG[name]
    app = program(APP)
    ran = python(app, env={"LEAKAGENT": "1", name: value})
    assert (ran.returncode, ran.stdout) == (7, "result 32\n"), ran
    assert ran.stderr.count("\n") == 1, ran
    assert ran.stderr.startswith(f"leakagent: {name}={value!r} "), ran
    assert all(word in ran.stderr for word in words), ran
    # `python -m leakagent` does not start the program.
    ran = python("-m", "leakagent", app, env={name: value})
    assert (ran.returncode, ran.stdout) == (2, ""), ran
    assert ran.stderr.count("\n") == 1, ran
    assert ran.stderr.startswith(f"leakagent: {name}={value!r} "), ran


@pytest.mark.parametrize("value", ["-1", "0", "inf", "-inf", "nan", "1e999", "1,5", "10s", "0x10", "ten"])
def test_no_number_of_seconds(value: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    ran = python(program(APP), env={"LEAKAGENT": "1", "LEAKAGENT_BUDGET": value})
    assert (ran.returncode, ran.stdout) == (7, "result 32\n"), ran
    assert ran.stderr == f"leakagent: LEAKAGENT_BUDGET={value!r} is not valid (allowed: {SECONDS[0]}); {SECONDS[1]}\n"


FILES = {
    "broken": ("[tool.leakagent\nbudget = 3\n", "pyproject.toml can't be read as TOML ("),
    "no value": ("[tool.leakagent]\nbudget =\n", "pyproject.toml can't be read as TOML ("),
    "near miss": (
        "[tool.leakagent]\nbudgte = 3\n",
        "pyproject.toml: tool.leakagent.budgte is not an option (allowed: level, report, ",
    ),
    "a word": (
        "[tool.leakagent]\nbudget = 'long'\n",
        "pyproject.toml: tool.leakagent.budget='long' is not valid (allowed: a number",
    ),
    "a boolean": (
        "[tool.leakagent]\nbudget = true\n",
        "pyproject.toml: tool.leakagent.budget='true' is not valid (allowed: a number",
    ),
    "a number": ("[tool.leakagent]\nlevel = 3\n", "pyproject.toml: tool.leakagent.level='3' is not valid (allowed: off, count"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_file(name: str, python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    text, begin = FILES[name]
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    app = program(APP)
    ran = python(app, env={"LEAKAGENT": "1"})
    assert (ran.returncode, ran.stdout) == (7, "result 32\n"), ran
    assert ran.stderr.startswith(f"leakagent: {begin}"), ran
    assert ran.stderr.count("\n") == 1, ran
    # Without the agent nobody looks at it.
    assert python(app).stderr == ""


@pytest.mark.parametrize("content", [b"\xff\xfe\0", b"[tool.leakagent]\nbudget = 3 \0", None])
def test_a_file_that_is_no_text(
    content: bytes | None, python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "settings"
    path.mkdir() if content is None else path.write_bytes(content)
    ran = python(program(APP), env={"LEAKAGENT": "1", "LEAKAGENT_CONFIG": str(path)})
    assert (ran.returncode, ran.stdout) == (7, "result 32\n"), ran
    assert "can't be read" in ran.stderr
    assert ran.stderr.count("\n") == 1, ran


def test_all_at_once(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    env = {name: value for name, (value, _) in WRONG.items() if name not in {"LEAKAGENT", "LEAKAGENT_REPORT"}}
    ran = python(program(APP), env={**env, "LEAKAGENT": "1", "LEAKAGENT_REPORT": f"json:{report}"})
    assert (ran.returncode, ran.stdout) == (7, "result 32\n"), ran
    assert sorted(line.split("=")[0] for line in ran.stderr.splitlines()) == sorted(f"leakagent: {name}" for name in env)
    assert json.loads(report.read_text(encoding="utf-8"))["agent"]["disabled"] == []
