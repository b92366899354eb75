"""What a flood of questions and garbage on the live socket costs the program that is asked: its processor time and its time per round.

    python benchmarks/flood.py [--rounds N] [--clients N] [--write]     (make flood writes the result into docs/security.md)

Two programs: one with twenty pools, one with ten thousand tasks, about which an answer takes longer.  Each works in rounds of the same
number of steps, and says how long each took.  Quiet and flooded rounds take turns, so that both see the same machine; the flood comes from
another process, in `--clients` threads, without a pause: whole dumps, status, broken JSON, bytes that are no text, lines without an end,
connections that are closed at once.  Processor time of the whole process over that of its main thread is what the agent's answers cost,
whatever else the machine does; wall time has that in it as well.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "security.md"
BEGIN, END = "<!-- begin: written by benchmarks/flood.py -->", "<!-- end: written by benchmarks/flood.py -->"

_ROUNDS = """
def rounds():
    print("ready", flush=True)
    for line in sys.stdin:
        wall, all_threads, own = time.perf_counter(), time.process_time(), time.thread_time()
        total = 0
        for number in range(10_000_000):
            total += number
        own, all_threads = time.thread_time() - own, time.process_time() - all_threads
        print(time.perf_counter() - wall, all_threads / own, flush=True)
"""

PROGRAMS = {
    "twenty pools": f"""
import sys, time
from concurrent.futures import ThreadPoolExecutor
{_ROUNDS}
pools = [ThreadPoolExecutor(1) for _ in range(20)]
for pool in pools:
    pool.submit(int).result()
rounds()
for pool in pools:
    pool.shutdown()
""",
    "ten thousand tasks": f"""
import asyncio, sys, time
{_ROUNDS}
async def main():
    tasks = [asyncio.create_task(asyncio.sleep(36000)) for _ in range(10_000)]
    await asyncio.sleep(0)
    rounds()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
asyncio.run(main())
""",
}

QUESTIONS = (
    b'{"version": 1, "ask": "dump"}\n',
    b'{"version": 1, "ask": "status"}\n',
    b'{"version": 1, "ask": "why"}\n',
    b'{"version": 1, "ask": "' + b"x" * 3000 + b'"}\n',
    b"[" * 1000 + b"\n",
    b"\xff\x00\xfe" * 100,
    b"no end",
    b"",
)


class Flood:
    """Clients that never stop asking."""

    def __init__(self, path: str, clients: int) -> None:
        """Start them; they wait until `on` is set."""
        self.path = path
        self.on = threading.Event()
        self.over = False
        self.asked = 0
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        while not self.over:
            self.on.wait()
            number += 1
            try:
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(60)
                    client.connect(self.path)
                    client.sendall(QUESTIONS[number % len(QUESTIONS)])
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65536):
                        pass
                    self.asked += 1
            except OSError:
                time.sleep(0.001)


def measured(text: str, rounds: int, clients: int) -> tuple[list[list[float]], list[list[float]], int]:
    """Return wall time, and processor time over the main thread's, of quiet rounds and of flooded ones, and how often was asked.

    Raises:
        SystemExit: The program did not end as it would have.

    """
    with tempfile.TemporaryDirectory(prefix="flood-") as folder:
        program = Path(folder, "app.py")
        program.write_text(text, encoding="utf-8")
        variables = {**os.environ, "XDG_RUNTIME_DIR": folder, "LEAKAGENT_REPORT": "off"}
        process = subprocess.Popen(
            [sys.executable, "-m", "leakagent", program], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        while not (found := list(Path(folder, "leakagent").glob("live-*.sock"))):
            time.sleep(0.01)
        os.chdir(found[0].parent)  # the whole path may be longer than an address may be
        flood = Flood(found[0].name, clients)
        quiet: list[list[float]] = []
        loud: list[list[float]] = []
        for _ in range(rounds):
            for times in (quiet, loud):
                (flood.on.set if times is loud else flood.on.clear)()
                process.stdin.write("\n")
                process.stdin.flush()
                times.append([float(word) for word in process.stdout.readline().split()])
        flood.on.set()
        flood.over = True
        process.stdin.close()
        status = process.wait()
        os.chdir("/")
    if status:
        sys.exit(f"the program ended with status {status}")
    return quiet, loud, flood.asked


def main() -> None:
    """Print the ratios, and write them where they are claimed."""
    parser = argparse.ArgumentParser(description="See the text at the top of this file.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    told = []
    for name, text in PROGRAMS.items():
        quiet, loud, asked = measured(text, options.rounds, options.clients)
        row = [name]
        for at in (1, 0):
            ratios = [after[at] / before[at] for before, after in zip(quiet, loud, strict=True)]
            row.append(f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
        told.append(f"| {' | '.join([*row, f'{asked / sum(wall for wall, _ in loud):.0f}'])} |")
        print(told[-1], flush=True)
    if options.write:
        heads = "| a program with | processor time, flooded over quiet | wall time | questions a second |\n|---|---|---|---|\n"
        about = f"Median of {options.rounds} rounds (all of them between), {options.clients} clients that never stop asking, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.0f}:"
        block = f"{BEGIN}\n{about}\n\n{heads}{chr(10).join(told)}\n{END}"
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: block, page, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
