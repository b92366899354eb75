"""``--fail-on-leak``: status 23 in place of 0, never in place of another status, and everything else happens as without it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEAKING = """\
import atexit, os, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
print(pool.submit(pow, 2, 3).result())
{end}
"""
CLEAN = "import sys\nprint('clean')\n{end}\n"

#: End -> the status of the bare program.
ENDS = {
    "": 0,
    "sys.exit()": 0,
    "exit(0)": 0,
    "sys.exit(7)": 7,
    "exit(5)": 5,
    "sys.exit('text')": 1,
    "raise KeyError": 1,
    "import signal, os\nos.kill(os.getpid(), signal.SIGINT)\nsignal.pause()": -2,
    "import os\nos._exit(0)": 0,
}
#: Where a leak does not change the status although the program's own is 0: nothing runs at that end.
_SILENT = "import os\nos._exit(0)"


def command(way: str, app: Path) -> tuple[list[object], dict[str, str]]:
    if way == "module":
        return ["-m", "leakagent", "--fail-on-leak", app], {}
    if way == "environment":
        return [app], {"LEAKAGENT": "1", "LEAKAGENT_FAIL_ON_LEAK": "1"}
    code = "import leakagent, runpy, sys\nleakagent.install(fail_on_leak=True)\nrunpy.run_path(sys.argv[1], run_name='__main__')"
    return ["-c", code, app], {}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", ["module", "environment", "code"])
def test_only_a_status_of_zero_is_changed(end: str, way: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    arguments, env = command(way, program(LEAKING.format(end=end)))
    ran = python(*arguments, env=env)
    expected = 23 if ENDS[end] == 0 and end != _SILENT else ENDS[end]
    assert ran.returncode == expected, ran
    # What Python has not written by then is lost by os._exit, as without the agent.
    assert ran.stdout == ("" if end == _SILENT else "8\n"), ran


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", ["module", "environment", "code"])
def test_a_clean_program_keeps_its_status(end: str, way: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    app = program(CLEAN.format(end=end))
    arguments, env = command(way, app)
    ran = python(*arguments, env=env)
    assert ran.returncode == ENDS[end], ran
    assert "leakagent:" not in ran.stderr, ran


def test_the_report_says_both(told: Callable[..., Any]) -> None:
    after = told(LEAKING.format(end=""), options=("--fail-on-leak",))
    assert after.ran.returncode == 23
    assert after.report["exit"] == {"status": 23, "signal": None}
    assert "exit status: 23 (--fail-on-leak; the program's own was 0)" in after.ran.stderr
    after = told(LEAKING.format(end="sys.exit(4)"), options=("--fail-on-leak",))
    assert after.ran.returncode == 4
    assert after.report["exit"] == {"status": 4, "signal": None}
    assert "exit status kept: 4" in after.ran.stderr


def test_an_ignored_leak_fails_nothing(told: Callable[..., Any]) -> None:
    after = told(LEAKING.format(end=""), options=("--fail-on-leak", "--ignore", "thread_pool"))
    after.clean()


def test_a_leak_of_a_child_fails_the_program_that_was_started(
    python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    text = """\
import subprocess, sys
code = "from concurrent.futures import ThreadPoolExecutor as T; pool = T(1); pool.submit(int)"
print(subprocess.run([sys.executable, "-c", code]).returncode)
"""
    env = {"LEAKAGENT": "1", "LEAKAGENT_FAIL_ON_LEAK": "1", "LEAKAGENT_REPORT": f"json:{tmp_path / 'report.json'}"}
    ran = python(program(text), env=env)
    # The child's own status is what its starter decides by.
    assert (ran.returncode, ran.stdout) == (23, "0\n"), ran
    (found,) = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["findings"]
    assert found["kind"] == "thread_pool"


HANDLERS = """\
import atexit, sys
atexit.register(print, "registered before the agent")
import leakagent
leakagent.install(fail_on_leak=True, report="off")
atexit.register(print, "registered behind it")
from concurrent.futures import ThreadPoolExecutor

class Farewell:
    def __del__(self):
        print("finalizer")

farewell = Farewell()
pool = ThreadPoolExecutor(1)
pool.submit(int)
sys.stdout.write("not flushed\\n")
"""


def test_everybody_elses_end_comes_first(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    ran = python(program(HANDLERS))
    expected = ["not flushed", "registered behind it", "registered before the agent", "finalizer"]
    assert (ran.stdout.splitlines(), ran.returncode, ran.stderr) == (expected, 23, ""), ran


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_disk_is_not_hidden(
    stream: str, python: Callable[..., Any], program: Callable[..., Path], run: Callable[..., Any]
) -> None:
    app = program(LEAKING.format(end="sys.stderr.write('said')"))
    number = 1 if stream == "stdout" else 2
    shell = f'exec "$0" "$@" {number}>/dev/full'
    bare = run(["/bin/sh", "-c", shell, sys.executable, app])
    ran = run(["/bin/sh", "-c", shell, sys.executable, "-m", "leakagent", "--fail-on-leak", app])
    # Python ends with 120 when what the program said is lost, and the agent does not put its own status there.
    assert (bare.returncode, ran.returncode, ran.stdout) == (120, 120, bare.stdout), (bare, ran)


def test_an_error_output_that_is_full_loses_the_report_only(run: Callable[..., Any], program: Callable[..., Path]) -> None:
    app = program(LEAKING.format(end=""))
    ran = run(["/bin/sh", "-c", 'exec "$0" "$@" 2>/dev/full', sys.executable, "-m", "leakagent", "--fail-on-leak", app])
    assert (ran.returncode, ran.stdout) == (23, "8\n"), ran


def test_closed_streams(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    for end in ("sys.stdout.close()", "sys.stderr.close()", "sys.stdout = None", "del sys.stdout", "os.close(0)"):
        ran = python("-m", "leakagent", "--fail-on-leak", program(LEAKING.format(end=end)))
        assert ran.returncode == 23, (end, ran)
