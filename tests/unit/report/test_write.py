from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from leakagent.report import text as text_format
from leakagent.report.json_report import to_dict
from leakagent.report.spec import Target, parse_spec
from leakagent.report.write import emit, target_path

if TYPE_CHECKING:
    from pathlib import Path

    from leakagent.core.findings import Report


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)


def test_every_target_is_written(report: Report, tmp_path: Path) -> None:
    stream = io.StringIO()
    spec = f"text,github,json:{tmp_path}/r.json,html:{tmp_path}/h/r.html,markdown:{tmp_path}/r-{{pid}}.md"
    assert emit(report, parse_spec(spec), stream, is_child=False) == []
    assert json.loads((tmp_path / "r.json").read_text()) == to_dict(report)
    assert (tmp_path / "h" / "r.html").read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "r-4100.md").read_text().startswith("**leakagent**")
    printed = stream.getvalue()
    assert printed.startswith("leakagent: 34 resources were still open")
    assert f"leakagent report {tmp_path}/r.json" in printed
    assert printed.count("::warning ") == 3


def test_off_writes_nothing(report: Report) -> None:
    stream = io.StringIO()
    assert emit(report, parse_spec("off"), stream, is_child=False) == []
    assert stream.getvalue() == ""


def test_a_clean_run_prints_nothing_and_still_writes_its_file(report: Report, tmp_path: Path) -> None:
    report.findings = []
    stream = io.StringIO()
    emit(report, parse_spec(f"text,github,json:{tmp_path}/r.json"), stream, is_child=False)
    assert stream.getvalue() == ""
    assert json.loads((tmp_path / "r.json").read_text())["findings"] == []


