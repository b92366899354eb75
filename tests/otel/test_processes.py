"""Children deliver numbers of their own; nothing is counted twice; the program that runs is seen while it runs."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from leakagent.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHILDREN = """
import multiprocessing, subprocess, sys
from pieces import pools, until_sent

def work(number):
    pools(number)

if __name__ == "__main__":
    if sys.argv[2:]:  # a child of subprocess
        work(int(sys.argv[2]))
        sys.exit()
    pools(5)
    # A forked child has the numbers that were sent by then in its memory.
    until_sent()
    if sys.argv[1] == "subprocess":
        children = [subprocess.Popen([sys.executable, __file__, "child", str(number)]) for number in (2, 3)]
        print([child.wait() for child in children])
    else:
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
import asyncio, os, sys
from pieces import forget, pools, until_sent

async def leave():
    await forget(2)
    try:
        FAILS
    except OSError:
        pass
    LEAVE

if sys.argv[1:]:
    kept = pools(int(sys.argv[1]))
else:
    kept = pools(1)
    until_sent()
    child = os.fork()
    if not child:
        kept = pools(3)
        asyncio.run(leave())
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

#: While they run, processes send every few milliseconds.
OFTEN = {"OTEL_METRIC_EXPORT_INTERVAL": "20"}


def pools_made(got: Any) -> list[float]:
    """Return how many pools each process has made, of those that have made some."""
    made = [got.points(names.RESOURCE_CREATED, instance).get(("thread_pool",), 0) for instance in got.metrics]
    return sorted(number for number in made if number)


