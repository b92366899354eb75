"""A Collector that is not there, hangs, or refuses: the program ends, with its own status, and one line says so."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
def refusals() -> list[str]:
    """A file that is written to when `unavailable` has refused three requests."""
    return []


@pytest.fixture
def unavailable(refusals: list[str]) -> Iterator[int]:
    """A port that answers 503."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(503)
            seen.append(self.path)
            if len(seen) >= 3:
                for path in refusals:
                    Path(path).write_text("many", encoding="utf-8")

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def untrusted(unavailable: int) -> str:
    """A server without TLS where TLS is asked for."""
    return f"https://127.0.0.1:{unavailable}"


@pytest.fixture
def unknown() -> str:
    """A host that no name server knows."""
    return "http://collector.invalid:4318"


def said_once(ran: Any, endpoint: str, seconds: str = "1") -> None:
    """Check that the program had its own end, and that one line says what was not delivered."""
    assert (ran.returncode, ran.stdout) == (3, "out\n"), ran
    said = [line for line in ran.stderr.splitlines() if "telemetry" in line]
    assert len(said) == 1, ran
    assert said[0].startswith(f"leakagent: telemetry was not delivered to {endpoint} within {seconds} s: "), ran
    assert "1 x thread pool" in ran.stderr, ran
    # gRPC's C library writes some lines past Python (GRPC_VERBOSITY=NONE stops it for the whole process).
    others = "\n".join(line for line in ran.stderr.splitlines() if line not in said and "ssl_transport_security" not in line)
    for noise in ("Traceback", "Transient", "Failed to export", "urllib3", "WARNING", "ERROR"):
        assert noise not in others, ran


@pytest.mark.parametrize("kind", ["refused", "hanging", "unavailable", "untrusted", "unknown"])
def test_the_end_does_not_wait(
    kind: str,
    protocol: str,
    request: pytest.FixtureRequest,
    python: Callable[..., Any],
    program: Callable[..., Path],
    tmp_path: Path,
) -> None:
    value = request.getfixturevalue(kind)
    endpoint = f"http://127.0.0.1:{value}" if isinstance(value, int) else value
    env = {
        **HOUR,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_LOGS_EXPORTER": "otlp",
    }
    # Each signal would wait for an hour; that the test ends at all shows one deadline for all of them.
    ran = python("-m", "leakagent", "--report", "text,json:report.json", program(APP), env=env)
    said_once(ran, endpoint)
    # What could not be delivered is in the local report.
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [(one["kind"], one["reason"]) for one in report["findings"]] == [("thread_pool", "not_shut_down")]


def test_the_end_does_not_wait_for_an_sdk_that_takes_long_to_load(
    refused: int, python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    endpoint = f"http://127.0.0.1:{refused}"
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "LEAKAGENT_OTEL_WAIT": "0.01"}
    said_once(python("-m", "leakagent", program(APP), env={**HOUR, **env}), endpoint, "0.01")


def test_the_end_does_not_wait_for_a_name_server(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    slow = """
import socket, threading
real = socket.getaddrinfo
def getaddrinfo(host, *more, **named):
    if host == "collector.example":
        threading.Event().wait()  # for good
    return real(host, *more, **named)
socket.getaddrinfo = getaddrinfo
"""
    endpoint = "http://collector.example:4318"
    ran = python("-m", "leakagent", program(slow + APP), env={**HOUR, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
    said_once(ran, endpoint)


def test_a_collector_that_is_down_while_the_program_runs_is_told_once_at_the_end(
    unavailable: int, refusals: list[str], python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "many").write_text("", encoding="utf-8")
    waits = """
import time, os
end = time.monotonic() + 100
while not os.path.getsize("many") and time.monotonic() < end:
    time.sleep(0.01)
"""
    endpoint = f"http://127.0.0.1:{unavailable}"
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "0.2",
        "OTEL_METRIC_EXPORT_INTERVAL": "10",
    }
    refusals.append(str(tmp_path / "many"))
    said_once(python("-m", "leakagent", program(waits + APP), env=env), endpoint)


def test_a_configuration_file_is_refused_in_one_line(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    env = {"OTEL_CONFIG_FILE": "otel.yaml", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    ran = python("-m", "leakagent", program("print(1)"), env=env)
    assert (ran.returncode, ran.stdout) == (0, "1\n"), ran
    (line,) = ran.stderr.splitlines()
    assert line.startswith("leakagent: OTEL_CONFIG_FILE is not supported by leakagent, which sends nothing")


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
