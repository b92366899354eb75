"""What keeps a program from ending, times the ways in which it is told to: shared by ``test_exit_matrix.py`` and ``benchmarks/exit.py``."""

from __future__ import annotations

import signal

_HEAD = """\
import atexit, asyncio, os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
atexit.register(print, "exit handler", flush=True)

def job(number):
    time.sleep(0.1)
    os.write(1, b"job\\n")  # in one piece

def never():
    threading.Event().wait()
"""

#: What is left behind -> the lines that do it.
LEFT = {
    "nothing": "",
    "a stuck thread": "threading.Thread(target=never).start()",
    "a stuck pool": "pool = ThreadPoolExecutor(1)\npool.submit(never)",
    "a queue of 12": "pool = ThreadPoolExecutor(2)\nfor number in range(12): pool.submit(job, number)",
    "nested pools": (
        "outer, inner = ThreadPoolExecutor(1), ThreadPoolExecutor(1)\ndef both():\n    inner.submit(job, 1).result()\n    job(2)\n"
        "for number in range(4): outer.submit(both)"
    ),
    "the loop's executor": "",
}

#: Programs that leave nothing, for the times of ``benchmarks/exit.py``.
CLEAN = {
    "an empty program": "",
    "asyncio.run": "import asyncio\nasyncio.run(asyncio.sleep(0))",
    "a pool in its `with`": (
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as pool: list(pool.map(abs, range(100)))"
    ),
    "joined threads": (
        "import threading\nthreads = [threading.Thread(target=int) for _ in range(20)]\n"
        "for thread in threads: thread.start()\nfor thread in threads: thread.join()"
    ),
    "a joined child": (
        "import multiprocessing\nchild = multiprocessing.get_context('fork').Process(target=int)\nchild.start()\nchild.join()"
    ),
}

#: End -> the signals that are sent, the last line of the program, and the status that it ends with.
ENDS: dict[str, tuple[tuple[int, ...], str, int]] = {
    "normal": ((), "", 0),
    "exception": ((), "raise KeyError", 1),
    "sys.exit(7)": ((), "sys.exit(7)", 7),
    "SIGINT": ((signal.SIGINT,), "", -signal.SIGINT),
    "SIGINT twice": ((signal.SIGINT, signal.SIGINT), "", -signal.SIGINT),
    "SIGTERM": ((signal.SIGTERM,), "", -signal.SIGTERM),
    "SIGTERM twice": ((signal.SIGTERM, signal.SIGTERM), "", -signal.SIGTERM),
    "SIGHUP": ((signal.SIGHUP,), "", -signal.SIGHUP),
}

_WAIT = "while True: time.sleep(0.05)"


def program(left: str, end: str) -> str:
    """Return the text of a program that prints ``ready`` and then ends in one way."""
    signals, last, _ = ENDS[end]
    ready = 'print("ready", flush=True)'
    if left != "the loop's executor":
        return "\n".join([_HEAD, LEFT[left], ready, _WAIT if signals else last, ""])
    inside = ["async def main():", "    asyncio.get_running_loop().run_in_executor(None, never)", f"    {ready}"]
    inside.append("    while True: await asyncio.sleep(0.05)" if signals else f"    {last}")
    return "\n".join([_HEAD, *inside, "asyncio.run(main())", ""])


def jobs_of(left: str) -> int:
    """Return how many jobs are run if nothing cuts them off; jobs of nested pools submit others, which Python refuses at the end."""
    return 12 if left == "a queue of 12" else 0
