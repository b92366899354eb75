"""A real OpenTelemetry Collector, and behind it a place that keeps what the Collector passes on."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from leakagent.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

#: Stands beside every program under test.
PIECES = Path(__file__).parent / "programs" / "pieces.py"

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


#: Last part of the path -> what is sent there.
MESSAGES = {"metrics": ExportMetricsServiceRequest, "traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}

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

    def __init__(self, service: str) -> None:
        self._service = service
        self._read = 0
        self.metrics: dict[str, dict[str, Any]] = {}
        self.spans: list[Any] = []
        self.events: list[Any] = []
        self.scopes: set[tuple[str, str, str]] = set()
        self.others: list[str] = []

    def read(self, requests: list[Any]) -> Received:
        """Take what is new among all that has arrived from anybody."""
        new = requests[self._read :]
        self._read += len(new)
        for request in new:
            resources, scopes = PARTS[type(request)]
            for part in getattr(request, resources):
                resource = attributes_of(part.resource)
                if resource.get("service.name") == self._service:
                    for scope in getattr(part, scopes):
                        self._take(scope, str(resource.get("service.instance.id")))
        return self

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
        self._services: dict[str, Received] = {}

    def variables(self, protocol: str, service: str) -> dict[str, str]:
        """Return the environment that sends to it; the end, and each wait of a program, may take long on a slow machine."""
        port = self.ports["grpc" if protocol == "grpc" else "http"]
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_SERVICE_NAME": service,
            "LEAKAGENT_OTEL_WAIT": "100",
            "LEAKAGENT_BUDGET": "100",
            "LEAKAGENT_STALLED_AFTER": "3600",
        }

    def received(self, service: str) -> Received:
        """Return what has arrived."""
        return self._services.setdefault(service, Received(service)).read(self._requests)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], list[int]]:
    """Return ports that were free a moment ago."""
    return lambda number: [free_port() for _ in range(number)]


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


class Receiver:
    """Takes OTLP by HTTP.

    Attributes:
        port: Where it listens.
        requests: What has arrived.
        headers: Those of each request, names in lower case.

    """

    def __init__(self, status: int = 200, taken: Callable[[Receiver], None] | None = None) -> None:
        """Start it.

        Args:
            status: What it answers.
            taken: Called before each answer.

        """
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                receiver.requests.append(MESSAGES[self.path.rpartition("/")[2]].FromString(body))
                if taken is not None:
                    taken(receiver)
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    """Start receivers: see `Receiver`."""
    started: list[Receiver] = []

    def start(*arguments: Any) -> Receiver:
        started.append(Receiver(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture(scope="session")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Start a Collector that passes everything on to a receiver."""
    binary = shutil.which("otelcol")
    assert binary, "there is no otelcol on the PATH: see tests/otel in .ci/test.py"
    folder: Path = tmp_path_factory.mktemp("collector")
    ports = {"grpc": free_port(), "http": free_port()}
    sink = Receiver()
    (folder / "config.yaml").write_text(CONFIG.format(sink=sink.port, **ports), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, "--config", folder / "config.yaml"], stdout=log, stderr=log)
    try:
        deadline = threading.Event()
        while not all(map(accepts, ports.values())):
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            deadline.wait(0.05)
        yield Collector(ports, sink.requests)
    finally:
        process.terminate()
        process.wait(60)
        sink.close()


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    """One after the other."""
    return str(request.param)


@pytest.fixture
def program(program: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Write a program as every test does, with `PIECES` beside it."""
    (tmp_path / PIECES.name).write_bytes(PIECES.read_bytes())
    return program


class Service:
    """A program under leakagent that sends to the Collector, and what has arrived from it.

    Attributes:
        name: Its name, the test's own.
        variables: Its environment.

    """

    def __init__(
        self, name: str, protocol: str, collector: Collector, tools: tuple[Callable[..., Any], ...], folder: Path
    ) -> None:
        """Send by a protocol; the tools are the fixtures ``python``, ``program`` and ``until``."""
        self.name = name
        self.variables = collector.variables(protocol, name)
        self._collector = collector
        self._python, self._program, self._until = tools
        self._folder = folder

    def run(
        self,
        text: str,
        *arguments: str,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        status: int = 0,
        out: str | None = None,
    ) -> Any:
        """Run the program to its end, which has to be its own, and telemetry has to be delivered.

        Args:
            text: What it does.
            arguments: Its arguments.
            options: Those of leakagent.
            env: More variables.
            status: Its exit status.
            out: What it prints, if that is known.

        """
        # Newer Pythons warn that the program has threads when it forks.
        command = ("-W", "ignore::DeprecationWarning", "-m", "leakagent", *options, self._program(text), *arguments)
        ran = self._python(*command, env={**self.variables, **(env or {})})
        assert ran.returncode == status, ran
        assert out is None or ran.stdout == out, ran
        assert "leakagent: telemetry" not in ran.stderr, ran
        return ran

    def received(self, condition: Callable[[Received], object] | None = None) -> Received:
        """Return what has arrived as soon as that is so: by default its end, and its metrics."""
        wanted = condition or (lambda got: got.named(names.SHUTDOWN_SPAN) and got.metrics)
        self._until(lambda: wanted(self._collector.received(self.name)), f"the Collector passes it on: {self.name}")
        return self._collector.received(self.name)

    def report(self) -> dict[str, Any]:
        """Return the agent's own report, which was asked for as ``json:report.json``."""
        return dict(json.loads((self._folder / "report.json").read_text(encoding="utf-8")))


@pytest.fixture
def service(
    request: pytest.FixtureRequest,
    collector: Collector,
    python: Callable[..., Any],
    program: Callable[..., Path],
    until: Callable[..., None],
    tmp_path: Path,
) -> Service:
    """Return a service of the test's own: by each protocol if it asks for ``protocol``, else by HTTP."""
    protocol = request.getfixturevalue("protocol") if "protocol" in request.fixturenames else "http/protobuf"
    return Service(request.node.name, protocol, collector, (python, program, until), tmp_path)
