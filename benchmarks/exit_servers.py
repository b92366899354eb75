"""How servers end that have something open, bare and under leakagent: time from the first signal until the end, status, and what still ran.

    python benchmarks/exit_servers.py [--markdown OUT]

Needs uvicorn, uvloop, hypercorn, gunicorn and flask, and an installed leakagent: children start it by its ``.pth`` file.  A client holds its connection open all the time.  Where two signals are sent, the second comes
one second after the first.  A server that has not ended after 9 seconds is killed: "hangs".  The programs are those of
``tests/servers/end_matrix.py``; their ends are asserted by order and status in ``tests/servers/test_uvicorn.py`` (by a second
signal for three of the variants) and ``tests/apps/test_end_matrix.py``.  The times are those of one run each, four at a time: read them as ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 9.0
START = 60.0
GRACE = {"LEAKAGENT_GRACE": "1", "LEAKAGENT_BUDGET": "5"}

#: What a program prints when it comes that far -> how the table says that it did not.
STEPS = {"LIFESPAN DONE": "no lifespan", "ATEXIT": "no exit handler"}


def end(command: list[str], text: str, signals: tuple[int, ...], *, agent: bool) -> str:
    """Run a server to its end and describe that in a few words."""
    with tempfile.TemporaryDirectory(prefix="leakagent-exit-") as folder, socket.socket() as found:
        Path(folder, "app.py").write_text(text, encoding="utf-8")
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
        found.close()
        environment = {**os.environ, "LEAKAGENT_REPORT": "off", **GRACE}
        words = [sys.executable, *(word.replace("PORT", str(port)) for word in command)]
        if agent:
            words[1:1] = ["-m", "leakagent"]
        log = Path(folder, "log")
        with log.open("wb") as file:
            process = subprocess.Popen(
                words,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            return _ended(process, port, log, signals, lifespan="lifespan" in text)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ended(process: subprocess.Popen[bytes], port: int, log: Path, signals: tuple[int, ...], *, lifespan: bool) -> str:
    with _connected(process, port, log) as client:
        client.sendall(b"GET /open HTTP/1.1\r\nHost: test\r\n\r\n")
        while b"OPEN" not in log.read_bytes():
            time.sleep(0.02)
        begin = time.monotonic()
        for number, limit in zip(signals, [1.0] * (len(signals) - 1) + [LIMIT], strict=True):
            process.send_signal(number)
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                continue
            return _described(process, log, begin, lifespan=lifespan)
        return "hangs"


def _described(process: subprocess.Popen[bytes], log: Path, begin: float, *, lifespan: bool) -> str:
    seconds, text = time.monotonic() - begin, log.read_text(encoding="utf-8", errors="replace")
    missing = [words for step, words in STEPS.items() if step not in text and (lifespan or step == "ATEXIT")]
    return ", ".join([f"{seconds:.1f} s", str(process.returncode), *missing])


def _connected(process: subprocess.Popen[bytes], port: int, log: Path) -> socket.socket:
    deadline = time.monotonic() + START
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=START)
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                print(log.read_text(encoding="utf-8", errors="replace"), file=sys.stderr)
                raise
            time.sleep(0.05)


def table(rows: dict[str, tuple[list[str], str]], ends: dict[str, tuple[int, ...]]) -> str:
    """Return the table of some servers."""
    lines = ["| open | " + " | ".join(ends) + " |", "|---|" + "---|" * len(ends)]
    with ThreadPoolExecutor(4) as pool:
        cells = {
            (name, agent, how): pool.submit(end, command, text, signals, agent=agent)
            for name, (command, text) in rows.items()
            for agent in (False, True)
            for how, signals in ends.items()
        }
        for name in rows:
            for agent in (False, True):
                found = [cells[name, agent, how].result() for how in ends]
                lines.append(f"| {name}, {'leakagent' if agent else 'bare'} | " + " | ".join(found) + " |")
    return "\n".join(lines)


def main() -> int:
    """Print the tables, and write them as a document."""
    parser = argparse.ArgumentParser(description="How servers end, bare and under leakagent.")
    parser.add_argument("--markdown", type=Path, help="where the document is written")
    options = parser.parse_args()
    # In the background of a shell Ctrl+C is ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    matrix = runpy.run_path(str(ROOT / "tests" / "servers" / "end_matrix.py"))
    machine = f"(Python {sys.version.split()[0]}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.0f})"
    parts = ["# How servers end", (__doc__ or "").split("\n\n", 2)[2].strip()]
    for loop in ("asyncio", "uvloop"):
        rows = {name: (["app.py", name, "PORT", loop], matrix["APP"]) for name in matrix["VARIANTS"]}
        parts += [f"## uvicorn, {loop} {machine}", table(rows, matrix["ENDS"])]
        print("\n\n".join(parts[-2:]), flush=True)
    rows = {name: (["-m", *command], text) for name, (command, text) in matrix["SERVERS"].items()}
    parts += [f"## A request that does not end, in other servers {machine}", table(rows, matrix["ENDS"])]
    print("\n\n".join(parts[-2:]), flush=True)
    if options.markdown:
        options.markdown.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
