"""Children deliver numbers of their own; nothing is counted twice; the program that runs is seen while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from leakagent.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHILDREN = """
import multiprocessing, sys, time
from leakagent import agent
from concurrent.futures import ThreadPoolExecutor

def make(number):
    pools = [ThreadPoolExecutor(1) for _ in range(number)]
    for pool in pools:
        pool.submit(int).result()
    return pools

def work(number):
    make(number)

if __name__ == "__main__":
    make(5)
    numbers, end = agent.current().telemetry.numbers, time.monotonic() + 100
    # A forked child has the numbers that were sent by then in its memory.
    while not numbers.points("leakagent.resource.created") and time.monotonic() < end:
        time.sleep(0.01)
    context = multiprocessing.get_context(sys.argv[1])
    children = [context.Process(target=work, args=(number,)) for number in (2, 3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    print([child.exitcode for child in children])
"""


#: With an argument: what a child has become.
CHILDREN_WITHOUT_END = """
import asyncio, gc, os, sys, time
from concurrent.futures import ThreadPoolExecutor
from leakagent import agent

def make(number):
    pools.extend(ThreadPoolExecutor(1) for _ in range(number))

class Waits:
    async def wait(self):
        self.future = asyncio.get_running_loop().create_future()
        await self.future

def forgotten():
    asyncio.create_task(Waits().wait())

async def leave():
    for _ in range(2):
        forgotten()
    await asyncio.sleep(0)
    gc.collect()
    try:
        FAILS
    except OSError:
        pass
    LEAVE

pools = []
if sys.argv[1:]:
    make(int(sys.argv[1]))
else:
    make(1)
    numbers, end = agent.current().telemetry.numbers, time.monotonic() + 100
    # A child that is forked while the SDK is loaded may send nothing.
    while not numbers.points("leakagent.resource.created") and time.monotonic() < end:
        time.sleep(0.01)
    child = os.fork()
    if not child:
        pools.clear()
        make(3)
        asyncio.run(leave())
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_process_counts_its_own(
    method: str,
    protocol: str,
    collector: Any,
    service: str,
    arrived: Callable[..., Any],
    python: Callable[..., Any],
    program: Callable[..., Path],
) -> None:
    env = {**collector.variables(protocol, service), "OTEL_METRIC_EXPORT_INTERVAL": "20"}
    ran = python("-m", "leakagent", program(CHILDREN), method, env=env)
    assert (ran.returncode, ran.stdout) == (0, "[0, 0]\n"), ran
    assert "telemetry" not in ran.stderr, ran

    def created(got: Any) -> list[float]:
        return sorted(got.points(names.RESOURCE_CREATED, instance).get(("thread_pool",), 0) for instance in got.metrics)

    found = arrived(service, lambda got: len(created(got)) >= 3 and len(got.named(names.SHUTDOWN_SPAN)) >= 3)
    assert [number for number in created(found) if number] == [2, 3, 5]
    told = sorted(
        sum(found.points(names.FINDINGS, instance).values())
        for instance, metrics in found.metrics.items()
        if names.FINDINGS in metrics
    )
    assert told == [2, 3, 5]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("way", ["os._exit", "exec"])
def test_what_runs_no_exit_handler_sends_its_numbers_first(
    way: str,
    fails: bool,
    protocol: str,
    collector: Any,
    service: str,
    arrived: Callable[..., Any],
    python: Callable[..., Any],
    program: Callable[..., Path],
) -> None:
    app = program(
        CHILDREN_WITHOUT_END.replace(
            "LEAVE",
            "os._exit(7)" if way == "os._exit" else 'os.execv(sys.executable, [sys.executable, __file__, "5"])',
        ).replace("FAILS", "os.execv('text', ['text'])" if fails else "pass")
    )
    text = program("no program", "text")
    text.chmod(0o755)
    env = {**collector.variables(protocol, service), "OTEL_METRIC_EXPORT_INTERVAL": "20"}
    ran = python("-W", "ignore::DeprecationWarning", "-m", "leakagent", app, env=env)
    assert (ran.returncode, ran.stdout) == (0, "7\n" if way == "os._exit" else "0\n"), ran
    assert "telemetry" not in ran.stderr, ran

    def created(got: Any) -> list[float]:
        return sorted(got.points(names.RESOURCE_CREATED, one).get(("thread_pool",), 0) for one in got.metrics)

    # The parent, the child, and what the child has become.
    wanted = [1, 3] if way == "os._exit" else [1, 3, 5]
    ends = len(wanted) - 1
    found = arrived(
        service,
        lambda got: (
            created(got) == wanted and len(got.named("leak asyncio.task")) >= 2 and len(got.named(names.SHUTDOWN_SPAN)) >= ends
        ),
    )
    assert len(found.named("leak asyncio.task")) == 2
    assert len(found.named(names.SHUTDOWN_SPAN)) == ends


def test_os_exit_does_not_wait_for_a_collector_that_hangs(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    import socket

    app = program("""
import os, signal
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
os._exit(5)
""")
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_TIMEOUT": "3600"}
        ran = python("-m", "leakagent", app, env=env)
    assert (ran.returncode, ran.stdout) == (5, ""), ran
    (line,) = ran.stderr.splitlines()
    assert line == f"leakagent: telemetry was not delivered to {endpoint} within 1 s: the last numbers (no answer)"


def test_leaks_are_seen_while_the_program_runs(
    protocol: str,
    collector: Any,
    service: str,
    arrived: Callable[..., Any],
    until: Callable[..., None],
    environment: Callable[..., dict[str, str]],
    program: Callable[..., Path],
    tmp_path: Path,
) -> None:
    import subprocess
    import sys

    app = program("""
import asyncio, gc, sys

class Waits:
    async def wait(self):
        self.future = asyncio.get_running_loop().create_future()
        await self.future

def forgotten():
    asyncio.create_task(Waits().wait())

async def main():
    for _ in range(4):
        forgotten()
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
""")
    variables = {**collector.variables(protocol, service), "OTEL_METRIC_EXPORT_INTERVAL": "50"}
    process = subprocess.Popen(
        [sys.executable, "-m", "leakagent", app],
        env=environment(variables),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        found = arrived(service, lambda got: len(got.named("leak asyncio.task")) >= 4 and got.metrics)
        assert found.points(names.FINDINGS) == {("app.forgotten", "lost_task", "asyncio.task"): 4}
        assert found.points(names.RESOURCE_COUNT)["app.forgotten", "asyncio.task", "live"] == 4
        assert found.named(names.SHUTDOWN_SPAN) == []
        _, errors = process.communicate("\n", timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    found = arrived(service, lambda got: got.named(names.SHUTDOWN_SPAN))
    assert len(found.named("leak asyncio.task")) == 4
    assert found.points(names.FINDINGS) == {("app.forgotten", "lost_task", "asyncio.task"): 4}


def test_the_programs_own_providers(
    collector: Any, service: str, arrived: Callable[..., Any], python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    app = program("""
from concurrent.futures import ThreadPoolExecutor
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

tracers = TracerProvider(shutdown_on_exit=False)
tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(tracers)
metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], shutdown_on_exit=False))
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
""")
    env = {**collector.variables("http/protobuf", service), "LEAKAGENT_OTEL": "global"}
    ran = python("-m", "leakagent", app, env=env)
    assert ran.returncode == 0, ran
    found = arrived(service, lambda got: got.named(names.SHUTDOWN_SPAN) and got.metrics)
    assert found.points(names.FINDINGS) == {("app.<module>", "not_shut_down", "thread_pool"): 1}
    assert len(found.named("leak thread_pool")) == 1


@pytest.mark.parametrize(
    "variables", [{}, {"OTEL_SDK_DISABLED": "true"}, {"LEAKAGENT_OTEL": "off"}, {"OTEL_METRICS_EXPORTER": "none"}]
)
def test_nothing_is_loaded_that_nobody_asked_for(
    variables: dict[str, str], python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    app = program(
        "import sys; print([name for name in sys.modules if name.startswith(('opentelemetry', 'leakagent.telemetry.sdk'))])"
    )
    endpoint = (
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"} if len(variables) and "NONE" not in str(variables).upper() else {}
    )
    ran = python("-m", "leakagent", app, env={**endpoint, **variables})
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "[]\n", ""), ran


def test_the_agents_own_thread_is_not_the_programs(
    protocol: str,
    collector: Any,
    service: str,
    arrived: Callable[..., Any],
    python: Callable[..., Any],
    program: Callable[..., Path],
) -> None:
    app = program("""
import sys, threading, time
end = time.monotonic() + 100
while "leakagent.telemetry.sdk" not in sys.modules and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0)
print(threading.enumerate() == [threading.main_thread()], threading.current_thread() is threading.main_thread())
""")
    env = {**collector.variables(protocol, service), "OTEL_METRIC_EXPORT_INTERVAL": "20"}
    ran = python("-m", "leakagent", app, env=env)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "True True\n", ""), ran
    found = arrived(service, lambda got: got.named(names.SHUTDOWN_SPAN) and got.metrics)
    assert names.FINDINGS not in next(iter(found.metrics.values()))
    assert not any(found.points(names.RESOURCE_CREATED).values())
