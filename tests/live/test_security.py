"""What leaves the process: places and names, and nothing that the program works with; nothing goes over a network by itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROGRAM = """
import asyncio, os, sys, threading
from concurrent.futures import ThreadPoolExecutor
secret = os.environ["API_KEY"]
async def ask(question, key):
    mine = {"key": key}
    await asyncio.get_running_loop().create_future()
async def main():
    global kept
    pool = ThreadPoolExecutor(1)
    pool.submit(lambda key: None, secret)
    kept = asyncio.create_task(ask("a " + "question", secret))
    await asyncio.sleep(0)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
asyncio.run(main())
"""

WATCHED = """
import os, sys
def watch(name, arguments):
    if name in {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"}:
        os.write(2, f"{name}{arguments[1:]}\\n".encode())
sys.addaudithook(watch)
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
async def main():
    global task
    task = asyncio.create_task(asyncio.sleep(600))
    await asyncio.sleep(0)
asyncio.run(main())
"""


def test_no_argument_no_environment_no_contents_of_variables(
    running: Callable[..., Any], monkeypatch: Any, tmp_path: Path
) -> None:
    secret = "sk-4f8a1b"
    monkeypatch.setenv("API_KEY", secret)
    report = "json:report.json,html:report.html,markdown:report.md,text"
    app = running(PROGRAM, options=("--level", "stack", "--report", report))
    assert app.line() == "ready"
    app.socket()
    asked = [app.ask(word, app.pid).stdout for word in ("dump", "why")] + [
        app.ask("top", "--json").stdout,
        app.ask("ps", "--json").stdout,
    ]
    app.go_on()
    status, text = app.end()
    assert status == 0
    written = [(tmp_path / f"report.{kind}").read_text(encoding="utf-8") for kind in ("json", "html", "md")]
    for shown in (*asked, *written, text):
        assert shown
        assert secret not in shown
        assert "a question" not in shown


def test_nothing_goes_over_a_network(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    ran = python("-m", "leakagent", "--report", "json:report.json,html:report.html", program(WATCHED))
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    assert len(json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["findings"]) == 2


def test_runtime_files_are_the_users_alone(running: Callable[..., Any]) -> None:
    app = running(
        PROGRAM.replace('os.environ["API_KEY"]', '"none"')
        .replace("import asyncio,", "import subprocess, asyncio,")
        .replace("async def main():", "child = subprocess.Popen(['sleep', '600'])\nasync def main():", 1)
    )
    assert app.line() == "ready"
    app.socket()
    folder = app.runtime / "leakagent"
    assert folder.stat().st_mode & 0o777 == 0o700
    kinds = {path.name.partition("-")[0]: path.stat().st_mode & 0o777 for path in folder.iterdir() if not path.is_dir()}
    assert kinds == {"live": 0o600, "ledger": 0o600}
