"""What a flood of questions and garbage on the live socket costs the program that is asked: its own processor time and its time per round.

    python benchmarks/flood.py [--rounds N] [--clients N]

The program works in rounds of the same number of steps, and says how long each took.  Quiet and flooded rounds take turns, so that both see the
same machine; the flood comes from another process, in `--clients` threads, without a pause: whole dumps, status, broken JSON, bytes that are
no text, lines without an end, connections that are closed at once.  Processor time per round is what the agent's answers cost; wall time also
has the machine's other core in it.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PROGRAM = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
pools = [ThreadPoolExecutor(1) for _ in range(20)]
for pool in pools:
    pool.submit(int).result()
print("ready", flush=True)
for line in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    total = 0
    for number in range(12_000_000):
        total += number
    print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)
for pool in pools:
    pool.shutdown()
"""

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
                    client.settimeout(5)
                    client.connect(self.path)
                    client.sendall(QUESTIONS[number % len(QUESTIONS)])
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65536):
                        pass
                    self.asked += 1
            except OSError:
                time.sleep(0.001)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description="See the text at the top of this file.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flood-") as folder:
        program = Path(folder, "app.py")
        program.write_text(PROGRAM, encoding="utf-8")
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
        flood = Flood(found[0].name, options.clients)
        quiet: list[list[float]] = []
        loud: list[list[float]] = []
        for _ in range(options.rounds):
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
    for at, what in enumerate(("wall time", "processor time")):
        ratios = [after[at] / before[at] for before, after in zip(quiet, loud, strict=True)]
        print(f"{what} under a flood over quiet: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
    print(f"{flood.asked} answered or refused, exit status {status}")


if __name__ == "__main__":
    main()
