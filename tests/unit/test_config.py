"""Settings: which source wins, what is refused, and that nothing else is looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from leakagent import config

if TYPE_CHECKING:
    from pathlib import Path

DEFAULTS = {
    "baseline": "", "level": "site", "report": "text", "fail_on_leak": False, "budget": 10.0, "grace": 3.0, "stalled_after": 60.0,
    "ignore": (), "otel": "auto", "otel_wait": 1.0, "otel_memory": False, "live": True, "orphans": "end", "subprocesses": "keep",
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(**environ: str) -> tuple[config.Settings, list[str]]:
    return config.load({"LEAKAGENT": "1", **environ})


def test_the_defaults() -> None:
    settings, errors = load()
    assert errors == []
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS
    assert (settings.enabled, settings.config) == (True, "")
    assert set(config.OPTIONS) == set(DEFAULTS)
    assert "budget=10.0" in repr(settings)


@pytest.mark.parametrize("text", ["", "0", "false", "OFF", " no ", "1", "True", "ON", "yes "])
def test_the_switch(text: str) -> None:
    settings, errors = config.load({"LEAKAGENT": text})
    assert (settings.enabled, errors) == (text.strip().lower() in {"1", "true", "on", "yes"}, [])


def test_settings_are_frozen() -> None:
    settings, _ = load()
    with pytest.raises(AttributeError, match="budget can't be set"):
        settings.budget = 5
    assert settings.budget == 10


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.leakagent]\nbudget = 5\ngrace = 1.5\nfail-on-leak = true\nignore = ['thread', 'a.py:3']\nlive = false\n",
        encoding="utf-8",
    )
    settings, errors = load(LEAKAGENT_BUDGET="7")
    assert errors == []
    assert (settings.budget, settings.grace, settings.fail_on_leak, settings.live) == (7, 1.5, True, False)
    assert (settings.ignore, settings.config) == (("thread", "a.py:3"), "pyproject.toml")
    # An empty variable is as good as none, but for the list, which it empties.
    settings, _ = load(LEAKAGENT_GRACE="", LEAKAGENT_IGNORE="")
    assert (settings.grace, settings.ignore) == (3.0, ())


def test_an_agent_that_is_off_reads_no_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.leakagent\n", encoding="utf-8")
    assert config.load({})[1] == []
    assert config.load({"LEAKAGENT": "0"})[1] == []
    assert len(load()[1]) == 1


def test_a_file_without_the_table_is_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("this is = no TOML [\n", encoding="utf-8")
    settings, errors = load()
    assert (errors, settings.config) == ([], "")


@given(st.sampled_from(sorted(config.OPTIONS)), st.text(st.characters(blacklist_categories=["Cs"]), max_size=12))
def test_any_value_gives_a_setting_and_at_most_one_line(name: str, text: str) -> None:
    settings, errors = load(**{config.variable(name): text})
    assert len(errors) <= 1
    assert type(getattr(settings, name)) is type(DEFAULTS[name])
    if errors:
        assert getattr(settings, name) == DEFAULTS[name]
        assert errors[0].startswith(f"{config.variable(name)}={text!r} is not valid (allowed: ")


VALUES = st.text(st.characters(blacklist_characters="\0"), max_size=60)


@given(st.dictionaries(st.sampled_from(["LEAKAGENT", "LEAKAGENT_CONFIG", *map(config.variable, config.OPTIONS)]), VALUES))
def test_any_environment_gives_settings_and_one_line_for_each_wrong_value(environ: dict[str, str]) -> None:
    settings, errors = config.load(environ)
    assert len(errors) <= len(environ)
    assert all(len(error.splitlines()) == 1 and len(error) < 1000 for error in errors)
    assert {name: type(getattr(settings, name)) for name in DEFAULTS} == {name: type(value) for name, value in DEFAULTS.items()}


TABLES = st.dictionaries(
    st.sampled_from([*config.OPTIONS, "fail-on-leak", "no-option"]) | st.text("ab \n'\"", min_size=1, max_size=5),
    st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.text("ab,:\n\\\"'", max_size=8)
    | st.lists(st.integers(0, 9) | st.booleans(), max_size=3),
    max_size=4,
)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TABLES, st.binary(max_size=20))
def test_any_file_gives_settings_and_lines(tmp_path: Path, table: dict[str, Any], more: bytes) -> None:
    lines = [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table.items()]
    (tmp_path / "pyproject.toml").write_bytes("\n".join(["[tool.leakagent]", *lines, ""]).encode() + more)
    settings, errors = load()
    assert all(len(error.splitlines()) == 1 and len(error) < 1000 for error in errors)
    assert {name: type(getattr(settings, name)) for name in DEFAULTS} == {name: type(value) for name, value in DEFAULTS.items()}


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_seconds(value: float) -> None:
    settings, errors = load(LEAKAGENT_GRACE=repr(value))
    valid = 0 < value < 1e9
    assert (errors == [], settings.grace) == (valid, value if valid else 3.0)


@given(st.lists(st.text("abc.:_/ <>", min_size=1, max_size=8), max_size=4))
def test_ignore_patterns(patterns: list[str]) -> None:
    expected = tuple(pattern.strip() for pattern in patterns if pattern.strip())
    assert load(LEAKAGENT_IGNORE=",".join(patterns))[0].ignore == expected


def test_variables_are_the_documented_names() -> None:
    assert config.variable("fail_on_leak") == "LEAKAGENT_FAIL_ON_LEAK"


# -- who is the root -----------------------------------------------------------------------------------------------------


def test_the_root_is_known_by_pid_and_start_time() -> None:
    marker = config.root_marker()
    environ = {config.ROOT_VARIABLE: marker}
    assert config.root_of(environ) == os.getpid()
    assert not config.is_child(environ)
    pid, _, started = marker.partition(":")
    assert started.isdigit()
    # A pid that was used again has another start time.
    assert config.root_of({config.ROOT_VARIABLE: f"{pid}:{int(started) + 1}"}) == 0
    assert config.is_child({config.ROOT_VARIABLE: f"{os.getppid()}:{config.start_time(os.getppid())}"})


@pytest.mark.parametrize(
    "marker", ["", ":", "x:1", "-1:1", "1", f"{2**40}:1", f"{2**22 + 1}:", "9" * 5000 + ":1", "²:1", "1:2:3", " 1:1"]
)
def test_markers_that_name_nobody(marker: str) -> None:
    assert config.root_of({config.ROOT_VARIABLE: marker}) == 0
    assert not config.is_child({config.ROOT_VARIABLE: marker})


def test_a_process_that_has_ended_has_no_start_time() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    assert config.start_time(process.pid).isdigit()
    process.wait()
    assert config.start_time(process.pid) == ""
