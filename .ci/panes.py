"""Runs ``leakagent top`` in tmux over three real programs, and puts what it shows into docs/top.md.

python .ci/panes.py PYTHON     (make panes; needs tmux) ``PYTHON`` has leakagent[tui] installed; status 1 if the view does not show what it should
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "top.md"

PROGRAMS = {
    "pools.py": """\
import time
from concurrent.futures import ThreadPoolExecutor

pools = [ThreadPoolExecutor(1) for _ in range(3)]  # one for each file
time.sleep(3600)
""",
    "feed.py": """\
import asyncio


async def read(name):
    await asyncio.sleep(3600)


async def main():
    kept = []
    while True:
        kept.append(asyncio.create_task(read("a")))
        await asyncio.sleep(0.7)


asyncio.run(main())
""",
    "worker.py": """\
import threading
import time

threading.Thread(target=time.sleep, args=(3600,)).start()
""",
}

#: What the two pictures must show.
FIRST = ("pools.py", "feed.py", "worker.py", "3 x not_shut_down", "one for each file")
SECOND = ("open  yours  feed.py:11 main", "now in asyncio/tasks.py", "feed.py:5 read", "has grown")

SECONDS = 120


class Terminal:
    """A tmux of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        """Start none yet."""
        self.command = ["tmux", "-f", "/dev/null", "-S", str(folder / "tmux")]
        self._environment = environment

    def __call__(self, *words: str) -> str:
        """Run a command of tmux."""
        ran = subprocess.run([*self.command, *words], env=self._environment, check=True, capture_output=True, text=True)
        return ran.stdout

    def until(self, texts: tuple[str, ...]) -> str:
        """Return what it shows when all texts are there."""
        end = time.monotonic() + SECONDS
        while True:
            shown = self("capture-pane", "-p", "-t", "top")
            missing = [text for text in texts if text not in shown]
            if not missing:
                return shown
            if time.monotonic() > end:
                sys.exit(f"leakagent top does not show {missing}:\n{shown}")
            time.sleep(0.5)


def pictures(python: str, folder: Path) -> list[str]:
    """Return what the view shows: the first line, and the second one opened."""
    runtime = folder / "runtime"
    runtime.mkdir()
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "LEAKAGENT_REPORT": "off", "LEAKAGENT_STALLED_AFTER": "20"}
    programs = []
    terminal = Terminal(folder, environment)
    try:
        for name, text in PROGRAMS.items():
            (folder / name).write_text(text, encoding="utf-8")
            programs.append(
                subprocess.Popen([python, "-m", "leakagent", name], cwd=folder, env=environment, start_new_session=True)
            )
        terminal("new-session", "-d", "-s", "top", "-x", "118", "-y", "30", f"{python} -m leakagent top")
        terminal.until(FIRST)
        time.sleep(20)  # some looks of the programs' own, for the growth
        first = terminal.until(FIRST)
        terminal("send-keys", "-t", "top", "Down", "Enter")
        return [first, terminal.until(SECOND)]
    finally:
        subprocess.run([*terminal.command, "kill-server"], check=False, capture_output=True)
        for program in programs:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()


def main() -> None:
    """Take the pictures and put them into the page."""
    if shutil.which("tmux") is None:
        sys.exit("there is no tmux on this machine (Debian: apt-get install tmux)")
    with tempfile.TemporaryDirectory(prefix="leakagent-panes-") as folder:
        shown = [re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE) for text in pictures(sys.argv[1], Path(folder))]
    text = PAGE.read_text(encoding="utf-8")
    for number, block in enumerate(re.findall(r"```text\n.*?```", text, re.DOTALL)):
        lines = "\n".join(line for line in shown[number].splitlines() if line)
        text = text.replace(block, f"```text\n{lines}\n```")
    PAGE.write_text(text, encoding="utf-8")
    print(*shown, sep="\n")


if __name__ == "__main__":
    main()
