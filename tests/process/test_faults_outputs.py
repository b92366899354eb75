"""Outputs that don't work: the program's result stays, and the report goes where it still can."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEAKING = """\
import sys
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
with open("result", "w") as file:
    file.write(str(pool.submit(pow, 2, 5).result()))
{more}
"""

SHELLS = {
    "stderr closed": "2>&-",
    "stdout closed": ">&-",
    "stdin closed": "<&-",
    "all closed": "<&- >&- 2>&-",
    "stderr full": "2>/dev/full",
    "stderr is a pipe that nobody reads": "2>&1 >/dev/null | true; exit 0",
}


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("way", ["module", "environment"])
def test_streams_that_do_not_work(
    name: str, way: str, run: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    app = program(LEAKING.format(more="sys.exit(7)"))
    shell = ["/bin/sh", "-c", f'"$0" "$@" {SHELLS[name]}', sys.executable]
    bare = run([*shell, app], cwd=tmp_path)
    result = (tmp_path / "result").read_text(encoding="utf-8")
    (tmp_path / "result").unlink()
    if way == "module":
        ran = run([*shell, "-m", "leakagent", app], cwd=tmp_path)
    else:
        # A wrong value as well: that line has nowhere to go either.
        ran = run([*shell, app], cwd=tmp_path, env={"LEAKAGENT": "1", "LEAKAGENT_BUDGET": "banana"})
    assert (ran.returncode, ran.stdout) == (bare.returncode, bare.stdout), (bare, ran)
    assert (tmp_path / "result").read_text(encoding="utf-8") == result == "32"
    if name not in {"stdout closed", "stdin closed"}:
        assert ran.stderr == bare.stderr == "", (bare, ran)


PATHS = {
    "full": ("/dev/full", "No space left on device"),
    "below a file": ("app.py/report.json", "a file stands where a folder is needed"),
    "far below a file": ("app.py/folder/report.json", "a file stands where a folder is needed"),
    "a folder": ("taken", "Is a directory"),
    "too long": ("x" * 256, "File name too long"),
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("format_", ["json", "html", "markdown"])
def test_a_report_that_can_not_be_written(
    name: str, format_: str, python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    path, cause = PATHS[name]
    (tmp_path / "taken").mkdir()
    before = {entry.name for entry in tmp_path.iterdir()} | {"app.py", "result"}
    ran = python("-m", "leakagent", "--report", f"{format_}:{path}", program(LEAKING.format(more="sys.exit(7)")))
    assert (ran.returncode, ran.stdout) == (7, ""), ran
    first, second, *_ = ran.stderr.splitlines()
    assert first.startswith(f"leakagent: {format_} report lost: can't write to "), ran
    assert first.endswith(cause), ran
    # What could not be written is printed.
    assert second.startswith("leakagent: 1 resource was still open"), ran
    assert {entry.name for entry in tmp_path.iterdir()} == before


def test_a_clean_program_whose_report_can_not_be_written(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    ran = python("-m", "leakagent", "--fail-on-leak", "--report", "json:app.py/report.json", program("print(1)"))
    assert (ran.returncode, ran.stdout) == (0, "1\n"), ran
    assert ran.stderr.count("\n") == 1, ran
    assert "a file stands where a folder is needed" in ran.stderr


STREAMS = {
    "raises": "class Bad:\n    def __getattr__(self, name):\n        raise RuntimeError(name)\nsys.stderr = Bad()",
    "raises what is no Exception": "class Bad:\n    def write(self, text):\n        raise SystemExit(9)\nsys.stderr = Bad()",
    "None": "sys.stderr = None",
    "gone": "del sys.stderr",
    "closed": "sys.stderr.close()",
    "closed below": "import os\nos.close(2)",
    "a text buffer": "import io\nsys.stderr = io.StringIO()",
    "bytes": "import io\nsys.stderr = io.BytesIO()",
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_program_that_replaces_stderr(name: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    app = program(LEAKING.format(more=STREAMS[name] + "\nprint('end')\nsys.exit(7)"))
    bare = python(app)
    for ran in (python("-m", "leakagent", app), python(app, env={"LEAKAGENT": "1"})):
        assert (ran.returncode, ran.stdout, ran.stderr) == (bare.returncode, bare.stdout, bare.stderr), (bare, ran)
