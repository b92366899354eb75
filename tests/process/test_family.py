"""The folders in which children hand over their findings: kept as long as their root lives, removed when it is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Starts a child that hands over a finding, says so, and goes on when its standard input ends.
ROOT = """\
import os, subprocess, sys
from concurrent.futures import ThreadPoolExecutor  # a program without anything of interest looks at nothing

CODE = "from concurrent.futures import ThreadPoolExecutor as P; pool = P(1); pool.submit(int).result()"
subprocess.run([sys.executable, "-c", CODE], check=True)
if "look" in sys.argv:
    import leakagent
    print(len(leakagent.snapshot()["findings"]), len(leakagent.snapshot()["findings"]))
print(os.getpid(), flush=True)
sys.stdin.read()
if "dies" in sys.argv:
    os._exit(0)
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """Return the user's runtime folder."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def root(
    program: Callable[..., Path], runtime: Path, tmp_path: Path, environment: Callable[..., dict[str, str]]
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a root whose child has handed over its finding, and that waits for the end of its standard input."""
    app = program(ROOT)
    started = []

    def start(name: str, *arguments: str) -> subprocess.Popen[str]:
        report = f"json:{tmp_path / name}.json"
        env = environment({"LEAKAGENT": "1", "LEAKAGENT_REPORT": report, "XDG_RUNTIME_DIR": str(runtime)})
        command = [sys.executable, str(app), *arguments]
        process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == str(process.pid)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def spool(runtime: Path, process: subprocess.Popen[str]) -> Path:
    (found,) = (runtime / "leakagent").glob(f"spool-{process.pid}-*")
    return found


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("", timeout=120)
    assert process.returncode == 0


def findings(path: Path) -> list[tuple[str, int]]:
    report = json.loads(path.read_text(encoding="utf-8"))
    return [(one["reason"], one["count"]) for one in report["findings"]]


def test_a_root_removes_what_dead_roots_left_and_nothing_else(
    root: Callable[..., subprocess.Popen[str]], runtime: Path, tmp_path: Path
) -> None:
    living, dead = root("living"), root("dead", "dies")
    kept, stale = spool(runtime, living), spool(runtime, dead)
    end(dead)
    assert [path.suffix for path in stale.iterdir()] == [".json"]
    # Not ours, or not proven to be of a dead root: other names, another boot or namespace, a link, a stranger's file.
    folder, place = runtime / "leakagent", stale.name.split("-", 3)[3]
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    (outside / "1-1.json").write_text("{}", encoding="utf-8")
    (folder / f"spool-{dead.pid}-5").mkdir(mode=0o700)
    (folder / f"spool-{dead.pid}-1-00000000-1").mkdir(mode=0o700)
    (folder / f"spool-{dead.pid}-2-{place}").symlink_to(outside)
    (folder / f"spool-{dead.pid}-3-{place}").write_text("a file", encoding="utf-8")
    (folder / f"spool-{dead.pid}-4-{place}").mkdir(mode=0o700)
    (folder / f"spool-{dead.pid}-4-{place}" / "notes.json").write_text("a stranger's", encoding="utf-8")
    (folder / f"spool-x-{place}").mkdir(mode=0o700)
    (folder / "notes.json").write_text("{}", encoding="utf-8")
    before = sorted(folder.rglob("*"))

    sweeper = root("sweeper")
    own = spool(runtime, sweeper)
    end(sweeper)

    assert not own.exists()
    assert not stale.exists()
    gone = [path for path in before if not os.path.lexists(path)]
    # The dead one has a file in the ledger as well.
    gone = [path for path in gone if not path.name.startswith(f"ledger-{dead.pid}-")]
    assert [path for path in gone if stale not in (path, path.parent)] == []
    assert (outside / "1-1.json").exists()
    assert kept.exists()
    end(living)
    assert findings(tmp_path / "living.json") == [("not_shut_down", 1)]


def test_a_folder_of_a_reused_pid_is_removed(root: Callable[..., subprocess.Popen[str]], runtime: Path) -> None:
    living = root("living")
    kept = spool(runtime, living)
    pid, started, place = kept.name.split("-", 3)[1:]
    reused = kept.with_name(f"spool-{pid}-{int(started) - 1}-{place}")
    reused.mkdir(mode=0o700)
    end(root("sweeper"))
    assert (kept.exists(), reused.exists()) == (True, False)


def test_a_snapshot_leaves_the_findings_of_children_to_the_report(
    program: Callable[..., Path], python: Callable[..., object], runtime: Path, tmp_path: Path
) -> None:
    env = {"LEAKAGENT": "1", "LEAKAGENT_REPORT": f"json:{tmp_path / 'report.json'}", "XDG_RUNTIME_DIR": str(runtime)}
    ran = python(program(ROOT), "look", env=env)
    assert ran.stdout.splitlines()[0] == "1 1", ran
    assert findings(tmp_path / "report.json") == [("not_shut_down", 1)]
