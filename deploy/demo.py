"""Runs the demo program under leakagent with a real OpenTelemetry Collector and a real VictoriaMetrics, and shows the leaks there.

    python deploy/demo.py                     until Enter or Ctrl+C, with links to look at
    python deploy/demo.py --once              print what the store answers, and end
    python deploy/demo.py --screenshot PNG    a picture of the dashboard, by headless Chromium, and end
    python deploy/demo.py --vmui DIR          with the page's files, for a store that was built without them (Debian's)

Needs `otelcol` and `victoria-metrics` on the PATH, and leakagent[otlp,demo] in this Python; `make otel-demo` sets all of it up.  Everything
listens on the loopback interface only, and is gone at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from page import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HERE = Path(__file__).resolve().parent
APP = HERE.parent / "examples" / "rag" / "app.py"
SERVICE = "rag-demo"
LEAKS = "sum by (leakagent_finding_reason, leakagent_resource_kind, code_function_name) (last_over_time(leakagent_findings_total[1h]))"

#: Seconds for a program to come up, or for numbers to arrive; machines can be slow.
DEADLINE = 120.0

#: What keeps Chromium from looking up its maker's hosts.
_CHROMIUM = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


class CannotError(Exception):
    """Something is missing or does not work; the text says what, in one line."""


class Stack:
    """A running Collector and the store behind it.

    Attributes:
        store: Address of the store.
        page: Where its page is looked at.
        grpc, http: Ports of the Collector.

    """

    def __init__(self, store: int, grpc: int, http: int) -> None:
        """Note the ports."""
        self.store = self.page = f"http://127.0.0.1:{store}"
        self.grpc = grpc
        self.http = http

    def variables(self, service: str, protocol: str = "http/protobuf") -> dict[str, str]:
        """Return the environment of a program that sends to it."""
        return {
            "OTEL_SERVICE_NAME": service,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.grpc if protocol == 'grpc' else self.http}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "LEAKAGENT_OTEL_WAIT": "60",
            "LEAKAGENT_OTEL_MEMORY": "1",
        }

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return what the store answers to a query, about now.

        Raises:
            CannotError: It refuses the query.

        """
        form = urllib.parse.urlencode({"query": text, "nocache": "1"}).encode()
        try:
            with urllib.request.urlopen(f"{self.store}/api/v1/query", form, timeout=60) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            message = f"the store refuses {text}: {error.read().decode(errors='replace')}"
            raise CannotError(message) from error
        return found


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Return what the condition returns as soon as that is true.

    Raises:
        CannotError: It was not within `DEADLINE`.

    """
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    message = f"did not happen within {DEADLINE:.0f} s: {what}"
    raise CannotError(message)


@contextmanager
def stack(folder: Path, store: int = 8428, grpc: int = 4317, http: int = 4318) -> Iterator[Stack]:
    """Start a Collector and a store on the loopback interface, and end them afterwards.

    Args:
        folder: For the store's data and the logs.
        store: Port of the store.
        grpc: Port of the Collector for gRPC.
        http: Port of the Collector for HTTP.

    Raises:
        CannotError: A program is missing, a port is in use, or one does not come up.

    """
    with ExitStack() as started:
        started.enter_context(
            _running(
                folder / "store.log",
                [
                    _found("victoria-metrics"),
                    f"-storageDataPath={folder / 'data'}",
                    f"-httpListenAddr=127.0.0.1:{store}",
                    "-opentelemetry.usePrometheusNaming",
                    "-retentionPeriod=1d",
                    "-search.latencyOffset=1ms",  # shows what came in a moment ago
                    f"-vmui.customDashboardsPath={HERE / 'vmui'}",
                ],
                [store],
            )
        )
        started.enter_context(
            _running(
                folder / "collector.log",
                [_found("otelcol"), "--config", str(HERE / "collector.yaml")],
                [grpc, http],
                {
                    "LEAKAGENT_STORE": f"http://127.0.0.1:{store}/opentelemetry",
                    "LEAKAGENT_OTLP_GRPC_PORT": str(grpc),
                    "LEAKAGENT_OTLP_HTTP_PORT": str(http),
                },
            )
        )
        yield Stack(store, grpc, http)


def _found(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        message = f"there is no {name} on the PATH"
        raise CannotError(message)
    return path


@contextmanager
def _running(log: Path, command: Sequence[str], ports: Sequence[int], env: dict[str, str] | None = None) -> Iterator[None]:
    for port in ports:
        if _accepts(port):
            message = f"port {port} is in use"
            raise CannotError(message)
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, **(env or {})}, stdout=output, stderr=output)
    try:

        def up() -> bool:
            if process.poll() is not None:
                message = f"{Path(command[0]).name} ended: {log.read_text(errors='replace').strip()[-300:]}"
                raise CannotError(message)
            return all(map(_accepts, ports))

        wait_for(up, f"{Path(command[0]).name} listens")
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def run_app(running: Stack, *, quiet: bool = False) -> None:
    """Run the demo program under leakagent.

    Raises:
        CannotError: It failed.

    """
    dropped = ("LEAKAGENT", "_LEAKAGENT", "OTEL_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    env |= {**running.variables(SERVICE), "ANONYMIZED_TELEMETRY": "False"}
    with tempfile.TemporaryDirectory(prefix="rag-") as data:
        command = [sys.executable, "-m", "leakagent", str(APP), "--data", data]
        ran = subprocess.run(command, env=env, cwd=APP.parent, check=False, capture_output=quiet, stdin=subprocess.DEVNULL)
    if ran.returncode:
        message = f"{APP.name} ended with status {ran.returncode}"
        raise CannotError(message)


def leaks(running: Stack) -> list[tuple[int, str, str, str]]:
    """Wait for the last report, and return the leaks that the store has: count, reason, kind, function; biggest first."""
    wait_for(lambda: running.query(f'leakagent_agent_time_seconds_total{{service_name="{SERVICE}"}}'), "the last report arrives")
    names = ("leakagent_finding_reason", "leakagent_resource_kind", "code_function_name")
    found = [(int(float(one["value"][1])), *(one["metric"].get(name, "") for name in names)) for one in running.query(LEAKS)]
    return sorted(found, key=lambda leak: (-leak[0], leak[1:]))


def link(running: Stack, text: str) -> str:
    """Return the address of the store's page with a query."""
    return f"{running.page}/vmui/#/?{urllib.parse.urlencode({'g0.expr': text, 'g0.range_input': '15m', 'g0.tab': '1'})}"


