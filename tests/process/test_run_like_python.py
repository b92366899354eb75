"""``python -m leakagent`` runs a program as ``python`` does: what the program sees, prints and ends with is the same."""

from __future__ import annotations

import signal
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from leakagent.cli import COMMANDS, main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEES = """\
'''A program.'''
import sys
def shown(value):
    return value if isinstance(value, (str, int, type(None), dict, list)) else f"{type(value).__module__}.{type(value).__name__}"
print(sys.argv)
print(sys.path)
print(sorted((name, shown(value)) for name, value in list(globals().items()) if name not in ("shown", "__spec__")))
print(shown(__spec__) if __spec__ is None else (__spec__.name, __spec__.origin))
print(sys.modules["__main__"].__dict__ is globals(), __name__)
"""

PROGRAMS = {
    "nothing": "",
    "sees": SEES,
    "exit 7": "import sys; print('a'); sys.exit(7)",
    "exit text": "import sys; sys.exit('the end')",
    "exit none": "import sys; sys.exit()",
    "exit 256": "import sys; sys.exit(256)",
    "exit tuple": "import sys; sys.exit((1, 2))",
    "SystemExit": "raise SystemExit(3)",
    "exception": "def f():\n    1 / 0\n\n\nf()\n",
    "chained": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('two') from e\n",
    "context": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    undefined\n",
    "in a library": "import json\njson.loads('{')\n",
    "in a thread": "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='t')\nt.start()\nt.join()\n",
    "group": "import asyncio\nasync def main():\n    raise KeyError('x')\nasyncio.run(main())\n",
    "syntax error": "print('never')\nx = (\n",
    "coding": "# -*- coding: latin-1 -*-\nprint('\\u00e9' == 'é')\n",
    "os._exit": "import os; os._exit(5)",
    "excepthook": "import sys\nsys.excepthook = lambda t, v, tb: print(t.__name__, v, tb.tb_lineno, tb.tb_frame.f_code.co_name)\n1 / 0\n",
    "last": "import atexit, sys, traceback\n"
    "atexit.register(lambda: print(traceback.extract_tb(sys.last_traceback), sys.last_value, sys.excepthook is sys.__excepthook__))\n"
    "1 / 0\n",
    "interrupt": "raise KeyboardInterrupt",
    "futures": "def f(x: undefined) -> int: ...\n",
    "stdin": "print(input())",
    "atexit": "import atexit\natexit.register(print, 'first')\natexit.register(print, 'second')\nprint('main')\n",
    "recursion": "def f(n):\n    return f(n + 1)\ntry:\n    f(0)\nexcept RecursionError as e:\n    print(e)\n",
    "warning": "import warnings\nwarnings.warn('careful', stacklevel=1)\n",
    "broken pipe of nothing": "import sys\nsys.stdout.close()\n",
    "last_exc": "import atexit, sys\natexit.register(lambda: print(repr(getattr(sys, 'last_exc', sys.last_value))))\n{}['k']\n",
    "del": "class A:\n    def __del__(self):\n        print('gone')\na = A()\n",
}


def same(plain: object, agent: object) -> None:
    assert (agent.stdout, agent.returncode) == (plain.stdout, plain.returncode), (plain, agent)
    assert agent.stderr == plain.stderr, (plain, agent)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("how", ["script", "code"])
def test_programs(name: str, how: str, python: Callable[..., object], program: Callable[..., Path]) -> None:
    if how == "script":
        app = program("")
        text = PROGRAMS[name]
        app.write_bytes(text.encode("latin-1" if "latin-1" in text else "utf-8"))
        words = [app.name, "one", "-m", "--two"]
    else:
        words = ["-c", PROGRAMS[name], "one", "-m", "--two"]
    same(python(*words, text="line\n"), python("-m", "leakagent", *words, text="line\n"))


MODULES = ["app", "package", "package.inner", "package.sub", "no_such_module", "package.no_such", "broken"]


@pytest.mark.parametrize("name", MODULES)
def test_modules(name: str, python: Callable[..., object], program: Callable[..., Path]) -> None:
    program(SEES)
    program("import sys; print('package', sys.argv)", "package/__init__.py")
    program(SEES + "from . import inner\n", "package/__main__.py")
    program(SEES, "package/inner.py")
    program("", "package/sub/__init__.py")
    program("1 / 0\n", "broken.py")
    plain = python("-m", name, "one", "--two")
    agent = python("-m", "leakagent", "-m", name, "one", "--two")
    same(plain, agent)


