from __future__ import annotations

import pytest

from leakagent.telemetry.wanted import Wanted

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environ", "exporters"),
    [
        ({}, {}),
        ({"OTEL_SERVICE_NAME": "shop"}, {}),
        (ENDPOINT, {"metrics": "http/protobuf", "traces": "http/protobuf"}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317/"}, {"metrics": "grpc", "traces": "grpc"}),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {"metrics": "grpc", "traces": "grpc"}),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, {"metrics": "http/protobuf", "traces": "grpc"}),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1/m"}, {"metrics": "http/protobuf"}),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, {"metrics": "http/protobuf"}),
        ({"OTEL_METRICS_EXPORTER": "console"}, {"metrics": "console"}),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, {"metrics": "http/protobuf"}),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, {}),
    ],
)
def test_exporters(environ: dict[str, str], exporters: dict[str, str]) -> None:
    wanted = Wanted(environ)
    assert wanted.exporters == exporters
    assert wanted.problems == []


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OTEL_CONFIG_FILE": "otel.yaml", **ENDPOINT}, "OTEL_CONFIG_FILE"),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, "OTEL_METRICS_EXPORTER='prometheus'"),
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
