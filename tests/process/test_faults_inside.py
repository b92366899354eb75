"""Errors inside the agent: the program's results are the same, one line says what is off, and the report names it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Uses everything that is patched; the fault comes first.
WORK = """\
import asyncio, gc, multiprocessing, sys, threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

def boom(*args, **kwargs):
    raise MemoryError("injected")

{fault}

async def work(n):
    await asyncio.sleep(0)
    return n

async def main():
    tasks = [asyncio.create_task(work(n)) for n in range(3)]
    gc.collect()
    print(await asyncio.gather(*tasks), await asyncio.to_thread(str, 5))
    global kept
    kept = asyncio.create_task(asyncio.sleep(600))

if __name__ == "__main__":
    for _ in range(2):
        asyncio.run(main())
        with ThreadPoolExecutor(1) as pool:
            print(pool.submit(pow, 2, 3).result())
        thread = threading.Thread(target=print, args=["thread"])
        thread.start()
        thread.join()
        process = multiprocessing.get_context("fork").Process(target=print, args=["process"])
        sys.stdout.flush()
        process.start()
        process.join()
        left = ThreadPoolExecutor(1)
        left.submit(int)
    sys.exit(7)
"""

#: Fault -> the parts that are named as off.
FAULTS: dict[str, tuple[str, set[str]]] = {
    "registry": ("from leakagent.core import registry\nregistry.Registry.add = boom", {"executors", "threads", "processes"}),
    "records": ("from leakagent.core import registry\nregistry.Record = boom", {"executors", "threads", "processes"}),
    "weak references": (
        "from leakagent.core import registry\nregistry._Dropped = boom",
        {"executors", "threads"},
    ),
    "sites": ("from leakagent.core import registry\nregistry.creating_frame = boom", {"executors", "threads", "processes"}),
    "proofs": ("from leakagent.instrumentation import asyncio_tasks\nasyncio_tasks.is_lost = boom", {"asyncio loops"}),
    "the collector's hook": (
        "from leakagent.instrumentation import task_window\ntask_window.Window._hold = boom",
        {"asyncio tasks"},
    ),
    "fingerprints": ("from leakagent.report import fingerprint\nfingerprint.complete = boom", {"end of the program"}),
    "detectors": ("from leakagent import ending\nending.Ending._thread_pools = boom", {"detector boom"}),
    "the first part of the end": (
        "from leakagent.shutdown import interpreter\ninterpreter.pool_load = boom",
        {"end of the program"},
    ),
    "waiting": ("from leakagent import ending\nending.wait_like_python = boom", {"shutdown stage executors"}),
    "reports": ("from leakagent.report import write\nwrite._rendered = boom", set()),
    "a module that is gone": (
        "for name in [n for n in sys.modules if n.startswith('leakagent')]:\n    del sys.modules[name]",
        set(),
    ),
}
#: Of these only lines are left, or the report as text.
WITHOUT_REPORT = {"fingerprints", "reports"}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_inside(name: str, python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    fault, parts = FAULTS[name]
    report = tmp_path / "report.json"
    app = program(WORK.format(fault=fault))
    ran = python("-m", "leakagent", "--report", f"json:{report}", app)
    assert (ran.returncode, ran.stdout) == (7, "[0, 1, 2] 5\n8\nthread\nprocess\n" * 2), ran
    # One line for each part, however often it fails.
    said = [line for line in ran.stderr.splitlines() if " switched off " in line]
    assert len(said) == len(parts), ran
    for part in parts:
        assert any(line.startswith(f"leakagent: {part} switched off after an error of leakagent's own: ") for line in said), ran
    assert report.exists() == (name not in WITHOUT_REPORT), ran
    if report.exists():
        disabled = json.loads(report.read_text(encoding="utf-8"))["agent"]["disabled"]
        assert {text.partition(":")[0] for text in disabled} == parts, disabled
        assert ran.stderr.splitlines() == said, ran


def test_every_other_part_goes_on(told: Callable[..., Any]) -> None:
    text = """\
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor
from leakagent.instrumentation import threads
def boom(*args):
    raise ValueError("injected")
