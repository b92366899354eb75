"""A real OpenTelemetry Collector, and behind it a place that keeps what the Collector passes on."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}}}}}
exporters: {{otlphttp: {{endpoint: "http://127.0.0.1:{sink}", tls: {{insecure: true}}}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    metrics: {{receivers: [otlp], exporters: [otlphttp]}}
    traces: {{receivers: [otlp], exporters: [otlphttp]}}
    logs: {{receivers: [otlp], exporters: [otlphttp]}}
"""

PROTOCOLS = ("grpc", "http/protobuf")


def value_of(value: Any) -> Any:
    found = getattr(value, value.WhichOneof("value"))
    return [value_of(one) for one in found.values] if value.WhichOneof("value") == "array_value" else found


def attributes_of(owner: Any) -> dict[str, Any]:
    return {pair.key: value_of(pair.value) for pair in owner.attributes}


#: Message -> its list of resources, and in each the list of scopes.
PARTS = {
    ExportMetricsServiceRequest: ("resource_metrics", "scope_metrics"),
    ExportTraceServiceRequest: ("resource_spans", "scope_spans"),
    ExportLogsServiceRequest: ("resource_logs", "scope_logs"),
}


class Received:
    """What arrived from one service.

    Attributes:
        metrics: Process (its instance id) -> name -> the last message about it.
        spans: In the order of their arrival.
        events: Likewise.
        scopes: Name, version and schema of all scopes.
        others: Names of the metrics and spans of other scopes: the program's own.

    """

    def __init__(self, requests: list[Any], service: str) -> None:
        self.metrics: dict[str, dict[str, Any]] = {}
        self.spans: list[Any] = []
        self.events: list[Any] = []
        self.scopes: set[tuple[str, str, str]] = set()
        self.others: list[str] = []
        for request in requests:
            resources, scopes = PARTS[type(request)]
            for part in getattr(request, resources):
                resource = attributes_of(part.resource)
                if resource.get("service.name") == service:
                    for scope in getattr(part, scopes):
                        self._take(scope, str(resource.get("service.instance.id")))

    def _take(self, scope: Any, instance: str) -> None:
        found = [*getattr(scope, "metrics", ()), *getattr(scope, "spans", ())]
        if scope.scope.name != "leakagent":
            self.others += [one.name for one in found]
            return
        self.scopes.add((scope.scope.name, scope.scope.version, scope.schema_url))
        if hasattr(scope, "metrics"):
            self.metrics.setdefault(instance, {}).update({metric.name: metric for metric in found})
        self.spans += getattr(scope, "spans", ())
        self.events += getattr(scope, "log_records", ())

    def points(self, name: str, instance: str = "") -> dict[tuple[Any, ...], float]:
        """Return values by the values of the attributes, sorted by their names, of the only process or a certain one."""
        if not instance:
            assert len(self.metrics) == 1, self.metrics.keys()
            instance = next(iter(self.metrics))
        found = {}
        for point in data_points(self.metrics[instance][name]) if name in self.metrics[instance] else ():
            key = tuple(value for _, value in sorted(attributes_of(point).items()))
            found[key] = number_of(point)
        return found

    def named(self, name: str) -> list[Any]:
        """Return the spans with this name."""
        return [span for span in self.spans if span.name == name]


def number_of(point: Any) -> float:
    """Return the value of a point; of a histogram's the sum."""
    if hasattr(point, "bucket_counts"):
        return float(point.sum)
    return float(point.as_double if point.WhichOneof("value") == "as_double" else point.as_int)


def data_points(metric: Any) -> list[Any]:
    return list(getattr(metric, metric.WhichOneof("data")).data_points)


class Collector:
    """A running Collector."""

    def __init__(self, ports: dict[str, int], requests: list[Any]) -> None:
        self.ports = ports
        self._requests = requests

    def variables(self, protocol: str, service: str) -> dict[str, str]:
        """Return the environment that sends to it; the end may take long on a slow machine."""
        port = self.ports["grpc" if protocol == "grpc" else "http"]
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_SERVICE_NAME": service,
            "LEAKAGENT_OTEL_WAIT": "100",
        }

    def received(self, service: str) -> Received:
        """Return what has arrived."""
        return Received(self._requests[:], service)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], list[int]]:
    """Return ports that were free a moment ago."""
    return lambda number: [free_port() for _ in range(number)]


@pytest.fixture(scope="session")
def clean() -> Callable[..., dict[str, str]]:
    """Return an environment without anything that changes Python, the agent or telemetry, plus what is given."""

    def made(extra: dict[str, str]) -> dict[str, str]:
        dropped = ("LEAKAGENT", "_LEAKAGENT", "OTEL_", "PYTHON", "COVERAGE")
        return {**{key: value for key, value in os.environ.items() if not key.startswith(dropped)}, **extra}

    return made


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def sink() -> Iterator[tuple[int, list[Any]]]:
    """Accept what the Collector passes on."""
    requests: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            made = {"metrics": ExportMetricsServiceRequest, "traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}
            requests.append(made[self.path.rpartition("/")[2]].FromString(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server.server_address[1], requests
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def collector(sink: tuple[int, list[Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Start a Collector that passes everything on to the sink."""
    binary = shutil.which("otelcol")
    assert binary, "there is no otelcol on the PATH: see tests/otel in .ci/test.py"
    folder: Path = tmp_path_factory.mktemp("collector")
    ports = {"grpc": free_port(), "http": free_port()}
    (folder / "config.yaml").write_text(CONFIG.format(sink=sink[0], **ports), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, "--config", folder / "config.yaml"], stdout=log, stderr=log)
    try:
        deadline = threading.Event()
        while not all(map(accepts, ports.values())):
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            deadline.wait(0.05)
        yield Collector(ports, sink[1])
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    """One after the other."""
    return str(request.param)


@pytest.fixture
def service(request: pytest.FixtureRequest) -> str:
    """A service of the test's own."""
    return str(request.node.name)


@pytest.fixture
def arrived(collector: Collector, until: Callable[..., None]) -> Callable[..., Received]:
    """Wait until something has arrived from a service, and return all that has."""

    def wait(service: str, condition: Callable[[Received], object]) -> Received:
        until(lambda: condition(collector.received(service)), f"the Collector passes it on: {service}")
        return collector.received(service)

    return wait