def test_folder_and_zip(python: Callable[..., object], program: Callable[..., Path], tmp_path: Path) -> None:
    program(SEES + "import beside\n", "folder/__main__.py")
    program("print('beside')", "folder/beside.py")
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.write(tmp_path / "folder" / "__main__.py", "__main__.py")
        archive.write(tmp_path / "folder" / "beside.py", "beside.py")
    (tmp_path / "app.pyz").write_bytes(b"#!/usr/bin/env python3\n" + (tmp_path / "app.zip").read_bytes())
    for name in ("folder", "app.zip", "app.pyz"):
        same(python(name, "one"), python("-m", "leakagent", name, "one"))


def test_other_folders_and_links(python: Callable[..., object], program: Callable[..., Path], tmp_path: Path) -> None:
    program(SEES, "real/app.py")
    (tmp_path / "link.py").symlink_to(tmp_path / "real" / "app.py")
    for name in ("real/app.py", "link.py", str(tmp_path / "real" / "app.py"), "./real/../real/app.py"):
        same(python(name), python("-m", "leakagent", name))


def test_missing_file(python: Callable[..., object]) -> None:
    same(python("no.py"), python("-m", "leakagent", "no.py"))


@pytest.mark.parametrize("options", [["-O"], ["-W", "error"], ["-X", "dev"], ["-B"], ["-I"], ["-u"], ["-bb"], ["-X", "utf8"]])
def test_interpreter_options(options: list[str], python: Callable[..., object], program: Callable[..., Path]) -> None:
    text = "import sys, warnings\nassert __debug__ or print('optimised')\nprint(sys.flags, sys.warnoptions, sys.path[0])\n"
    app = program(text)
    same(python(*options, app), python(*options, "-m", "leakagent", app))


if sys.version_info >= (3, 11):

    def test_safe_path(python: Callable[..., object], program: Callable[..., Path]) -> None:
        app = program("import sys\nprint(sys.path)\n")
        same(python("-P", app), python("-P", "-m", "leakagent", app))


def test_standard_input(python: Callable[..., object]) -> None:
    same(python("-", "one", text=SEES), python("-m", "leakagent", "-", "one", text=SEES))


PICKLES = """\
import multiprocessing, pickle, sys

class Point:
    def __init__(self, x):
        self.x = x

def double(point):
    return Point(point.x * 2)

if __name__ == "__main__":
    for method in ("spawn", "forkserver", "fork"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(method, [point.x for point in pool.map(double, [Point(1), Point(2)])])
    print(pickle.loads(pickle.dumps(Point(3))).x, Point.__module__)
"""


def test_classes_of_main_reach_children(python: Callable[..., object], program: Callable[..., Path]) -> None:
    app = program(PICKLES)
    agent = python("-m", "leakagent", app)
    assert agent.returncode == 0, agent
    same(python(app), agent)
    same(python(app), python("-m", "leakagent", "-m", "app"))


def test_an_interrupted_program_dies_by_the_signal(python: Callable[..., object], program: Callable[..., Path]) -> None:
    app = program("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('never')\n")
    plain = python(app)
    assert plain.returncode == -signal.SIGINT
    agent = python("-m", "leakagent", app)
    assert (agent.returncode, agent.stdout, agent.stderr) == (plain.returncode, plain.stdout, plain.stderr)


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"run"}))
def test_every_command_says_what_it_is_for(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([command, "--help"])
    usage, about = capsys.readouterr().out.split("\n\n")
    assert usage.startswith(f"usage: leakagent {command} ")
    assert about.rstrip().endswith(".")
    assert all(len(line) <= 100 for line in about.splitlines())


def test_usage(python: Callable[..., object]) -> None:
    assert python("-m", "leakagent", "--help").stdout.startswith("usage: python -m leakagent [run] [OPTIONS] script.py")
    for words in (["--nothing"], ["--budget"], [], ["run", "--"], ["-c"], ["-m"], ["run", "--", "no-such-command-here"]):
        ran = python("-m", "leakagent", *words)
        assert ran.returncode in {2, 127}, ran
        assert ran.stderr.startswith("leakagent: "), ran
        assert ran.stderr.count("\n") == 1, ran