def test_a_failing_target_costs_one_line_and_is_told_as_text(report: Report, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    stream = io.StringIO()
    spec = f"json:{tmp_path}/taken/r.json,markdown:{tmp_path}/r.md"
    problems = emit(report, parse_spec(spec), stream, is_child=False)
    assert problems == [
        f"leakagent: json report lost: can't write to '{tmp_path}/taken/r.json': a file stands where a folder is needed"
    ]
    first, second = stream.getvalue().split("\n")[:2]
    assert first == problems[0]
    assert second.startswith("leakagent: 34 resources")
    assert "details:" not in stream.getvalue()
    assert (tmp_path / "r.md").exists()


def test_text_is_printed_once_also_when_a_file_fails(report: Report, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    stream = io.StringIO()
    emit(report, parse_spec(f"text,json:{tmp_path}/taken/r.json"), stream, is_child=False)
    assert stream.getvalue().count("34 resources") == 1


def test_a_format_that_breaks_does_not_stop_the_others(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> str:
        message = "broken\nbadly"
        raise RuntimeError(message)

    monkeypatch.setattr(text_format, "render", broken)
    stream = io.StringIO()
    problems = emit(report, parse_spec(f"text,json:{tmp_path}/r.json,github"), stream, is_child=False)
    assert problems == ["leakagent: text report lost: RuntimeError: broken\\nbadly"]
    assert problems[0] + "\n" in stream.getvalue()
    assert "::warning" in stream.getvalue()
    assert (tmp_path / "r.json").exists()


def test_a_format_that_nobody_knows_is_a_problem_and_no_error(report: Report, tmp_path: Path) -> None:
    problems = emit(report, [Target("yaml", f"{tmp_path}/r")], io.StringIO(), is_child=False)
    assert problems == ["leakagent: yaml report lost: ValueError: no such format: yaml"]


def test_a_child_prints_nothing_and_writes_files_with_its_pid(report: Report, tmp_path: Path) -> None:
    stream = io.StringIO()
    spec = f"text,github,json:{tmp_path}/r.json,html:{tmp_path}/{{pid}}.html,markdown:/dev/stderr"
    assert emit(report, parse_spec(spec), stream, is_child=True) == []
    assert sorted(os.listdir(tmp_path)) == ["4100.html", "r.4100.json"]
    assert stream.getvalue() == ""


def test_a_child_that_cannot_write_says_so_to_its_caller_only(report: Report, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    stream = io.StringIO()
    assert len(emit(report, parse_spec(f"json:{tmp_path}/taken/r.json"), stream, is_child=True)) == 1
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("path", "is_child", "expected"),
    [
        ("r.json", False, "r.json"),
        ("r.json", True, "r.7.json"),
        ("out.d/r", True, "out.d/r.7"),
        (".r", True, ".r.7"),
        ("r.tar.gz", True, "r.tar.7.gz"),
        ("{pid}/{pid}.json", True, "7/7.json"),
        ("{pid}.json", False, "7.json"),
        ("{other}.json", False, "{other}.json"),
    ],
)
def test_the_pid_in_a_path(path: str, is_child: bool, expected: str) -> None:
    assert target_path(Target("json", path), 7, is_child=is_child) == expected


def test_relative_paths_start_where_the_user_typed_them(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    stream = io.StringIO()
    emit(report, parse_spec("text,json:r.json"), stream, is_child=False, base=str(tmp_path))
    assert (tmp_path / "r.json").exists()
    assert "leakagent report r.json" in stream.getvalue()


def test_a_tilde_is_the_home_folder(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    emit(report, parse_spec("json:~/r.json"), io.StringIO(), is_child=False)
    assert (tmp_path / "r.json").exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16", "utf-8", "shift_jis"])
def test_any_encoding_is_printed_in(nasty: Report, encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    assert emit(nasty, parse_spec("text"), stream, is_child=False) == []
    assert "resources were still open" in " ".join(raw.getvalue().decode(encoding).split())


class Odd:
    """A stream of an IDE: no descriptor, and an encoding that nobody knows."""

    encoding = "no-such-encoding"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_a_home_made_stream_is_printed_to(report: Report) -> None:
    stream = Odd()
    emit(report, parse_spec("text"), stream, is_child=False)
    assert "34 resources" in stream.text


class Broken(Odd):
    def write(self, text: str) -> None:
        raise BrokenPipeError(text)


def test_a_stream_that_is_gone_is_survived(report: Report, tmp_path: Path) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed, Broken(), object()):
        assert emit(report, parse_spec(f"text,github,json:{tmp_path}/r.json"), stream, is_child=False) == []
        (tmp_path / "r.json").unlink()


PROGRAM = """
import atexit, os, sys
from leakagent.core.findings import Finding, Report
from leakagent.core.sites import Site
from leakagent.report.spec import parse_spec
from leakagent.report.write import emit
report = Report("app.py", [], os.getpid(), 0)
report.findings = [Finding("not_closed", "thread")]
atexit.register(lambda: emit(report, parse_spec("text,github"), sys.stderr, is_child=False))
"""


@pytest.mark.skipif(os.name != "posix", reason="pipes and descriptors of POSIX")
@pytest.mark.parametrize("how", ["broken pipe", "closed descriptor", "closed stream", "no stream"])
def test_a_program_whose_stderr_is_gone_keeps_its_status(how: str) -> None:
    end = {"closed descriptor": "os.close(2)", "closed stream": "sys.stderr.close()", "no stream": "sys.stderr = None"}
    reader, writer = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + "input()\n" + end.get(how, "") + "\nsys.exit(7)"],
        stdin=subprocess.PIPE,
        stderr=writer,
    )
    os.close(writer)
    os.close(reader)
    child.communicate(b"\n", timeout=120)
    assert child.returncode == 7


@pytest.mark.skipif(os.name != "posix", reason="pipes and descriptors of POSIX")
def test_a_stderr_that_does_not_block_and_is_full_gets_the_whole_report() -> None:
    code = PROGRAM + (
        "from leakagent.report import files\nfiles.PATIENCE_S = 60\n"
        "report.findings = [\n"
        "    Finding('not_closed', 'thread', Site('f', '/a.py', n), evidence=[f'{i} ' + 'e' * 180 for i in range(5)])\n"
        "    for n in range(1, 11)\n]\n"
        "os.set_blocking(2, False)\n"
        "try:\n    while True: os.write(2, b'.' * 4096)\nexcept BlockingIOError: pass\n"
        "import time\nsleep = time.sleep\n"
        "def waiting(seconds):\n    print('waiting', flush=True)\n    time.sleep = sleep\n"
        "time.sleep = waiting\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"waiting\n"
    _, told = child.communicate(timeout=120)
    assert told.lstrip(b".").startswith(b"leakagent: 10 resources were still open")
    assert (told.count(b" fix  "), told.count(b"%0Afix: "), told.count(b"e" * 180)) == (10, 10, 80)
    assert child.returncode == 0


def test_the_report_comes_after_what_the_program_said() -> None:
    code = PROGRAM + "sys.stderr.write('last words, no newline at the end... \\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr.startswith("last words, no newline at the end... \nleakagent: 1 resource was still open")


def test_writing_a_text_report_imports_no_heavy_module() -> None:
    code = PROGRAM + (
        "emit(report, parse_spec('text'), sys.stderr, is_child=False)\n"
        "print(*sorted({'asyncio', 'logging', 'typing', 'json', 'subprocess', 'datetime'} & set(sys.modules)))"
    )
    # Without site: what a `.pth` file imports is not ours.
    home = os.path.dirname(os.path.dirname(os.path.dirname(text_format.__file__)))
    code = f"import sys; sys.path.insert(0, {home!r})\n{code}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
