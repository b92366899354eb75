"""The spool: what a child hands over arrives once, at its own root only, in a folder of the user's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leakagent import config
from leakagent.processes import family


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "leakagent"


def environ() -> dict[str, str]:
    return {config.ROOT_VARIABLE: config.root_marker()}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r"), max_size=50))
def test_what_is_handed_over_is_taken_over_once(text: str) -> None:
    marker = config.root_marker()
    assert family.hand_over(environ(), text)
    assert list(family.take_over(marker)) == [text]
    assert list(family.take_over(marker)) == []


def test_nothing_is_left_behind(runtime: Path) -> None:
    family.hand_over(environ(), "{}")
    (spool,) = runtime.iterdir()
    assert [oct(path.stat().st_mode & 0o777) for path in (runtime, spool)] == ["0o700", "0o700"]
    assert list(family.take_over(config.root_marker())) == ["{}"]
    assert list(runtime.iterdir()) == []


def test_another_root_gets_nothing(runtime: Path) -> None:
    family.hand_over(environ(), "{}")
    pid, _, started = config.root_marker().partition(":")
    assert list(family.take_over(f"{pid}:{int(started) + 1}")) == []
    assert list(family.take_over(config.root_marker())) == ["{}"]


def test_a_root_that_is_gone_gets_nothing(runtime: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        marker = f"{process.pid}:{config.start_time(process.pid)}"
        assert family.hand_over({config.ROOT_VARIABLE: marker}, "{}")
    assert not family.hand_over({config.ROOT_VARIABLE: marker}, "{}")
    assert not family.hand_over({}, "{}")
    # Its folder is swept by whoever comes next; that of a living root is not.
    family.hand_over(environ(), "{}")
    family.sweep()
    assert len(list(runtime.iterdir())) == 1
    assert list(family.take_over(config.root_marker())) == ["{}"]


def test_strange_files_in_the_spool(runtime: Path) -> None:
    family.hand_over(environ(), "{}")
    (spool,) = runtime.iterdir()
    (spool / "half.json.part").write_text("{", encoding="utf-8")
    (spool / "other").write_text("x", encoding="utf-8")
    secret = runtime.parent / "secret"
    secret.write_text("secret", encoding="utf-8")
    (spool / "link.json").symlink_to(secret)
    with (spool / "huge.json").open("wb") as file:
        file.truncate(5 * 1024 * 1024)
    (spool / "broken.json").write_bytes(b"\xff\xfe")
    taken = list(family.take_over(config.root_marker()))
    assert "{}" in taken
    assert "secret" not in taken
    assert list(runtime.iterdir()) == []
    assert secret.exists()


@pytest.mark.parametrize("unsafe", ["open to all", "link", "file"])
def test_a_folder_that_is_not_the_users_own_is_not_used(unsafe: str, runtime: Path) -> None:
    if unsafe == "open to all":
        runtime.mkdir(0o700)
        runtime.chmod(0o777)
    elif unsafe == "link":
        (runtime.parent / "elsewhere").mkdir(0o700)
        runtime.symlink_to(runtime.parent / "elsewhere")
    else:
        runtime.write_text("", encoding="utf-8")
    assert family.runtime_folder(create=True) == ""
    assert not family.hand_over(environ(), "{}")
    assert list(family.take_over(config.root_marker())) == []
    family.sweep()


def test_without_a_runtime_folder_the_temporary_one_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert family.runtime_folder(create=False) == ""
    assert family.runtime_folder(create=True) == str(tmp_path / f"leakagent-{os.getuid()}")
