"""``OTEL_METRICS_EXPORTER=prometheus``: a real scraper reads the metrics; one process has the port, and says so if it has not."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

APP = """
import asyncio, sys, threading
from pieces import forget

async def main():
    await forget(4)
    await asyncio.get_running_loop().connect_read_pipe(lambda: End(), sys.stdin)
    await ended.wait()
    print([one.name for one in threading.enumerate()], flush=True)

class End(asyncio.Protocol):
    def connection_lost(self, _error):
        ended.set()

ended = asyncio.Event()
asyncio.run(main())
"""


@pytest.fixture
def served(
    port: int,
    program: Callable[..., Path],
    environment: Callable[..., dict[str, str]],
    until: Callable[..., None],
    tmp_path: Path,
) -> Iterator[subprocess.Popen[str]]:
    """Start a program that Prometheus can ask, and end it by closing its input."""
    env = environment(
        {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(port), "LEAKAGENT_STALLED_AFTER": "3600"}
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "leakagent", program(APP)],
        env=env,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: process.poll() is not None or "forgotten" in fetched(port)[1], "it serves its leaks")
        yield process
    finally:
        process.kill()
        process.communicate()


def fetched(port: int, path: str = "/metrics", method: str = "GET", accept: str = "") -> tuple[int, str, str]:
    """Return status, text and type of what is served, or 0."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, headers={"Accept": accept} if accept else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers["Content-Type"]
    except OSError:
        return 0, "", ""
    finally:
        connection.close()


def test_a_real_scraper_reads_the_leaks(
    port: int, served: subprocess.Popen[str], free_ports: Callable[[int], list[int]], until: Callable[..., None], tmp_path: Path
) -> None:
    # No resource attributes on the series here: the service is the job's name.
    (store,) = free_ports(1)
    config = tmp_path / "scrape.yml"
    config.write_text(
        f"global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: shop, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n",
        encoding="utf-8",
    )
    binary = shutil.which("victoria-metrics")
    assert binary, "there is no victoria-metrics on the PATH"
    command = [
        binary,
        f"-promscrape.config={config}",
        f"-httpListenAddr=127.0.0.1:{store}",
        f"-storageDataPath={tmp_path / 'data'}",
    ]
    with (tmp_path / "store.log").open("wb") as log:
        scraper = subprocess.Popen([*command, "-search.latencyOffset=1ms"], stdout=log, stderr=log)

    def answer(text: str) -> list[Any]:
        form = urllib.parse.urlencode({"query": text, "nocache": "1"}).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{store}/api/v1/query", form, timeout=60) as found:
                return list(json.load(found)["data"]["result"])
        except OSError:
            return []

    try:
        board = json.loads((Path(__file__).parents[2] / "deploy/grafana/dashboards/leakagent.json").read_text(encoding="utf-8"))
        queries = {panel["title"]: panel["targets"][0]["expr"] for panel in board["panels"] if "targets" in panel}
        for service, there in (("shop", True), ("another", False)):
            text = queries["Leaks found"].replace("$service", service).replace("$__range", "5m")
            if there:
                until(lambda text=text: answer(text), "the store has scraped it")
            assert [one["value"][1] for one in answer(text)] == (["4"] if there else [])
        text = queries["Live by kind"].replace("$service", "shop")
        assert [(one["metric"], one["value"][1]) for one in answer(text)] == [({"leakagent_resource_kind": "asyncio.task"}, "5")]
    finally:
        scraper.terminate()
        scraper.wait(60)
    assert served.poll() is None


def test_what_is_served(port: int, served: subprocess.Popen[str]) -> None:
    status, text, kind = fetched(port)
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    assert 'leakagent_findings_total{code_function_name="pieces.forgotten",leakagent_finding_reason="lost_task"' in text
    assert fetched(port, accept="application/openmetrics-text; version=1.0.0")[2].startswith("application/openmetrics-text")
    assert fetched(port, "/metrics?name=x")[0] == 200
    assert fetched(port, "/other")[0] == 404
    assert fetched(port, method="POST")[0] == 400
    assert fetched(port, method="HEAD")[:2] == (200, "")
    # Who says nothing, or goes away in the middle, is no reason to stop.
    with socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(b"GET /metr")
    assert fetched(port)[0] == 200
    assert served.stdin is not None
    out, errors = served.communicate(timeout=120)
    assert (served.returncode, out) == (0, "['MainThread']\n"), errors
    assert "4 x asyncio task" in errors
    assert "telemetry" not in errors


def test_the_loopback_interface_only(port: int, served: subprocess.Popen[str]) -> None:
    listening = [
        line.split()[1].partition(":")[0]
        for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].partition(":")[2], 16) == port
    ]
    assert listening == ["0100007F"]
    assert served.poll() is None


def test_a_port_in_use_is_one_line(
    port: int, served: subprocess.Popen[str], python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    env = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(port), "LEAKAGENT_OTEL_WAIT": "100"}
    ran = python("-m", "leakagent", program("print(1)", "second.py"), env=env)
    assert (ran.returncode, ran.stdout) == (0, "1\n"), ran
    (line,) = ran.stderr.splitlines()
    assert line.startswith(
        f"leakagent: no metrics are served: localhost port {port} can't be listened on (Address already in use)"
    )
    assert fetched(port)[0] == 200
    assert served.poll() is None


def test_a_fork_leaves_the_port_with_its_owner(port: int, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    app = program(f"""
import gc, os, signal, urllib.request
from pieces import wait_until

def scrape():
    try:
        with urllib.request.urlopen("http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            return answer.status
    except OSError:
        return 0

wait_until(scrape)
ready, told = os.pipe()
child = os.fork()
if not child:
    os.write(told, b".")
    signal.pause()
os.read(ready, 1)
gc.collect()  # the thread is back
print(scrape())
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
""")
    env = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    ran = python("-W", "ignore::DeprecationWarning", "-m", "leakagent", app, env=env)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "200\n", ""), ran


def test_a_missing_exporter_is_one_line(port: int, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    app = program("""
import sys
sys.modules["opentelemetry.exporter.prometheus"] = None
import leakagent
leakagent.install()
print("out")
""")
    env = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(port), "LEAKAGENT_OTEL_WAIT": "100"}
    ran = python(app, env=env)
    assert (ran.returncode, ran.stdout) == (0, "out\n"), ran
    (line,) = ran.stderr.splitlines()
    assert line.startswith("leakagent: no metrics are sent: prometheus needs opentelemetry-exporter-prometheus (")
    assert line.endswith("pip install 'leakagent[prometheus]'")