threads.Threads._note = boom
threading.Thread(target=int).start()
pool = ThreadPoolExecutor(1)  # pool
async def main():
    global kept
    kept = asyncio.create_task(asyncio.sleep(600))  # task
    await asyncio.sleep(0)
asyncio.run(main())
"""
    after = told(text)
    assert after.only("not_shut_down")["site"]["line"] == after.line("pool")
    assert after.only("outlived_scope")["site"]["line"] == after.line("task")
    assert after.report["agent"]["disabled"] == ["threads: ValueError: injected"]
    assert after.ran.stderr.count("switched off") == 1


BROKEN_MODULES = {
    "wrapt missing": ("wrapt", "raise ImportError('no wrapt here')"),
    "wrapt broken": ("wrapt", "raise RuntimeError('built for another Python')"),
}


@pytest.mark.parametrize("name", BROKEN_MODULES)
def test_wrapt_that_does_not_work(name: str, python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    module, code = BROKEN_MODULES[name]
    program(code, f"shadow/{module}.py")
    # Stands for a library whose constructors are wrapped.
    program("class AsyncConnection:\n    def __init__(self): pass\n    def close(self): print('closed')", "shadow/lancedb/db.py")
    program("", "shadow/lancedb/__init__.py")
    app = program(
        "import lancedb.db\nlancedb.db.AsyncConnection().close()\n"
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)"
    )
    env = {"PYTHONPATH": str(tmp_path / "shadow")}
    report = tmp_path / "report.json"
    ran = python("-m", "leakagent", "--report", f"json:{report}", app, env=env)
    assert (ran.returncode, ran.stdout) == (0, "closed\n"), ran
    assert ran.stderr.startswith("leakagent: lancedb switched off"), ran
    assert ran.stderr.count("\n") == 1, ran
    written = json.loads(report.read_text(encoding="utf-8"))
    assert [text.partition(":")[0] for text in written["agent"]["disabled"]] == ["lancedb"]
    assert [found["kind"] for found in written["findings"]] == ["thread_pool"]


def test_a_library_that_looks_different(told: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    program("class Connection: pass", "lancedb/db.py")
    program("", "lancedb/__init__.py")
    after = told("import lancedb.db\nprint(lancedb.db.Connection.__name__)")
    assert (after.ran.returncode, after.lines, after.findings) == (0, ["Connection"], [])
    assert [text.partition(":")[0] for text in after.report["agent"]["disabled"]] == ["lancedb"]


def test_the_traceback_of_a_failing_import_is_pythons_own(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    program("raise OSError('no such library')", "lancedb/db.py")
    program("", "lancedb/__init__.py")
    app = program("import lancedb.db")
    bare, ran = python(app), python("-m", "leakagent", app)
    assert (ran.returncode, ran.stderr.splitlines()[-3:]) == (bare.returncode, bare.stderr.splitlines()[-3:]), (bare, ran)
    # Python 3.10 keeps the first traceback when an exception is raised again.
    assert sys.version_info < (3, 11) or ran.stderr == bare.stderr, (bare, ran)


DEEP = """\
import asyncio, sys, threading
from concurrent.futures import ThreadPoolExecutor
made = []
def thread():
    one = threading.Thread(target=int)
    one.start()
    one.join()
def pool():
    ThreadPoolExecutor(1).shutdown()
async def nothing():
    pass
def task():
    made.append(asyncio.get_running_loop().create_task(nothing()))
def dive(what):
    try:
        return dive(what)
    except RecursionError:
        return what()
async def main():
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    usual = sys.getrecursionlimit()
    for what in (task, pool, thread):
        for limit in range(100, 130):
            sys.setrecursionlimit(limit)
            dive(what)
    sys.setrecursionlimit(usual)
    await asyncio.gather(*made)
    print(len(made) >= 30, all(one.done() for one in made))
