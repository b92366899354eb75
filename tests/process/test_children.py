"""The agent in children: active in each kind, silent, and their findings are in the report of the program that was started."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHILD = """\
import os, subprocess, sys
from concurrent.futures import ThreadPoolExecutor

def leak():
    import leakagent
    print("active", leakagent.is_active(), flush=True)
    global pool
    pool = ThreadPoolExecutor(1)  # line 8
    pool.submit(int).result()

if __name__ == "__main__":
    how = sys.argv[1]
    if how == "os.fork":
        pid = os.fork()
        if pid == 0:
            leak()
            sys.exit(0)
        os.waitpid(pid, 0)
    elif how == "subprocess":
        subprocess.run([sys.executable, "-c", "import app; app.leak()"], check=True)
    else:
        import multiprocessing
        child = multiprocessing.get_context(how).Process(target=leak)
        child.start()
        child.join()
    print("parent", os.getpid())
"""

KINDS = ["os.fork", "subprocess", "fork", "spawn", "forkserver"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["module", "environment"])
def test_children(kind: str, way: str, python: Callable[..., object], program: Callable[..., Path], tmp_path: Path) -> None:
    app = program(CHILD)
    path = tmp_path / "report.json"
    env = {"LEAKAGENT_REPORT": f"text,json:{path}", **({"LEAKAGENT": "1"} if way == "environment" else {})}
    ran = python(*([] if way == "environment" else ["-m", "leakagent"]), app, kind, env=env)
    assert ran.returncode == 0, ran
    active, parent = ran.stdout.splitlines()
    assert active == "active True"
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["pid"] == int(parent.split()[1])
    (found,) = report["findings"]
    assert (found["reason"], found["kind"], found["site"]["file"], found["site"]["line"]) == (
        "not_shut_down",
        "thread_pool",
        "app.py",
        8,
    )
    assert found["pids"] != [report["pid"]]
    # One process prints, once.
    assert ran.stderr.count("leakagent: ") == 1, ran


def test_every_child_counts_for_itself(python: Callable[..., object], program: Callable[..., Path], tmp_path: Path) -> None:
    text = """\
import multiprocessing, sys
from concurrent.futures import ThreadPoolExecutor

def inner():
    global pool
    pool = ThreadPoolExecutor(1)

def outer():
    children = [multiprocessing.get_context("spawn").Process(target=inner) for _ in range(2)]
    for child in children: child.start()
    for child in children: child.join()

if __name__ == "__main__":
    children = [multiprocessing.get_context("fork").Process(target=outer) for _ in range(2)]
    for child in children: child.start()
    for child in children: child.join()
"""
    path = tmp_path / "report.json"
    ran = python("-m", "leakagent", "--report", f"json:{path}", program(text))
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    (found,) = json.loads(path.read_text(encoding="utf-8"))["findings"]
    assert (found["count"], len(found["pids"]), found["site"]["line"]) == (4, 4, 6)


HELPERS = """\
import multiprocessing, os, sys

def seen(_):
    return os.getpid()

if __name__ == "__main__":
    from multiprocessing import forkserver, resource_tracker
    context = multiprocessing.get_context("forkserver")
    with context.Pool(1) as pool:
        pool.map(seen, [1])
    print(forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid)
"""


@pytest.mark.parametrize("options", [[], ["-X", "dev", "-W", "ignore"]], ids=["plain", "options"])
def test_helper_processes_are_left_alone(
    options: list[str], python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    # A sitecustomize runs in every interpreter after the start-up hook.
    program(
        "import os, sys\n"
        "agent = sys.modules.get('leakagent.agent')\n"
        "active = agent is not None and agent.is_active()\n"
        f"open(os.path.join({str(marks)!r}, str(os.getpid())), 'w').write(str(active))\n",
        "path/sitecustomize.py",
    )
    ran = python(*options, program(HELPERS), env={"LEAKAGENT": "1", "PYTHONPATH": str(tmp_path / "path")})
    assert ran.returncode == 0, ran
    helpers = ran.stdout.split()
    assert [(marks / pid).read_text(encoding="utf-8") for pid in helpers] == ["False", "False"]
    assert "True" in {mark.read_text(encoding="utf-8") for mark in marks.iterdir()}


OUTLIVES = '''\
import os, subprocess, sys
code = """import os, sys, app
starter = os.getppid()
print(1, flush=True)
sys.stdout = open(os.devnull, "w")
while os.getppid() == starter: pass
app.leak()
"""
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=2, start_new_session=True)
child.stdout.read(1)
print(child.pid, flush=True)
os._exit(0)
'''

#: As above, but the agent starts in the child only when the starter is gone.
LATE = '''\
import os, subprocess, sys
code = """import os, sys
starter = os.getppid()
print(1, flush=True)
while os.getppid() == starter: pass
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
os.execv(sys.executable, [sys.executable, "-c", "import app; app.leak()"])
"""
child = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.read(1)
print(child.pid, flush=True)
os._exit(0)
'''


@pytest.mark.parametrize("text", [OUTLIVES, LATE], ids=["outlives", "late"])
def test_a_child_whose_starter_is_gone_writes_its_own_file(
    text: str, python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path, until: Callable[..., None]
) -> None:
    program(CHILD)
    ran = python(program(text, "starter.py"), env={"LEAKAGENT": "1", "LEAKAGENT_REPORT": f"json:{tmp_path / 'report.json'}"})
    own = tmp_path / f"report.{ran.stdout.strip()}.json"
    until(own.exists, "the child's own report")
    assert json.loads(own.read_text(encoding="utf-8"))["findings"][0]["site"]["line"] == 8
    assert not (tmp_path / "report.json").exists()
