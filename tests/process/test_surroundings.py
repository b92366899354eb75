"""Subinterpreters, and builds without a global lock: the agent stays off there, says so in one line, and changes nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Runs a program's text in a subinterpreter; what makes one has other names in each version.
HEAD = """\
import sys
try:
    import _interpreters
    create, run = _interpreters.create, _interpreters.exec
except ImportError:
    import _xxsubinterpreters as _interpreters
    # Isolated ones have no threads at all up to 3.11.
    create, run = (lambda: _interpreters.create(isolated=False)), _interpreters.run_string

def in_another(text):
    number = create()
    run(number, text)
    _interpreters.destroy(number)
"""

WORK = """\
import asyncio, sys, threading
from concurrent.futures import ThreadPoolExecutor

async def main():
    await asyncio.create_task(asyncio.sleep(0.001))

asyncio.run(main())
with ThreadPoolExecutor(1) as pool:
    pool.submit(print, "worked").result()
agent = sys.modules.get("leakagent.agent")
print(agent is not None and agent.is_active(), flush=True)
"""

INSTALLS = """\
import leakagent
print(leakagent.install(), leakagent.is_active(), flush=True)
"""

IS_SUBINTERPRETER = "leakagent: off in this interpreter: it is a subinterpreter, and leakagent stays in the main one"


def test_a_subinterpreter_runs_without_the_agent(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    path = program(f"{HEAD}\nin_another({WORK!r})\nprint(sys.modules['leakagent.agent'].is_active())\n")
    ran = python(path, env={"LEAKAGENT": "1"})
    assert (ran.returncode, ran.stdout.split()) == (0, ["worked", "False", "True"]), ran
    # From 3.14 on there is a public module, whose users are told by the main interpreter.
    assert ran.stderr.splitlines() == ([] if sys.version_info >= (3, 14) else [IS_SUBINTERPRETER]), ran


def test_install_in_a_subinterpreter_says_that_it_stays_off(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    ran = python(program(f"{HEAD}\nin_another({INSTALLS!r})\n"))
    assert (ran.returncode, ran.stdout.split()) == (0, ["False", "False"]), ran
    assert ran.stderr.splitlines() == [IS_SUBINTERPRETER], ran


PUBLIC = """\
import concurrent.interpreters, sys

for _ in range(3):
    other = concurrent.interpreters.create()
    other.exec("print('worked', flush=True)")
    other.close()
if __name__ == "__main__":
    from concurrent.futures import InterpreterPoolExecutor
    with InterpreterPoolExecutor(2) as pool:
        print(list(pool.map(abs, [-1, -2])))
"""

if sys.version_info >= (3, 14):

    def test_programs_of_the_public_module_are_told_once(python: Callable[..., Any], program: Callable[..., Path]) -> None:
        ran = python("-m", "leakagent", program(PUBLIC))
        assert (ran.returncode, ran.stdout.split("\n")) == (0, ["worked"] * 3 + ["[1, 2]", ""]), ran
        assert ran.stderr.splitlines() == [
            "leakagent: subinterpreters are not watched: leakagent stays in the main interpreter"
        ], ran


# -- free-threaded builds: none is here, so `sys` is made to say that this is one --------------------------------------

WITHOUT_LOCK = "import sys; sys._is_gil_enabled = lambda: False\n"

SAID = (
    "leakagent: off in this interpreter: Python runs without its global lock, which leakagent was not tested with "
    "(PYTHON_GIL=1 brings it back)"
)


def test_stand_in_for_a_free_threaded_build_install(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    ran = python(program(WITHOUT_LOCK + INSTALLS))
    assert (ran.returncode, ran.stdout.split(), ran.stderr.splitlines()) == (0, ["False", "False"], [SAID]), ran


def test_stand_in_for_a_free_threaded_build_command_line(
    python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_LOCK, encoding="utf-8")
    path = program(f"{WORK}\nsys.exit(5)\n")
    ran = python("-m", "leakagent", path, env={"PYTHONPATH": str(tmp_path)})
    assert (ran.returncode, ran.stdout.split(), ran.stderr.splitlines()) == (5, ["worked", "False"], [SAID]), ran


OTHER_WAYS = """\
import leakagent.attached, leakagent.testing
print(leakagent.attached.attach({}, is_borrowed=False)["error"])
try:
    with leakagent.testing.assert_no_leaks():
        print("not reached")
except RuntimeError as error:
    print(error)
"""


def test_stand_in_for_a_free_threaded_build_other_ways(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    ran = python(program(WITHOUT_LOCK + OTHER_WAYS))
    why = SAID.partition(": off in this interpreter: ")[2]
    assert ran.stdout.splitlines() == [
        f"the agent can't work there: {why}",
        f"leakagent is off in this interpreter: {why}",
    ], ran


@pytest.mark.parametrize("name", ["pydevd", "gevent", "eventlet.green"])
def test_stand_in_for_green_threads(name: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    patch = (
        "import _thread; start = _thread.start_new_thread; _thread.start_new_thread = lambda *words: start(*words)\n"
        f"_thread.start_new_thread.__module__ = '{name}.thread'\n"
    )
    ran = python(program(patch + INSTALLS))
    said = "leakagent: off in this interpreter: somebody (gevent, eventlet) has made threads green, and leakagent needs real ones"
    # A debugger wraps the same function, and its threads are real.
    expected = (["True", "True"], []) if name == "pydevd" else (["False", "False"], [said])
    assert (ran.returncode, (ran.stdout.split(), ran.stderr.splitlines())) == (0, expected), ran
