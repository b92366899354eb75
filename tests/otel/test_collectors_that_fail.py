"""A Collector that is not there, hangs, or refuses: the program ends, with its own status, and one line says so."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Without a deadline of the agent's own each export would go on for an hour.
HOUR = {"OTEL_EXPORTER_OTLP_TIMEOUT": "3600"}

APP = """
import sys
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
print("out")
sys.exit(3)
"""


@pytest.fixture
def refused() -> int:
    """A port on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def hanging() -> Iterator[int]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def unavailable() -> Iterator[int]:
    """A port that answers 503."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(503)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("kind", ["refused", "hanging", "unavailable"])
def test_the_end_does_not_wait(
    kind: str, protocol: str, request: pytest.FixtureRequest, python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    endpoint = f"http://127.0.0.1:{request.getfixturevalue(kind)}"
    env = {**HOUR, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    ran = python("-m", "leakagent", program(APP), env=env)
    assert (ran.returncode, ran.stdout) == (3, "out\n"), ran
    said = [line for line in ran.stderr.splitlines() if "telemetry" in line]
    assert len(said) == 1, ran
    assert said[0].startswith(f"leakagent: telemetry was not delivered to {endpoint} "), ran
    assert "1 x thread pool" in ran.stderr, ran
    assert "Traceback" not in ran.stderr, ran
    assert "Transient" not in ran.stderr, ran


def test_a_fork_does_not_wait_for_an_export_that_hangs(
    hanging: int, protocol: str, python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    app = program("""
import os, sys, time, threading
end = time.monotonic() + 60
# Until the first export hangs: the thread holds a connection.
def connected():
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                return True
        except OSError:  # closed in the meantime
            continue
    return False
while not connected() and time.monotonic() < end:
    time.sleep(0.01)
print(connected())
for _ in range(3):
    pid = os.fork()
    if not pid:
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""")
    env = {
        **HOUR,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{hanging}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_METRIC_EXPORT_INTERVAL": "10",
    }
    ran = python("-W", "ignore::DeprecationWarning", "-m", "leakagent", app, env=env)
    assert (ran.returncode, ran.stdout.split()) == (0, ["True", "7", "7", "7"]), ran


def test_an_exporter_that_is_missing_is_told_in_one_line(
    protocol: str, python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    package = "grpc" if protocol == "grpc" else "http"
    app = program(f"""
import sys
for signal in ("metric", "trace"):
    sys.modules[f"opentelemetry.exporter.otlp.proto.{package}.{{signal}}_exporter"] = None
import leakagent
leakagent.install()
print("out")
""")
    env = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "LEAKAGENT_OTEL_WAIT": "100"}
    ran = python(app, env=env)
    assert (ran.returncode, ran.stdout) == (0, "out\n"), ran
    (line,) = (one for one in ran.stderr.splitlines() if one)
    assert line.startswith(
        f"leakagent: no traces are sent: OTLP by {protocol} needs opentelemetry-exporter-otlp-proto-{package} "
    )
    assert line.endswith("pip install 'leakagent[otlp]'")
