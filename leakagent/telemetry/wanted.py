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
SIGNALS = (METRICS, TRACES)

GRPC = "grpc"
HTTP = "http/protobuf"
CONSOLE = "console"
NONE = "none"

#: Port that means gRPC where the protocol is not said (OTLP specification: 4317 is gRPC's, 4318 HTTP's).
_GRPC_PORT = ":4317"
_INTERVAL = 60_000


class Wanted:
    """What to send, and how.

    Attributes:
        exporters: Signal -> ``grpc``, ``http/protobuf`` or ``console``, for the signals that are wanted.
        interval: Seconds between two exports.
        endpoint: Where it goes, for people.
        problems: One line for each value that can't be used.

    """

    __slots__ = ("endpoint", "exporters", "interval", "problems")

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read the variables of ``environ``."""
        self.exporters: dict[str, str] = {}
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

    def _read(self, environ: Mapping[str, str], signal: str) -> None:
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        endpoint = _of_signal(environ, signal, "ENDPOINT")
        asked = _text(environ, variable).lower() or ("otlp" if endpoint else NONE)
        if asked == NONE:
            return
        if asked == CONSOLE:
            self.exporters[signal] = CONSOLE
            self.endpoint = self.endpoint or "the terminal"
        elif asked == "otlp":
            self._read_protocol(environ, signal, endpoint)
        else:
            self.problems.append(
                f"{variable}={asked!r} is not supported by leakagent (otlp, console, none): it sends no {signal}"
            )

    def _read_protocol(self, environ: Mapping[str, str], signal: str, endpoint: str) -> None:
        protocol = _of_signal(environ, signal, "PROTOCOL").lower()
        if not protocol:
            protocol = GRPC if endpoint.rstrip("/").endswith(_GRPC_PORT) else HTTP
        if protocol not in {GRPC, HTTP}:
            self.problems.append(
                f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol!r} is not supported by leakagent ({GRPC}, {HTTP}): it sends no {signal}"
            )
            return
        self.exporters[signal] = protocol
        default = "http://localhost:4317" if protocol == GRPC else "http://localhost:4318"
        self.endpoint = self.endpoint or endpoint or default

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
