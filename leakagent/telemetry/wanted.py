"""What the standard ``OTEL_*`` variables ask for: read here, since nobody else reads them for a provider of one's own.

The SDK leaves ``OTEL_METRICS_EXPORTER`` and its relatives to ``opentelemetry-instrument``, and ``OTEL_SDK_DISABLED`` does not keep it from
starting threads.  Endpoint, headers, certificates, compression and timeout are read by the exporters themselves, service name and
resource attributes by the SDK's `Resource`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

METRICS = "metrics"
TRACES = "traces"
LOGS = "logs"
SIGNALS = (METRICS, TRACES, LOGS)

GRPC = "grpc"
HTTP = "http/protobuf"
CONSOLE = "console"
PROMETHEUS = "prometheus"
NONE = "none"

#: Port that means gRPC where the protocol is not said (OTLP specification: 4317 is gRPC's, 4318 HTTP's).
_GRPC_PORT = ":4317"
_INTERVAL = 60_000
_PROMETHEUS_PORT = 9464


class Wanted:
    """What to send, and how.

    Attributes:
        exporters: Signal -> those of ``grpc``, ``http/protobuf``, ``console`` and (metrics) ``prometheus`` that are wanted.
        scrape: Host and port on which Prometheus finds the metrics, if that is wanted.
        interval: Seconds between two exports.
        endpoint: Where it goes, for people.
        problems: One line for each value that can't be used.

    """

    __slots__ = ("endpoint", "exporters", "interval", "problems", "scrape")

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read the variables of ``environ``."""
        self.exporters: dict[str, tuple[str, ...]] = {}
        self.scrape: tuple[str, int] | None = None
        self.problems: list[str] = []
        self.interval = _INTERVAL / 1000
        self.endpoint = ""
        if _text(environ, "OTEL_SDK_DISABLED").lower() == "true":
            return
        if _text(environ, "OTEL_CONFIG_FILE"):
            self.problems.append(
                "OTEL_CONFIG_FILE is not supported by leakagent, which sends nothing: use the other OTEL_* variables"
            )
            return
        for signal in SIGNALS:
            self._read(environ, signal)
        if self.exporters:
            self._read_interval(environ)

    @property
    def pushed(self) -> list[str]:
        """Return the protocols by which something is sent to a Collector."""
        return [one for found in self.exporters.values() for one in found if one in {GRPC, HTTP}]

    def _read(self, environ: Mapping[str, str], signal: str) -> None:
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        endpoint = _of_signal(environ, signal, "ENDPOINT")
        # Log records are sent only where they are asked for by name: an endpoint alone asks for what leakagent always sent.
        default = "otlp" if endpoint and signal != LOGS else NONE
        asked = [word.strip() for word in (_text(environ, variable).lower() or default).split(",")]
        for word in dict.fromkeys(word for word in asked if word not in {"", NONE}):
            found = self._exporter(environ, signal, endpoint, word)
            if found:
                self.exporters[signal] = (*self.exporters.get(signal, ()), found)

    def _exporter(self, environ: Mapping[str, str], signal: str, endpoint: str, word: str) -> str:
        if word == "otlp":
            return self._protocol(environ, signal, endpoint)
        if word == CONSOLE:
            self.endpoint = self.endpoint or "the terminal"
            return CONSOLE
        if word == PROMETHEUS and signal == METRICS:
            return self._prometheus(environ)
        allowed = ", ".join(("otlp", CONSOLE, *((PROMETHEUS,) if signal == METRICS else ()), NONE))
        self.problems.append(
            f"OTEL_{signal.upper()}_EXPORTER={word!r} is not supported by leakagent ({allowed}): it sends no {signal} there"
        )
        return ""

    def _prometheus(self, environ: Mapping[str, str]) -> str:
        variable = "OTEL_EXPORTER_PROMETHEUS_PORT"
        text = _text(environ, variable) or str(_PROMETHEUS_PORT)
        if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):  # noqa: PLR2004 - ports
            self.problems.append(f"{variable}={text!r} is not valid (1 to 65535); using {_PROMETHEUS_PORT}")
            text = str(_PROMETHEUS_PORT)
        self.scrape = _text(environ, "OTEL_EXPORTER_PROMETHEUS_HOST") or "localhost", int(text)
        return PROMETHEUS

    def _protocol(self, environ: Mapping[str, str], signal: str, endpoint: str) -> str:
        protocol = _of_signal(environ, signal, "PROTOCOL").lower()
        if not protocol:
            protocol = GRPC if endpoint.rstrip("/").endswith(_GRPC_PORT) else HTTP
        if protocol not in {GRPC, HTTP}:
            self.problems.append(
                f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol!r} is not supported by leakagent ({GRPC}, {HTTP}): it sends no {signal}"
            )
            return ""
        default = "http://localhost:4317" if protocol == GRPC else "http://localhost:4318"
        self.endpoint = self.endpoint or endpoint or default
        return protocol

    def _read_interval(self, environ: Mapping[str, str]) -> None:
        variable = "OTEL_METRIC_EXPORT_INTERVAL"
        text = _text(environ, variable) or str(_INTERVAL)
        if text.isascii() and text.isdigit() and 0 < int(text) < _INTERVAL * 10_000:
            self.interval = int(text) / 1000
        else:
            self.problems.append(f"{variable}={text!r} is not valid (milliseconds above 0); using {_INTERVAL}")


def _text(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip()


def _of_signal(environ: Mapping[str, str], signal: str, what: str) -> str:
    return _text(environ, f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}") or _text(environ, f"OTEL_EXPORTER_OTLP_{what}")
