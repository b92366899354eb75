"""Shared memory that stays in /dev/shm: told with the line that made it, by the process that the user started, and left as it is."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PROPER = """\
import multiprocessing, os, sys
from multiprocessing import resource_tracker
from multiprocessing.managers import SharedMemoryManager
from multiprocessing.shared_memory import ShareableList, SharedMemory

def attaches(name):
    block = SharedMemory(name)
    block.buf[0] = 7
    block.close()

def makes(queue):
    block = SharedMemory(create=True, size=100)
    # The parent unlinks it, as a pool's worker hands over its result.
    queue.put(block.name)
    block.close()

def main(method):
    context = multiprocessing.get_context(method)
    block = SharedMemory(None, True, 100)
    process = context.Process(target=attaches, args=(block.name,))
    process.start()
    process.join()
    print(block.buf[0], block.size >= 100)
    block.close()
    block.unlink()
    values = ShareableList([1, "two"])
    print(list(values))
    values.shm.close()
    values.shm.unlink()
    with SharedMemoryManager() as manager:
        print(manager.SharedMemory(size=10).size >= 10)
    queue = context.Queue()
    process = context.Process(target=makes, args=(queue,))
    process.start()
    theirs = SharedMemory(queue.get())
    process.join()
    theirs.close()
    theirs.unlink()
    dropped = SharedMemory(create=True, size=100)
    name = dropped.name
    del dropped
    SharedMemory(name).unlink()
    if sys.version_info >= (3, 13):
        outlives = SharedMemory(create=True, size=100, track=False)
        print(os.path.exists("/dev/shm/" + outlives.name))
        with open("outlives", "w") as file:
            file.write(outlives.name)

if __name__ == "__main__":
    main(sys.argv[1])
"""


def test_proper_use_is_not_told(told: Callable[..., Any], tmp_path: Any) -> None:
    for method in ("spawn", "forkserver", "fork"):
        after = told(PROPER, method)
        try:
            assert after.findings == [], after
            assert (after.ran.returncode, after.report["agent"]["disabled"]) == (0, []), after
            expected = ["7 True", "[1, 'two']", "True", *(["True"] if sys.version_info >= (3, 13) else [])]
            assert after.lines == expected, after
        finally:
            if (tmp_path / "outlives").exists():
                os.unlink("/dev/shm/" + (tmp_path / "outlives").read_text(encoding="utf-8"))
                (tmp_path / "outlives").unlink()


MANY = """\
from multiprocessing.managers import SharedMemoryManager
from multiprocessing.shared_memory import SharedMemory
from leakagent import agent

def noted():
    return len(agent.current().registry.of_kind("shared_memory"))

if __name__ == "__main__":
    for _ in range(100):
        block = SharedMemory(create=True, size=1)
        block.close()
        block.unlink()
    print(noted())
    for _ in range(3):
        with SharedMemoryManager() as manager:
            # The manager's process unlinks them.
            for _ in range(50):
                manager.SharedMemory(size=1).close()
    print(noted() <= 120)
"""


def test_many_blocks_keep_nothing(told: Callable[..., Any]) -> None:
    after = told(MANY)
    assert (after.lines, after.findings) == (["0", "True"], []), after


LEFT = """\
import os
from multiprocessing.shared_memory import ShareableList, SharedMemory

class Mine(SharedMemory):
    def __init__(self, size):
        super().__init__(create=True, size=size)

def make():
    return SharedMemory(create=True, size=3 << 20)  # kept

kept = make()
Mine(10).close()  # dropped
values = ShareableList([1, 2])  # values
values.shm.close()
child = os.fork()
if child == 0:
    # Its parent's blocks are none of its own.
    raise SystemExit(0)
os.waitpid(child, 0)
print(kept.name)
"""


def test_what_stays_is_told_at_its_line(told: Callable[..., Any]) -> None:
    after = told(LEFT)
    assert after.ran.returncode == 0, after
    found = {one["site"]["line"]: one for one in after.findings}
    assert set(found) == {after.line("kept"), after.line("dropped"), after.line("values")}, after
    for one in found.values():
        assert (one["kind"], one["reason"], one["action"], one["count"]) == ("shared_memory", "not_closed", "none", 1)
    kept = found[after.line("kept")]
    assert (kept["names"], kept["evidence"]) == (after.lines, ["nobody has unlinked it: 3.0 MB in /dev/shm"])
    # Python's resource tracker removes them in the end, as without the agent.
    assert "leaked shared_memory objects" in after.ran.stderr