def leaks_told(got: Any) -> list[float]:
    """Return how many leaks each process has told, of those that have told some."""
    return sorted(
        sum(got.points(names.FINDINGS, instance).values())
        for instance, metrics in got.metrics.items()
        if names.FINDINGS in metrics
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver", "subprocess"])
def test_every_process_counts_its_own(method: str, protocol: str, service: Any) -> None:
    service.run(CHILDREN, method, env=OFTEN, out="[0, 0]\n")
    found = service.received(lambda got: len(pools_made(got)) >= 3 and len(got.named(names.SHUTDOWN_SPAN)) >= 3)
    assert pools_made(found) == [2, 3, 5]
    assert leaks_told(found) == [2, 3, 5]


#: A collection between the agent's own part of a fork and the fork; what it starts has no turn in between.
COLLECTED_WHILE_FORKING = """
import gc, os, sys
usual = sys.getswitchinterval()
def collect():
    sys.setswitchinterval(1000)
    gc.collect()
os.register_at_fork(before=collect, after_in_parent=lambda: sys.setswitchinterval(usual), after_in_child=lambda: sys.setswitchinterval(usual))
import leakagent
leakagent.install()
from pieces import pools, until_sent
made = pools(5)
until_sent()
child = os.fork()
if not child:
    made = pools(2)
    sys.exit()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_collection_in_the_middle_of_a_fork_costs_the_child_nothing(
    service: Any, python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    ran = python("-W", "ignore::DeprecationWarning", program(COLLECTED_WHILE_FORKING), env={**service.variables, **OFTEN})
    assert (ran.returncode, ran.stdout) == (0, "0\n"), ran
    assert pools_made(service.received(lambda got: len(pools_made(got)) >= 2)) == [2, 5]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("way", ["os._exit", "exec"])
def test_what_runs_no_exit_handler_sends_its_numbers_first(
    way: str, fails: bool, protocol: str, service: Any, program: Callable[..., Path]
) -> None:
    leave = "os._exit(7)" if way == "os._exit" else 'os.execv(sys.executable, [sys.executable, __file__, "5"])'
    app = CHILDREN_WITHOUT_END.replace("LEAVE", leave).replace("FAILS", "os.execv('text', ['text'])" if fails else "pass")
    program("no program", "text").chmod(0o755)
    service.run(app, env=OFTEN, out="7\n" if way == "os._exit" else "0\n")
    # The parent, the child, and what the child has become.
    wanted = [1, 3] if way == "os._exit" else [1, 3, 5]
    ends = len(wanted) - 1
    found = service.received(
        lambda got: (
            pools_made(got) == wanted and len(got.named("leak asyncio.task")) >= 2 and len(got.named(names.SHUTDOWN_SPAN)) >= ends
        )
    )
    assert len(found.named("leak asyncio.task")) == 2
    assert len(found.named(names.SHUTDOWN_SPAN)) == ends


def test_a_program_that_forks_right_before_its_end_sends_its_last_report(protocol: str, service: Any) -> None:
    # The fork has ended the thread that sends, and no collection has started it again; a job forks when the main thread has ended.
    service.run("""
import gc, os
from concurrent.futures import ThreadPoolExecutor
from pieces import until_sent

def fork():
    child = os.fork()
    if not child:
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

pool = ThreadPoolExecutor(1)
pool.submit(int).result()
until_sent()
gc.disable()
fork()
pool.submit(fork)
""", env=OFTEN, out="0\n0\n")  # fmt: skip
    found = service.received(lambda got: got.named(names.SHUTDOWN_SPAN) and leaks_told(got))
    assert leaks_told(found) == [1]
    assert len(found.named(names.SHUTDOWN_SPAN)) == 1


def test_os_exit_does_not_wait_for_a_collector_that_hangs(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    app = program("import os\nfrom pieces import pools\nkept = pools(1)\nos._exit(5)\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_TIMEOUT": "3600"}
        ran = python("-m", "leakagent", app, env=env)
    assert (ran.returncode, ran.stdout) == (5, ""), ran
    (line,) = ran.stderr.splitlines()
    assert line == f"leakagent: telemetry was not delivered to {endpoint} within 1 s: the last numbers (no answer)"


def test_os_exit_in_the_middle_of_an_export_sends_what_came_after_it(
    receive: Callable[..., Any],
    until: Callable[..., None],
    python: Callable[..., Any],
    program: Callable[..., Path],
    tmp_path: Path,
) -> None:
    def taken(receiver: Any) -> None:
        if len(receiver.requests) == 1:
            (tmp_path / "held").touch()
            until((tmp_path / "rung").exists, "the program is about to end")

    app = program("""
import asyncio, os
from leakagent import agent
from pieces import forget, wait_until

telemetry = agent.current().telemetry
ring = telemetry._ring
telemetry._ring = lambda turn: (ring(turn), open("rung", "w").close())
wait_until(lambda: os.path.exists("held"))

async def leave():
    await forget(2)
    os._exit(7)

asyncio.run(leave())
""")
    receiver = receive(200, taken)
    env = {**OFTEN, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}", "LEAKAGENT_OTEL_WAIT": "100"}
    ran = python("-m", "leakagent", app, env=env)
    assert (ran.returncode, ran.stderr) == (7, ""), ran
    spans = [
        span.name
        for request in receiver.requests
        for part in getattr(request, "resource_spans", ())
        for scope in part.scope_spans
        for span in scope.spans
    ]
    assert spans == ["leak asyncio.task"] * 2


def test_leaks_are_seen_while_the_program_runs(
    protocol: str, service: Any, environment: Callable[..., dict[str, str]], program: Callable[..., Path], tmp_path: Path
) -> None:
    app = program("""
import asyncio, sys
from pieces import forget

async def main():
    await forget(4)
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
""")
    process = subprocess.Popen(
        [sys.executable, "-m", "leakagent", app],
        env=environment({**service.variables, **OFTEN}),
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        found = service.received(lambda got: len(got.named("leak asyncio.task")) >= 4 and got.metrics)
        assert found.points(names.FINDINGS) == {("pieces.forgotten", "lost_task", "asyncio.task"): 4}
        assert found.points(names.RESOURCE_COUNT)["pieces.forgotten", "asyncio.task", "live"] == 4
        assert found.named(names.SHUTDOWN_SPAN) == []
        _, errors = process.communicate("\n", timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    found = service.received()
    assert len(found.named("leak asyncio.task")) == 4
    assert found.points(names.FINDINGS) == {("pieces.forgotten", "lost_task", "asyncio.task"): 4}
    # Only where it is asked for.
    assert names.PROCESS_MEMORY not in next(iter(found.metrics.values()))


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "LEAKAGENT_OTEL": "off"},
        {"OTEL_METRICS_EXPORTER": "none"},
        {"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "team=search"},
    ],
    ids=["no variables", "OTEL_SDK_DISABLED", "LEAKAGENT_OTEL=off", "none", "a name only"],
)
def test_nothing_is_loaded_that_nobody_asked_for(
    variables: dict[str, str], python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    app = program("""
import sys
loaded = lambda: [name for name in sys.modules if name.startswith(("opentelemetry", "leakagent.telemetry.sdk"))]
import atexit
atexit.register(lambda: print(loaded()))
print(loaded())
""")
    ran = python("-m", "leakagent", app, env=variables)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "[]\n[]\n", ""), ran


def test_the_agents_own_thread_is_not_the_programs(protocol: str, service: Any) -> None:
    ran = service.run("""
import threading
from pieces import until_sent, wait_until
until_sent()
# Between two exports; in one, gRPC asks for the name of the thread that makes its own.
alone = wait_until(lambda: threading.enumerate() == [threading.main_thread()])
print(threading.current_thread() is threading.main_thread(), alone)
""", env=OFTEN)  # fmt: skip
    assert (ran.stdout, ran.stderr) == ("True True\n", ""), ran
    found = service.received()
    assert names.FINDINGS not in next(iter(found.metrics.values()))
    assert not any(found.points(names.RESOURCE_CREATED).values())