def dashboard(running: Stack) -> str:
    """Return the address of the dashboard on the store's page."""
    return f"{running.page}/vmui/#/dashboards?g0.range_input=1m&g0.step_input=1s"


def has_page(running: Stack) -> bool:
    """Say whether the store has a page to look at."""
    try:
        with urllib.request.urlopen(f"{running.page}/vmui/", timeout=60):
            return True
    except urllib.error.HTTPError:
        return False


def screenshot(running: Stack, path: Path) -> None:
    """Take a picture of the dashboard.

    Raises:
        CannotError: There is no Chromium or no page, or it made none.

    """
    if not has_page(running):
        message = "this victoria-metrics was built without its page: --vmui DIR (app/vmselect/vmui of its sources)"
        raise CannotError(message)
    path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        # Virtual time runs until the page has its answers.
        taken = (
            f"--user-data-dir={profile}",
            f"--screenshot={path.resolve()}",
            "--window-size=1400,1740",
            "--virtual-time-budget=20000",
        )
        command = [_found("chromium"), *_CHROMIUM, *taken, dashboard(running)]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=DEADLINE)
    if not path.exists():
        message = "chromium made no picture"
        raise CannotError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit status."""
    parser = argparse.ArgumentParser(description="The demo program, a real Collector, and a real store that shows its leaks.")
    parser.add_argument("--once", action="store_true", help="print what the store answers, and end")
    parser.add_argument("--screenshot", type=Path, metavar="PNG", help="take a picture of the dashboard, and end")
    parser.add_argument("--vmui", type=Path, metavar="DIR", help="the files of VictoriaMetrics' page, if the store has none")
    options = parser.parse_args(arguments)
    try:
        with ExitStack() as opened:
            folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="leakagent-otel-"))
            running = opened.enter_context(stack(Path(folder)))
            if options.vmui is not None:
                running.page = opened.enter_context(served(options.vmui, running.store))
            run_app(running)
            print(f"\nThe store answers to  {LEAKS}\n")
            for count, reason, kind, function in leaks(running):
                print(f"    {count:3d} x {kind:20s} {reason:16s} {function}")
            if options.screenshot is not None:
                screenshot(running, options.screenshot)
                print(f"\n{options.screenshot}")
            elif not options.once:
                if has_page(running):
                    print(f"\nthe leaks      {link(running, LEAKS)}\nthe dashboard  {dashboard(running)}\n", flush=True)
                else:
                    print(
                        f"\nthe leaks      {running.store}/api/v1/query?{urllib.parse.urlencode({'query': LEAKS})}\n", flush=True
                    )
                if sys.stdin.isatty():
                    input("Enter ends it. ")
                else:
                    print("Ctrl+C ends it.", flush=True)
                    while True:
                        time.sleep(3600)
    except KeyboardInterrupt:
        return 0
    except (CannotError, OSError, subprocess.SubprocessError) as error:
        print(f"demo.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
