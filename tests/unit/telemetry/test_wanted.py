from __future__ import annotations

import pytest

from leakagent.telemetry.wanted import Wanted

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environ", "exporters"),
    [
        ({}, {}),
        ({"OTEL_SERVICE_NAME": "shop"}, {}),
        (ENDPOINT, {"metrics": ("http/protobuf",), "traces": ("http/protobuf",)}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317/"}, {"metrics": ("grpc",), "traces": ("grpc",)}),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {"metrics": ("grpc",), "traces": ("grpc",)}),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, {"metrics": ("http/protobuf",), "traces": ("grpc",)}),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1/m"}, {"metrics": ("http/protobuf",)}),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, {"metrics": ("http/protobuf",)}),
        ({"OTEL_METRICS_EXPORTER": "console"}, {"metrics": ("console",)}),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, {"metrics": ("http/protobuf",)}),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, {}),
        ({"OTEL_LOGS_EXPORTER": "otlp"}, {"logs": ("http/protobuf",)}),
        ({"OTEL_LOGS_EXPORTER": "console", "OTEL_TRACES_EXPORTER": "none"}, {"logs": ("console",)}),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, {"metrics": ("prometheus",)}),
        ({"OTEL_METRICS_EXPORTER": "otlp, prometheus,otlp"}, {"metrics": ("http/protobuf", "prometheus")}),
    ],
)
def test_exporters(environ: dict[str, str], exporters: dict[str, tuple[str, ...]]) -> None:
    wanted = Wanted(environ)
    assert wanted.exporters == exporters
    assert wanted.problems == []


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OTEL_CONFIG_FILE": "otel.yaml", **ENDPOINT}, "OTEL_CONFIG_FILE"),
        ({"OTEL_TRACES_EXPORTER": "prometheus"}, "OTEL_TRACES_EXPORTER='prometheus'"),
        ({"OTEL_METRICS_EXPORTER": "zipkin"}, "OTEL_METRICS_EXPORTER='zipkin'"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http/json"),
    ],
)
def test_what_is_not_supported_is_said(environ: dict[str, str], said: str) -> None:
    wanted = Wanted(environ)
    assert wanted.exporters == {}
    assert len(wanted.problems) == 1
    assert said in wanted.problems[0]


@pytest.mark.parametrize(("text", "seconds", "problems"), [("250", 0.25, 0), ("", 60, 0), ("soon", 60, 1), ("0", 60, 1)])
def test_the_interval(text: str, seconds: float, problems: int) -> None:
    wanted = Wanted({**ENDPOINT, "OTEL_METRIC_EXPORT_INTERVAL": text})
    assert (wanted.interval, len(wanted.problems)) == (seconds, problems)


@pytest.mark.parametrize(
    ("environ", "scrape", "problems"),
    [
        ({}, ("localhost", 9464), 0),
        ({"OTEL_EXPORTER_PROMETHEUS_HOST": "0.0.0.0", "OTEL_EXPORTER_PROMETHEUS_PORT": "9000"}, ("0.0.0.0", 9000), 0),
        ({"OTEL_EXPORTER_PROMETHEUS_PORT": "http"}, ("localhost", 9464), 1),
        ({"OTEL_EXPORTER_PROMETHEUS_PORT": "70000"}, ("localhost", 9464), 1),
    ],
)
def test_where_prometheus_finds_the_metrics(environ: dict[str, str], scrape: tuple[str, int], problems: int) -> None:
    wanted = Wanted({"OTEL_METRICS_EXPORTER": "prometheus", **environ})
    assert (wanted.scrape, len(wanted.problems)) == (scrape, problems)
    assert wanted.pushed == []
