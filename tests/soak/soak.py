"""Puts a real server under load for an hour, bare and under leakagent side by side, and looks for anything that grows.

    python tests/soak/soak.py [--minutes 60] [--rate 15] [--write docs/soak.md]     (make soak, make soak MINUTES=15 RATE=15)

Both servers (`server.py`: uvicorn, FastAPI, chromadb, lancedb) get the same requests at the same time.  Leaks are planted in the first
moments, a known number of each.  Threads, descriptors, blocks of Python's allocator and memory of both are sampled; in the end the
second quarter of the samples is compared with the last one (in the first the program warms up).  What the libraries themselves
use more and more of shows in both servers: the growth under leakagent is what counts above that of the bare one.  Then SIGTERM comes:
the status has to be the bare one's, and the findings exactly what was planted.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from leakagent.live import client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent

#: Requests in turn; a child is started by one in so many.
PATHS = ("/", "/chroma/{}", "/lance/{}", "/tasks", "/pool")
ONE_CHILD_IN = 200
#: Threads that ask each server.
CLIENTS = 2
#: How often each leak is planted.
PLANTED = {"/plant": 5, "/plant-client": 1}
SAMPLES = 120
#: Seconds for a server to start or to end; generous, since machines can be ten times slower.
PATIENCE = 300.0

#: What is sampled -> how much more of it there may be in the last quarter than in the second one, than in the bare server, and as a share of all.
#: Records of threads that have ended are looked through when there are some hundred of them.
ALLOWED = {
    "threads": (3.0, 0.0),
    "descriptors": (5.0, 0.0),
    "blocks": (3_000.0, 0.02),
    "memory": (8.0, 0.02),
    "agent": (200.0, 0.05),
}
TITLES = {
    "threads": "threads",
    "descriptors": "file descriptors",
    "blocks": "blocks of Python's allocator",
    "memory": "resident memory, MB",
    "agent": "leakagent's records, kB",
}

_PLANTED_LINE = re.compile(r"# leak: (\w+) ([\w.]+)$")
_DROPPED = ("LEAKAGENT", "_LEAKAGENT", "OTEL_", "PYTHON", "COVERAGE")


class Server:
    """One of the two servers, its load and its samples."""

    def __init__(self, folder: Path, *, watched: bool, rate: float) -> None:
        """Start it in a folder of its own; it is to get so many requests a second, with a rate of 0 as many as it answers."""
        folder.mkdir()
        self.folder = folder
        self.watched = watched
        self.rate = rate
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = int(found.getsockname()[1])
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_DROPPED)}
        variables = {**kept, "HOME": str(folder), "ANONYMIZED_TELEMETRY": "False", "PYTHONPATH": str(HERE)}
        front = ["-m", "leakagent", "--report", "json:report.json"] if watched else []
        words = ["-m", "uvicorn", "server:app", "--port", str(self.port), "--log-level", "warning"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *front, *words], cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.samples: dict[str, list[float]] = {name: [] for name in ALLOWED if watched or name != "agent"}
        self.requests = 0
        self.bad: list[str] = []
        self.status: int | None = None

    def ask(self, path: str) -> dict[str, object]:
        """Send a request, on a connection of its own, and return the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                message = f"{path}: status {answer.status}"
                raise OSError(message)
            return dict(json.loads(text))
        finally:
            connection.close()

    def wait(self) -> None:
        """Wait until it answers."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.ask("/")
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.05)
            else:
                return

    def load(self, number: int, stop: threading.Event) -> None:
        """Ask for one thing after the other until ``stop`` is set."""
        begin, first, pause = time.monotonic(), number, CLIENTS / self.rate if self.rate else 0.0
        # By the clock, not after each answer: a slow answer leaves the rate as it is.
        while not stop.wait(max(0.0, begin + (number - first) * pause - time.monotonic())):
            number += 1
            path = "/child" if number % ONE_CHILD_IN == 0 else PATHS[number % len(PATHS)].format(number % 100)
            try:
                self.ask(path)
                self.requests += 1
            except (OSError, http.client.HTTPException) as error:
                self.bad.append(f"{path}: {error!r}")
                return

    def sample(self) -> None:
        """Look once at what it uses."""
        folder = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (folder / "status").read_text(encoding="ascii").splitlines())
        self.samples["blocks"].append(float(str(self.ask("/numbers")["blocks"])))
        self.samples["threads"].append(float(status["Threads"]))
        self.samples["descriptors"].append(float(len(list((folder / "fd").iterdir()))))
        self.samples["memory"].append(float(status["VmRSS"].split()[0]) / 1024)
        if self.watched:
            self.samples["agent"].append(float(client.ask(self.process.pid, "dump", PATIENCE)["agent"]["bytes"]) / 1024)

    def end(self) -> None:
        """End it by SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.status = self.process.wait(PATIENCE)

    def kill(self) -> None:
        """End whatever is left of it."""
        self.process.kill()
        self.process.wait()