import warnings
warnings.simplefilter("ignore")
asyncio.run(main())
"""


def test_at_the_recursion_limit(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    # Each call happens where only a few more frames fit, so that the agent's own run into the limit.
    app = program(DEEP)
    ran = python("-m", "leakagent", "--report", "off", app)
    assert (ran.returncode, ran.stdout) == (0, "True True\n"), ran
    said = [line for line in ran.stderr.splitlines() if line.startswith("leakagent")]
    assert all("RecursionError" in line for line in said), ran
    assert len(said) == len(set(said)), ran


PATCHED = {
    "open": "import builtins\nbuiltins.open = boom",
    "print": "import builtins\nbuiltins.print, say = boom, print",
    "the clock stands": "import time\ntime.time = time.monotonic = time.perf_counter = lambda: 1.0",
    "the clock goes backwards": (
        "import time, itertools\ncount = itertools.count()\ntime.time = time.perf_counter = lambda: 1e9 - next(count)"
    ),
    "Thread": "import threading\nclass Thread(threading.Thread):\n    pass\nthreading.Thread = Thread",
    "os.fspath": "import os\nos.path.basename = os.listdir = os.path.join = boom",
    "json": "import json\njson.dumps = json.loads = boom",
    "argv": "sys.argv = None",
    "argv of no texts": "sys.argv = [1, None, b'x']",
    "no argv": "del sys.argv",
    "the environment": "import os\nos.environ.clear()",
    "the working folder": "import os\nos.chdir('/')",
    "the working folder is gone": "import os, tempfile\nfolder = tempfile.mkdtemp()\nos.chdir(folder)\nos.rmdir(folder)",
    "the collector's callbacks": "import gc\ngc.callbacks.clear()",
    "no collector": "import gc\ngc.disable()\ngc.freeze()",
    "the import finders": "sys.meta_path[:] = sys.meta_path[::-1]",
    "exit": "sys.exit = None",
    "locale": "import locale\nlocale.setlocale(locale.LC_ALL, 'C')",
}

CLEAN = """\
import asyncio, sys, threading
from concurrent.futures import ThreadPoolExecutor
say = print
def boom(*args, **kwargs):
    raise ValueError("injected")
{patch}
async def main():
    return await asyncio.gather(*(asyncio.to_thread(abs, -n) for n in range(3)))
say(asyncio.run(main()))
with ThreadPoolExecutor(1) as pool:
    say(pool.submit(pow, 2, 3).result())
thread = threading.Thread(target=say, args=["thread"])
thread.start()
thread.join()
"""


@pytest.mark.parametrize("name", PATCHED)
@pytest.mark.parametrize("way", ["module", "environment"])
def test_a_program_that_patches_python(name: str, way: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    app = program(CLEAN.format(patch=PATCHED[name]))
    bare = python(app)
    ran = python("-m", "leakagent", app) if way == "module" else python(app, env={"LEAKAGENT": "1"})
    assert (ran.returncode, ran.stdout) == (bare.returncode, bare.stdout), (bare, ran)
    said = [line for line in ran.stderr.splitlines() if line.startswith("leakagent:")]
    assert len(said) <= 1, ran
    assert [line for line in ran.stderr.splitlines() if line not in said] == bare.stderr.splitlines(), (bare, ran)


def test_what_breaks_in_children_is_told_once(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    text = """\
import multiprocessing, sys
from concurrent.futures import ThreadPoolExecutor

def child():
    from leakagent.core import registry
    registry.creating_frame = None
    ThreadPoolExecutor(1).shutdown()
    print("child", flush=True)

if __name__ == "__main__":
    for _ in range(3):
        process = multiprocessing.get_context(sys.argv[1]).Process(target=child)
        process.start()
        process.join()
"""
    app, report = program(text), tmp_path / "report.json"
    for how in ("fork", "spawn"):
        ran = python("-m", "leakagent", "--report", f"json:{report}", app, how)
        assert (ran.returncode, ran.stdout) == (0, "child\n" * 3), ran
        line = "leakagent: executors switched off in a child after an error of leakagent's own: TypeError: "
        assert [one.startswith(line) for one in ran.stderr.splitlines()] == [True], ran
        (disabled,) = json.loads(report.read_text(encoding="utf-8"))["agent"]["disabled"]
        assert disabled.startswith("executors: TypeError: ")
