"""Two threads that wait for the same worker at the end of the program are no signs of life to each other."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

PROGRAM = """\
import asyncio, threading

async def main():
    task = asyncio.create_task(asyncio.to_thread(threading.Event().wait))
    print("READY", flush=True)
    try:
        await asyncio.sleep(3600)
    finally:
        print("ENDING", flush=True)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("CAUGHT", flush=True)
"""


def test_ctrl_c_while_the_loop_waits_for_a_stuck_worker(
    spawn: Callable[..., subprocess.Popen[str]], until: Callable[..., None], program: Callable[..., Path]
) -> None:
    # The program catches Ctrl+C and ends with status 0: only that the worker is stuck can end the waiting.
    process = spawn("-m", "leakagent", program(PROGRAM), variables={"LEAKAGENT_BUDGET": "8"})
    assert process.stdout is not None
    for line in ("READY\n", "ENDING\n"):
        assert process.stdout.readline() == line
        until(lambda: _waits(process.pid), "the main thread waits")
        process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert (stdout, process.returncode) == ("CAUGHT\n", 0), stderr
    assert "kept the process from ending" in stderr


def _waits(pid: int) -> bool:
    def look() -> list[Any]:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        return [line for line in lines if line.startswith(("State", "voluntary"))]

    first = look()
    time.sleep(0.1)
    return first == look() and "S (sleeping)" in first[0]
