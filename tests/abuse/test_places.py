"""No /proc, nothing to write to, no home, no pidfd: the program's results are the bare one's, and what can still be told is told."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

#: Uses everything that is patched, stays long enough for the socket, and leaves one of each.
WORK = """\
import asyncio, multiprocessing, os, subprocess, sys, tempfile, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

async def work(number):
    await asyncio.sleep(0)
    return number

async def forever():
    await asyncio.sleep(3600)

async def main():
    global kept
    kept = asyncio.create_task(forever())
    print(await asyncio.gather(*(work(number) for number in range(5))), await asyncio.to_thread(abs, -5))

if __name__ == "__main__":
    asyncio.run(main())
    with ThreadPoolExecutor(2) as pool:
        print(list(pool.map(abs, [-1, -2])))
    context = multiprocessing.get_context("fork")
    child = context.Process(target=abs, args=(1,))
    child.start()
    child.join()
    print(child.exitcode)
    print(subprocess.run([sys.executable, "-S", "-c", ""]).returncode)
    left = ThreadPoolExecutor(1)
    print(left.submit(pow, 2, 3).result())
    time.sleep(0.5)
    sys.stdout.flush()
    sys.exit(7)
"""

LEFT = [("not_shut_down", "thread_pool", 1), ("outlived_scope", "asyncio.task", 1)]


@pytest.mark.parametrize("condition", ["no-proc", "no-pidfd", "no-home"])
def test_everything_else_is_told(condition: str, both: Callable[..., Any]) -> None:
    found = both(WORK, condition)
    found.same()
    assert found.bare.returncode == 7, found
    assert found.told == LEFT, found
    assert found.report["agent"]["disabled"] == [], found
    assert found.ran.stderr == found.bare.stderr, found


@pytest.mark.parametrize("what", ["everything", "the runtime folder"])
def test_nothing_can_be_written(what: str, both: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path if what == "everything" else tmp_path / "runtime"
    found = both(WORK, f"read-only={folder}", env={"TMPDIR": os.fspath(folder)}, report=f"json:{folder}/report.json")
    found.same()
    assert found.bare.returncode == 7, found
    first, second, *_ = found.ran.stderr.splitlines()
    assert first == f"leakagent: json report lost: can't write to '{folder}/report.json': Read-only file system", found
    # What could not be written is printed.
    assert second.startswith("leakagent: 2 resources were still open when app.py ended"), found


def test_where_no_folder_can_be_made_the_report_is_still_written(both: Callable[..., Any], tmp_path: Path) -> None:
    # The runtime folder's place is taken by a file, and so is that of the temporary one.
    taken = tmp_path / "runtime"
    taken.mkdir()
    (taken / "leakagent").write_text("", encoding="utf-8")
    found = both(WORK)
    found.same()
    assert found.told == LEFT, found


CHILD = """\
import multiprocessing, os, signal, sys, time

def child(number):
    print(os.getpid(), flush=True)
    while True: time.sleep(0.05)

if __name__ == "__main__":
    process = multiprocessing.get_context(sys.argv[1]).Process(target=child, args=(1,))
    process.start()
    while True: time.sleep(0.05)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_whose_starter_is_killed_ends_without_a_pidfd(
    method: str, spawn_in: Callable[..., subprocess.Popen[str]], program: Callable[..., Path], until: Callable[..., None]
) -> None:
    process = spawn_in("no-pidfd", "-m", "leakagent", "--grace", "0.5", program(CHILD), method)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not _is_alive(pid), "the child is gone")
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
    except OSError:
        return False
