"""A Python that has not what a part of the agent needs: the part is not put in place, one line says so, and nothing is guessed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from leakagent.shutdown import interpreter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Uses what the parts patch, and leaves a pool and a task of each kind; the name stands for one that a future Python drops.
TEXT = """\
import sys
from leakagent.shutdown import interpreter
interpreter.NEEDED[sys.argv[1]].append("_of_another_python")
import leakagent
leakagent.install(report="json:report.json")
import asyncio, tempfile, threading
from concurrent.futures import ThreadPoolExecutor
async def main():
    global kept
    kept = asyncio.create_task(asyncio.sleep(3600))
    return await asyncio.gather(asyncio.sleep(0, 1), asyncio.to_thread(abs, -2))
print(asyncio.run(main()))
pool = ThreadPoolExecutor(1)
print(pool.submit(pow, 2, 3).result())
thread = threading.Thread(target=print, args=("thread",))
thread.start()
thread.join()
with tempfile.NamedTemporaryFile() as file:
    print(file.write(b"abc"))
sys.exit(7)
"""

#: Module -> the parts that patch it or look into it, and what is not told without them.
PARTS = {
    "threading": (["threads"], ""),
    "concurrent.futures.thread": (["executors", "stalls"], "thread_pool"),
    "asyncio.tasks": (["asyncio"], "asyncio.task"),
    "tempfile": (["tempfile"], ""),
}


@pytest.mark.parametrize("module", PARTS)
def test_what_does_not_fit_is_switched_off(
    module: str, python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    ran = python(program(TEXT), module)
    assert (ran.returncode, ran.stdout) == (7, "[1, 2]\n8\nthread\n3\n"), ran
    parts, untold = PARTS[module]
    cause = f"this Python has no {module}._of_another_python"
    assert ran.stderr == "".join(f"leakagent: {part} switched off: {cause}\n" for part in parts), ran
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["agent"]["disabled"] == [f"{part}: {cause}" for part in parts]
    assert {one["kind"] for one in report["findings"]} == {"thread_pool", "asyncio.task"} - {untold}, report


def test_each_part_that_needs_something_is_tried() -> None:
    assert PARTS.keys() == interpreter.NEEDED.keys()
    assert [interpreter.missing_of(__import__(name, fromlist=["_"])) for name in PARTS] == [[]] * len(PARTS)


def test_tasks_that_are_written_in_python_have_it_as_well(python: Callable[..., Any]) -> None:
    code = (
        "import asyncio.tasks as tasks\nfrom leakagent.shutdown import interpreter\n"
        "tasks.Task = tasks._PyTask\nprint(interpreter.missing_of(tasks))"
    )
    assert python("-c", code).stdout == "[]\n"


def test_doctor_says_what_is_off_and_why(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    program(
        "from leakagent.shutdown import interpreter\ninterpreter.NEEDED['concurrent.futures.thread'].append('_of_another_python')",
        "site/sitecustomize.py",
    )
    ran = python("-m", "leakagent", "doctor", env={"PYTHONPATH": str(tmp_path / "site")})
    assert ran.returncode == 1, ran
    name = "concurrent.futures.thread._of_another_python"
    assert f"SWITCHED OFF         executors: this Python has no {name}\n" in ran.stdout, ran
    assert f"NOT IN THIS PYTHON   {name}\n" in ran.stdout, ran