def quarters(values: list[float]) -> tuple[float, float]:
    """Return the medians of the second and of the last quarter."""
    size = max(1, len(values) // 4)
    return statistics.median(values[size : 2 * size]), statistics.median(values[-size:])


class Result:
    """How a soak went.

    Attributes:
        rows: What was sampled, in the second and the last quarter: bare and under leakagent.
        problems: Why it has failed; empty if it has not.

    """

    def __init__(self, bare: Server, watched: Server, seconds: float) -> None:
        """Compare both servers."""
        self.bare, self.watched, self.seconds = bare, watched, seconds
        self.problems = [f"{name}: {problem}" for name, one in self._named() for problem in one.bad]
        self.rows: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {}
        for name, (most, share) in ALLOWED.items():
            was, now = quarters(watched.samples[name])
            was_bare, now_bare = quarters(bare.samples[name]) if name in bare.samples else (0.0, 0.0)
            self.rows[name] = (was_bare, now_bare), (was, now)
            above = (now - was) - max(0.0, now_bare - was_bare)
            if above > most + share * was:
                self.problems.append(
                    f"{TITLES[name]} grew from {was:.1f} to {now:.1f} (bare from {was_bare:.1f} to {now_bare:.1f})"
                )
        if watched.status != bare.status or watched.status is None:
            self.problems.append(f"status {watched.status}, bare {bare.status}")
        self.planted, self.found, self.disabled = _planted(), *_findings(watched.folder / "report.json")
        if self.found != self.planted:
            self.problems.append(f"planted {self.planted}, found {self.found}")
        if self.disabled:
            self.problems.append(f"switched off: {self.disabled}")

    def _named(self) -> Iterator[tuple[str, Server]]:
        yield "bare", self.bare
        yield "leakagent", self.watched

    def _rate(self) -> str:
        rate = self.watched.rate
        return f"{rate:g} a second for each" if rate else "as many as they answered"

    def page(self) -> str:
        """Return the page of the documentation."""
        version = ".".join(map(str, sys.version_info[:3]))
        lines = [
            "# Soak",
            "",
            "Written by `make soak`; do not edit. A server (uvicorn, FastAPI, chromadb, lancedb; `tests/soak/server.py`) under load for",
            f"{self.seconds / 60:.0f} minutes, bare and under leakagent side by side, on Python {version}: {self.bare.requests} requests to the bare one,",
            f"{self.watched.requests} to the other ({self._rate()}). The second quarter of the time is compared with the last one,",
            "by medians of the samples.",
            "",
            "| | bare, second quarter | last | leakagent, second quarter | last |",
            "|---|---|---|---|---|",
        ]
        for name, (bare, watched) in self.rows.items():
            shown = [f"{value:,.1f}".removesuffix(".0") for value in (*bare, *watched)]
            lines.append(f"| {TITLES[name]} | {' | '.join(['-', '-', *shown[2:]] if name == 'agent' else shown)} |")
        lines += ["", "| planted | times | told |", "|---|---|---|"]
        lines += [
            f"| `{reason}` `{kind}`, line {line} | {count} | {self.found.get((reason, kind, line), 0)} |"
            for (reason, kind, line), count in sorted(self.planted.items())
        ]
        others = len([found for found in self.found if found not in self.planted])
        lines += ["", f"Told besides: {others or 'nothing'}. Status after SIGTERM: {self.watched.status}, as the bare server's."]
        return "\n".join(lines) + "\n"


def _planted() -> dict[tuple[str, str, int], int]:
    """Return reason, kind and line of what is planted, with how often."""
    found, path = {}, ""
    for number, line in enumerate((HERE / "server.py").read_text(encoding="utf-8").splitlines(), 1):
        route = re.match(r'@app.get\("(.*)"\)', line)
        path = route[1] if route else path
        match = _PLANTED_LINE.search(line)
        if match:
            found[match[1], match[2], number] = PLANTED[path]
    return found


def _findings(path: Path) -> tuple[dict[tuple[str, str, int], int], list[str]]:
    if not path.exists():
        return {}, ["no report"]
    report = json.loads(path.read_text(encoding="utf-8"))
    found = {(one["reason"], one["kind"], one["site"]["line"]): one["count"] for one in report["findings"]}
    return found, list(report["agent"]["disabled"])


def soak(seconds: float, rate: float = 0.0) -> Result:
    """Run both servers under load for so many seconds, with so many requests a second for each (0: as many as they answer)."""
    with tempfile.TemporaryDirectory(prefix="leakagent-soak-") as parent:
        servers = [Server(Path(parent, name), watched=name == "watched", rate=rate) for name in ("bare", "watched")]
        stop = threading.Event()
        threads = [
            threading.Thread(target=server.load, args=(1000 * number, stop)) for server in servers for number in range(CLIENTS)
        ]
        try:
            for server in servers:
                server.wait()
                for path, count in PLANTED.items():
                    for _ in range(count):
                        server.ask(path)
            for thread in threads:
                thread.start()
            begin = time.monotonic()
            while time.monotonic() < begin + seconds and not any(server.bad for server in servers):
                for server in servers:
                    server.sample()
                stop.wait(seconds / SAMPLES)
            stop.set()
            for thread in threads:
                thread.join()
            for server in servers:
                server.end()
            return Result(*servers, seconds)
        finally:
            stop.set()
            for server in servers:
                server.kill()


def main() -> int:
    """Run the soak; the status is 1 if something grew, or something else than what was planted was told."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="how long the load lasts (60)")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second for each server (as many as it answers)")
    parser.add_argument("--write", metavar="FILE", help="also write the page of the documentation")
    given = parser.parse_args()
    result = soak(given.minutes * 60, given.rate)
    print(result.page())
    for problem in result.problems:
        print(problem)
    if given.write and not result.problems:
        Path(given.write).write_text(result.page(), encoding="utf-8")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
