"""The screen of ``leakagent top``, with real processes: sorted by leaks, details, current frames, filter."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from textual.widgets import DataTable, Static

from leakagent.cli.top_screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROGRAMS = {
    "clean.py": "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n",
    "pools.py": "from concurrent.futures import ThreadPoolExecutor\nimport time\n"
    "pools = [ThreadPoolExecutor(1) for _ in range(3)]  # made here\ntime.sleep(600)\n",
    "tasks.py": "import asyncio\nasync def wait():\n    await asyncio.sleep(600)\n"
    "async def main():\n    global kept\n    kept = asyncio.create_task(wait())\n    await asyncio.sleep(600)\nasyncio.run(main())\n",
}


@pytest.fixture
def three(
    program: Callable[..., Path],
    environment: Callable[..., dict[str, str]],
    tmp_path: Path,
    until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dict[str, int]]:
    """Start three programs in a runtime folder of their own, which this process asks as well."""
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    env = environment({"XDG_RUNTIME_DIR": str(runtime), "LEAKAGENT_REPORT": "off"})
    started = {
        name: subprocess.Popen(
            [sys.executable, "-m", "leakagent", program(text, name)], cwd=tmp_path, env=env, start_new_session=True
        )
        for name, text in PROGRAMS.items()
    }
    try:
        until(lambda: len(list(runtime.glob("leakagent/live-*.sock"))) == len(started), "all have a socket")
        yield {name: process.pid for name, process in started.items()}
    finally:
        for process in started.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def shown(pilot: Any, condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, what
        await pilot.pause(0.05)


def test_the_screen(three: dict[str, int]) -> None:
    async def main() -> None:
        screen = Screen()
        async with screen.run_test(size=(140, 40)) as pilot:
            table, details = screen.query_one(DataTable), screen.query_one("#details", Static)

            def line(row: int) -> str:
                return " ".join(str(cell) for cell in table.get_row_at(row))

            def text() -> str:
                return str(details.content)

            await shown(pilot, lambda: table.row_count >= len(three), "all are listed")
            assert "pools.py" in line(0)
            assert "thread_pool" in line(0)
            assert str(three["pools.py"]) in line(0)
            await shown(pilot, lambda: "pools.py:3 <" in text(), "the line of the leak")
            assert "3 x not_shut_down  yours" in text()
            assert "made here" in text()
            await pilot.press("enter")
            await shown(pilot, lambda: "main thread:" in text() and "pools.py:4 <module>" in text(), "the current frame")
            table.move_cursor(row=next(row for row in range(table.row_count) if "asyncio.task" in line(row)))
            await shown(pilot, lambda: "nothing leaks here" in text(), "a line without a leak")
            await pilot.press("enter")
            await shown(pilot, lambda: "now in asyncio/tasks.py:" in text(), "the await chain")
            before = screen._processes
            await pilot.press("r")
            await shown(pilot, lambda: screen._processes is not before, "the table is filled anew")
            await shown(pilot, lambda: "now in asyncio/tasks.py:" in text(), "the answer is still there")
            assert "1 open  yours  tasks.py:6 main" in text()
            assert "  > kept = asyncio.create_task(wait())" in text()
            assert "tasks.py:3 wait" in text()
            await pilot.press("s")
            assert "by live" in screen.sub_title
            await pilot.press("slash", *"tasks", "enter")
            await shown(pilot, lambda: "tasks.py" in line(0) and table.row_count < len(three) + 1, "the filter")
            assert all("tasks.py" in line(row) for row in range(table.row_count))
            os.kill(three["tasks.py"], signal.SIGKILL)
            await shown(pilot, lambda: table.row_count == 0, "who has ended is gone")
            await pilot.press("q")

    asyncio.run(main())
