"""How much longer the end of a program takes because of telemetry that can't be delivered.

    python benchmarks/exit_otel.py [--rounds N] [--markdown OUT]

Needs leakagent[otlp] in this Python.  Each program is run in turns without and with telemetry, under leakagent both times: from its last line to
the end of its process.  The exporters' own timeout is an hour.  "waited" is what the main thread waited for the SDK's import and
for an answer, "taken down" the time from there to the end of the process, beside that of the same program without telemetry.  That no wait goes beyond
the allowance is asserted without a clock in ``tests/otel/test_collectors_that_fail.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIECES = ROOT / "tests" / "otel" / "programs" / "pieces.py"
PROTOCOLS = ("grpc", "http/protobuf")

#: Resolves the one name by a server that never answers, each as its protocol does.
NAMES = """
import socket
real = socket.getaddrinfo
def getaddrinfo(host, *more, **named):
    if host != "collector.example":
        return real(host, *more, **named)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.sendto(b"?", ("127.0.0.1", {port}))
        return asking.recv(512)
socket.getaddrinfo = getaddrinfo
if {grpc}:
    import grpc
    made = grpc.insecure_channel
    grpc.insecure_channel = lambda target, *more, **named: made(f"dns://127.0.0.1:{port}/{{target}}", *more, **named)
"""

APP = """
import leakagent, sys, time
leakagent.install()
from pieces import note_waits, pools
if sys.argv[1:]:
    note_waits("waits")
kept = pools(1)
LONGER
print(time.monotonic(), flush=True)
"""

#: Programs that end at once, in the middle of the import of the SDK, and such that run for a while.
LENGTHS = {"at once": "", "after 1 s": "time.sleep(1)"}


class Refuses(BaseHTTPRequestHandler):
    """Answers 503."""

    def do_POST(self) -> None:
        """Take what is sent, and refuse it."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(503)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


class Ran:
    """One run: seconds from the last line to the end, those that were waited, and those after the last wait."""

    def __init__(self, folder: Path, text: str, env: dict[str, str]) -> None:
        """Run it."""
        (folder / "app.py").write_text(text, encoding="utf-8")
        (folder / "waits").unlink(missing_ok=True)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LEAKAGENT"))}
        command = [sys.executable, "app.py", *(["waits"] if env else [])]
        clean |= {"LEAKAGENT_REPORT": "off", "PYTHONPATH": str(ROOT)}
        ran = subprocess.run(command, env={**clean, **env}, cwd=folder, capture_output=True, text=True, check=True)
        end, last = time.monotonic(), float(ran.stdout)
        self.seconds = end - last
        waits = folder / "waits"
        phases = [json.loads(line) for line in waits.read_text(encoding="utf-8").splitlines()] if waits.exists() else []
        self.waited = sum(phase["took"] for phase in phases)
        self.after = self.seconds - (phases[-1]["until"] - last) if phases else 0.0


def places(opened: ExitStack) -> dict[str, tuple[str, int]]:
    """Return where nothing can be delivered: what it is -> the endpoint, and the port of its name server or 0."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    opened.callback(server.shutdown)
    unavailable = server.server_address[1]
    hanging = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100)).getsockname()[1]
    names = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    names.bind(("127.0.0.1", 0))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        refused = free.getsockname()[1]
    return {
        "nobody listens": (f"http://127.0.0.1:{refused}", 0),
        "accepts, never answers": (f"http://127.0.0.1:{hanging}", 0),
        "answers 503": (f"http://127.0.0.1:{unavailable}", 0),
        "no TLS where TLS is asked for": (f"https://127.0.0.1:{unavailable}", 0),
        "name server never answers": ("http://collector.example:4318", names.getsockname()[1]),
    }


def measure(rounds: int) -> list[str]:
    """Return the lines of the table."""
    lines = [
        "| Collector | protocol | program ends | without, s | with, s | longer by, s | waited, s | taken down, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="exit-otel-")))
        shutil.copy(PIECES, folder)
        for what, (endpoint, port) in places(opened).items():
            for protocol in PROTOCOLS:
                names = NAMES.format(port=port, grpc=protocol == "grpc") if port else ""
                env = {
                    "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
                    "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                    "OTEL_EXPORTER_OTLP_TIMEOUT": "3600",
                    "OTEL_LOGS_EXPORTER": "otlp",
                    "GRPC_DNS_RESOLVER": "ares",
                }
                for length, longer in LENGTHS.items():
                    text = names + APP.replace("LONGER", longer)
                    pairs = [(Ran(folder, text, {}), Ran(folder, text, env)) for _ in range(rounds)]
                    figures = [
                        statistics.median(without.seconds for without, _ in pairs),
                        statistics.median(ran.seconds for _, ran in pairs),
                        statistics.median(ran.seconds - without.seconds for without, ran in pairs),
                        statistics.median(ran.waited for _, ran in pairs),
                        statistics.median(ran.after for _, ran in pairs),
                    ]
                    lines.append(" | ".join((f"| {what}", protocol, length, *(f"{one:.2f}" for one in figures))) + " |")
                    print(lines[-1], file=sys.stderr, flush=True)
    return lines


def main() -> None:
    """Measure, and print or write the page."""
    parser = argparse.ArgumentParser(description="How much longer a program's end takes with telemetry that can't be delivered.")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs for each line")
    parser.add_argument("--markdown", type=Path, help="write the page there")
    options = parser.parse_args()
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, load {load} at the start"
    text = "\n".join(
        [
            "# What telemetry adds to the end of a program",
            "",
            (__doc__ or "").split("\n\n")[2].strip().replace("\n", " ").replace("  ", " ").replace("``", "`"),
            "",
            f"Medians of {options.rounds} pairs ({machine}): on a busy machine everything here takes longer.",
            "",
            *measure(options.rounds),
            "",
        ]
    )
    if options.markdown is None:
        print(text)
    else:
        options.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
