"""The ways to start the agent, each in a real interpreter, and the ways in which a start can go wrong."""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SITE_PACKAGES = Path(sysconfig.get_paths()["purelib"])
CHECKOUT = Path(__file__).parents[2]

LEAKY = """\
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(print, "worked").result()
"""

ACTIVE = "import sys; a = sys.modules.get('leakagent.agent'); print(bool(a and a.is_active()))"


def findings(path: Path) -> list[tuple[str, str, str, int]]:
    report = json.loads(path.read_text(encoding="utf-8"))
    return [(one["reason"], one["kind"], one["site"]["file"], one["site"]["line"]) for one in report["findings"]]


def leakagent_command() -> Path:
    return Path(sys.executable).parent / "leakagent"


WAYS = {
    "script": lambda app: [sys.executable, "-m", "leakagent", app],
    "run script": lambda app: [sys.executable, "-m", "leakagent", "run", app],
    "module": lambda _app: [sys.executable, "-m", "leakagent", "-m", "app"],
    "code": lambda _app: [sys.executable, "-m", "leakagent", "-c", LEAKY],
    "command": lambda app: [leakagent_command(), "run", "--", sys.executable, app],
    "environment": lambda app: [sys.executable, app],
}


@pytest.mark.parametrize("way", WAYS)
def test_the_agent_starts(way: str, run: Callable[..., object], program: Callable[..., Path], tmp_path: Path) -> None:
    app = program(LEAKY)
    report = tmp_path / "report.json"
    env = {"LEAKAGENT_REPORT": f"text,json:{report}"}
    if way == "environment":
        env["LEAKAGENT"] = "1"
    ran = run(WAYS[way](app), env=env, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (0, "worked\n"), ran
    assert findings(report) == [("not_shut_down", "thread_pool", "<string>" if way == "code" else "app.py", 2)]
    assert ran.stderr.startswith("leakagent: 1 resource was still open when "), ran


def test_install_from_code(python: Callable[..., object], program: Callable[..., Path], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    app = program(f"import leakagent\nprint(leakagent.install(report='json:{report}'), leakagent.install())\n{LEAKY}")
    ran = python(app)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "True False\nworked\n", ""), ran
    assert findings(report) == [("not_shut_down", "thread_pool", "app.py", 4)]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return a folder with nothing but the package, as ``pip install --target`` leaves one."""
    folder = tmp_path / "target"
    shutil.copytree(SITE_PACKAGES / "leakagent", folder / "leakagent", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def bare_python(tmp_path: Path, run: Callable[..., object]) -> Path:
    """Return the interpreter of an environment in which nothing is installed."""
    assert run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"]).returncode == 0
    return tmp_path / "bare" / "bin" / "python"


@pytest.mark.parametrize("plain", [False, True])
def test_sitecustomize_template(
    run: Callable[..., object], program: Callable[..., Path], target: Path, bare_python: Path, tmp_path: Path, *, plain: bool
) -> None:
    interpreter = os.path.realpath(sys.executable) if plain else bare_python
    report = tmp_path / "report.json"
    path = os.pathsep.join(map(str, (CHECKOUT / "sitecustomize_template", target)))
    env = {"PYTHONPATH": path, "LEAKAGENT": "1", "LEAKAGENT_REPORT": f"json:{report}"}
    ran = run([interpreter, program(LEAKY)], env=env, cwd=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "worked\n", ""), ran
    assert findings(report) == [("not_shut_down", "thread_pool", "app.py", 2)]


def test_the_template_runs_the_sitecustomize_that_it_hides(
    run: Callable[..., object], target: Path, bare_python: Path, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("print('hidden runs'); mark = 1\n", encoding="utf-8")
    path = os.pathsep.join(map(str, (CHECKOUT / "sitecustomize_template", hidden, target)))
    code = "import sitecustomize; print(sitecustomize.mark);" + ACTIVE
    for variables, active in (({"LEAKAGENT": "1"}, True), ({}, False)):
        ran = run([bare_python, "-c", code], env={"PYTHONPATH": path, **variables})
        assert (ran.stdout, ran.stderr) == (f"hidden runs\n1\n{active}\n", ""), ran


def test_the_module_works_where_no_hook_runs(
    run: Callable[..., object], program: Callable[..., Path], target: Path, bare_python: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    env = {"PYTHONPATH": str(target), "LEAKAGENT_REPORT": f"json:{report}"}
    ran = run([bare_python, "-S", "-m", "leakagent", program(LEAKY)], env=env, cwd=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "worked\n", ""), ran
    assert findings(report) == [("not_shut_down", "thread_pool", "app.py", 2)]


@pytest.mark.parametrize(("options", "active"), [(["-I"], True), (["-E"], False), (["-S"], False), (["-s"], True), ([], True)])
def test_interpreter_options(python: Callable[..., object], options: list[str], *, active: bool) -> None:
    if options == ["-E"]:
        # The interpreter ignores PYTHON* only: LEAKAGENT counts.
        active = True
    ran = python(*options, "-c", ACTIVE, env={"LEAKAGENT": "1"})
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"{active}\n", ""), ran


def test_the_hook_imports_nothing_when_unset(python: Callable[..., object]) -> None:
    code = "import sys; print([name for name in sys.modules if 'leakagent' in name])"
    # Python 3.15 calls a function of a module of its own, which looks at the variable (PEP 829).
    expected = ["_leakagent_start"] if sys.version_info >= (3, 15) else []
    for variables in ({}, {"LEAKAGENT": ""}):
        assert python("-c", code, env=variables).stdout == f"{expected}\n"


ALLOWED = {
    "__future__",
    "_collections",
    "_collections_abc",
    "_functools",
    "_leakagent_start",
    "_operator",
    "_thread",
    "_types",
    "_weakref",
    "_weakrefset",
    "atexit",
    "collections",
    "collections.abc",
    "copyreg",
    "functools",
    "itertools",
    "keyword",
    "operator",
    "reprlib",
    "types",
    "weakref",
}


def test_what_the_agent_imports_at_start(python: Callable[..., object]) -> None:
    code = "import sys; print(*sys.modules)"
    without, with_agent = (set(python("-c", code, env=env).stdout.split()) for env in ({}, {"LEAKAGENT": "1"}))
    added = {name for name in with_agent - without if not name.startswith("leakagent")}
    assert added <= ALLOWED


#: Programs that use what the agent looks at, to their clean end.
USES = {
    "asyncio": "import asyncio\nasync def main(): pass\nasyncio.run(main())",
    "threads": "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(1) as pool: pool.submit(abs, 1).result()",
    "fork": "import multiprocessing\np = multiprocessing.get_context('fork').Process(target=abs, args=(1,))\np.start()\np.join()",
    "subprocess": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'pass'], check=True)",
}


@pytest.mark.parametrize("use", USES)
def test_nothing_is_imported_that_the_program_does_not_import(python: Callable[..., object], use: str) -> None:
    show = "import atexit, sys\n@atexit.register\ndef show(): print(*sys.modules)\n"
    runs = [python("-c", show + USES[use], env=env) for env in ({}, {"LEAKAGENT": "1"})]
    without, with_agent = (set(ran.stdout.split()) for ran in runs)
    assert "leakagent.ending" in with_agent
    added = {name for name in with_agent - without if not name.startswith("leakagent")}
    # Of the C level, without a file: the collector's interface, and the codec of what is written into the ledger.
    assert added <= ALLOWED | {"gc", "encodings.ascii"}, added


CHILD = """\
import atexit, multiprocessing, os, sys

def work():
    before = set(sys.modules)
    leave = os._exit
    def show():
        print(sorted(set(sys.modules) - before), flush=True)
    def shown(status):  # a forked child runs no exit handlers before 3.13
        show()
        leave(status)
    os._exit = shown
    atexit.register(show)

if __name__ == "__main__":
    for _ in range(2):
        process = multiprocessing.get_context({method!r}).Process(target=work)
        process.start()
        process.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_that_makes_nothing_loads_nothing_for_its_end(
    python: Callable[..., object], program: Callable[..., Path], method: str
) -> None:
    ran = python(program(CHILD.format(method=method)), env={"LEAKAGENT": "1"})
    lines = ran.stdout.splitlines()
    assert (ran.returncode, set(lines), ran.stderr) == (0, {"[]"}, ""), ran
    assert len(lines) >= 2


@pytest.mark.parametrize("value", ["0", "false", "off", "no", ""])
def test_off(python: Callable[..., object], value: str) -> None:
    ran = python("-c", ACTIVE, env={"LEAKAGENT": value})
    assert (ran.stdout, ran.stderr) == ("False\n", ""), ran


def test_a_wrong_value_is_one_line_for_the_whole_tree(python: Callable[..., object], program: Callable[..., Path]) -> None:
    app = program("import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print(1)'], check=True)\nprint(2)\n")
    ran = python(app, env={"LEAKAGENT": "banana"})
    assert (ran.returncode, ran.stdout) == (0, "1\n2\n"), ran
    expected = "LEAKAGENT='banana' is not valid (allowed: 1, true, on, yes or 0, false, off, no); the agent stays off"
    assert ran.stderr == f"leakagent: {expected}\n"


def test_a_wrong_value_stops_the_module_before_the_program(python: Callable[..., object], program: Callable[..., Path]) -> None:
    app = program("print('ran')")
    for variables in ({"LEAKAGENT": "banana"}, {"LEAKAGENT_BUDGET": "soon"}, {"LEAKAGENT": "1", "LEAKAGENT_LEVEL": "high"}):
        ran = python("-m", "leakagent", app, env=variables)
        assert (ran.returncode, ran.stdout) == (2, ""), ran
        assert ran.stderr.count("\n") == 1, ran
        assert list(variables)[-1] in ran.stderr


def test_two_ways_at_once(python: Callable[..., object], program: Callable[..., Path], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    app = program(f"import leakagent\nprint(leakagent.install())\n{LEAKY}")
    ran = python("-m", "leakagent", "--report", f"json:{report}", app, env={"LEAKAGENT": "1"})
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "False\nworked\n", ""), ran
    assert findings(report) == [("not_shut_down", "thread_pool", "app.py", 4)]


def test_a_left_over_hook_says_nothing(run: Callable[..., object], bare_python: Path) -> None:
    site_packages = next((bare_python.parents[1] / "lib").glob("python*/site-packages"))
    for name in ("leakagent.pth", "leakagent.start", "_leakagent_start.py"):
        shutil.copy(SITE_PACKAGES / name, site_packages)
    ran = run([bare_python, "-c", "print('fine')"], env={"LEAKAGENT": "1"})
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "fine\n", ""), ran


def test_another_interpreter_on_pythonpath(run: Callable[..., object], bare_python: Path, tmp_path: Path) -> None:
    # An interpreter that finds the template by PYTHONPATH, but no package: its start is not touched.
    ran = run(
        [bare_python, "-c", "print('fine')"], env={"LEAKAGENT": "1", "PYTHONPATH": str(CHECKOUT / "sitecustomize_template")}
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "fine\n", ""), ran


def test_doctor(python: Callable[..., object]) -> None:
    ran = python("-m", "leakagent", "doctor", "--json")
    found = json.loads(ran.stdout)
    assert ran.returncode == 0, ran
    assert found["hook"] == {"active": True, "owner": "environment", "early": [], "problem": ""}
    assert "asyncio.base_events.BaseEventLoop.create_task" in found["patches"]
    assert all(found["private_names"].values())
    assert "start-up hook runs   yes" in python("-m", "leakagent", "doctor").stdout
