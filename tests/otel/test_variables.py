"""The standard variables that the exporters and the SDK read are honoured as well: headers, attributes, timeout, endpoints."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as messages
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

APP = "from pieces import pools\nkept = pools(1)\n"

WHO = {
    "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=shop,authorization=Bearer%20abc",
    "OTEL_SERVICE_NAME": "search",
    "OTEL_RESOURCE_ATTRIBUTES": "team=search,deployment.environment.name=test",
    "LEAKAGENT_OTEL_WAIT": "100",
    "LEAKAGENT_REPORT": "off",
}


def resources(requests: list[Any], what: str) -> list[dict[str, str]]:
    """Return the resource attributes of every part of some requests."""
    return [
        {pair.key: pair.value.string_value for pair in part.resource.attributes}
        for request in requests
        for part in getattr(request, what)
    ]


def test_headers_attributes_compression_and_an_endpoint_of_one_signal(
    receive: Callable[..., Any], python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    everything, traces = receive(), receive()
    env = {
        **WHO,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{everything.port}",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{traces.port}/v1/traces",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    ran = python("-m", "leakagent", program(APP), env=env)
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    found = [*resources(everything.requests, "resource_metrics"), *resources(traces.requests, "resource_spans")]
    assert len(found) >= 2
    for resource in found:
        assert (resource["service.name"], resource["team"]) == ("search", "search")
        assert resource["deployment.environment.name"] == "test"
        assert resource["service.instance.id"] == found[0]["service.instance.id"]
    for headers in [*everything.headers, *traces.headers]:
        assert (headers["x-tenant"], headers["authorization"], headers["content-encoding"]) == ("shop", "Bearer abc", "gzip")


class Metrics(services.MetricsServiceServicer):
    """Keeps what arrives by gRPC, and the metadata of the calls."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []

    def export(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        return messages.ExportMetricsServiceResponse()

    Export = export


@pytest.fixture
def by_grpc() -> Iterator[tuple[int, Metrics]]:
    """Take metrics by gRPC."""
    kept = Metrics()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        services.add_MetricsServiceServicer_to_server(kept, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield port, kept
        server.stop(0).wait()


def test_headers_and_attributes_by_grpc(
    by_grpc: tuple[int, Metrics], python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    port, kept = by_grpc
    # One signal only, by a variable of its own.
    env = {
        **WHO,
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc",
    }
    ran = python("-m", "leakagent", program(APP), env=env)
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    assert kept.requests
    for resource in resources(kept.requests, "resource_metrics"):
        assert (resource["service.name"], resource["team"]) == ("search", "search")
    for metadata in kept.metadata:
        assert (metadata["x-tenant"], metadata["authorization"]) == ("shop", "Bearer abc")


def test_the_timeout_of_an_export(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    # Nobody answers; without the timeout there would be one connection, for ever.
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while len(kept) < 3:
                kept.append(server.accept()[0])
            (tmp_path / "many").touch()

        kept: list[socket.socket] = []
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.1",
            "OTEL_METRIC_EXPORT_INTERVAL": "10",
        }
        app = program("import os\nfrom pieces import wait_until\nprint(wait_until(lambda: os.path.exists('many')))\n")
        ran = python("-m", "leakagent", app, env=env)
        assert (ran.returncode, ran.stdout) == (0, "True\n"), ran
        thread.join()
        for one in kept:
            one.close()


def test_several_exporters_at_once(receive: Callable[..., Any], python: Callable[..., Any], program: Callable[..., Path]) -> None:
    everything = receive()
    env = {
        **WHO,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{everything.port}",
        "OTEL_METRICS_EXPORTER": "otlp,console",
        "OTEL_TRACES_EXPORTER": "none",
    }
    ran = python("-m", "leakagent", program(APP + "print('out')\n"), env=env)
    assert (ran.returncode, ran.stdout) == (0, "out\n"), ran
    assert resources(everything.requests, "resource_metrics")
    assert all(hasattr(request, "resource_metrics") for request in everything.requests)
    assert "leakagent.resource.created" in ran.stderr
    assert "leakagent.shutdown" not in ran.stderr
