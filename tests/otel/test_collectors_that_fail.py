"""A Collector that is not there, hangs, or refuses: the program ends, with its own status, and one line says so.

How long the end is ready to wait is asserted, not how long it took: a test that is timed fails on a machine that is busy.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from leakagent.telemetry import names
from leakagent.telemetry.patience import MOST, TEARDOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Without a deadline of the agent's own each export would go on for an hour.
HOUR = {"OTEL_EXPORTER_OTLP_TIMEOUT": "3600"}

#: The first line is for programs that prepare something, before they take leakagent in.
APP = """
from pieces import note_waits, pools
note_waits("waits")
import sys
kept = pools(1)
print("out")
sys.exit(3)
"""

#: How a program that calls this server's host asks a name server for it.
HOST = "collector.example"


@pytest.fixture
def refused() -> int:
    """A port on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def hanging() -> Iterator[int]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def unavailable(receive: Callable[..., Any], tmp_path: Path) -> int:
    """A port that answers 503; the file ``many`` is there when it has done so three times."""

    def taken(receiver: Any) -> None:
        if len(receiver.requests) == 3:
            (tmp_path / "many").touch()

    return int(receive(503, taken).port)


@pytest.fixture
def untrusted(unavailable: int) -> str:
    """A server without TLS where TLS is asked for."""
    return f"https://127.0.0.1:{unavailable}"


@pytest.fixture
def unknown() -> str:
    """A host that no name server knows."""
    return "http://collector.invalid:4318"


class NameServer:
    """A real one, in that it listens on a real port; it never answers.

    Attributes:
        port: The port, of UDP.
        asked: What it was asked.

    """

    def __init__(self, told: Path) -> None:
        """Listen; ``told`` is a file that is there as soon as somebody has asked."""
        self._told = told
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.asked: list[bytes] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while question := self._socket.recv(4096):
            self.asked.append(question)
            self._told.touch()

    def close(self) -> None:
        """End it by an empty question."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()


@pytest.fixture
def name_server(tmp_path: Path) -> Iterator[NameServer]:
    """A name server that is slow for good."""
    started = NameServer(tmp_path / "asked")
    yield started
    started.close()


def waited_at_most(folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Check how long the end was ready to wait, all in all and with the teardown of what was imported; return its phases."""
    phases = [json.loads(line) for line in (folder / "waits").read_text(encoding="utf-8").splitlines()]
    spent = 0.0
    for phase in phases:
        aside = min(MOST * seconds, TEARDOWN * phase["imports"])
        assert not phase["ready"] or spent + phase["ready"] + aside <= seconds + 1e-6, phases
        spent += phase["took"]
    return phases


def said_once(ran: Any, endpoint: str, seconds: str = "1") -> None:
    """Check that the program had its own end, and that one line says what was not delivered."""
    assert (ran.returncode, ran.stdout) == (3, "out\n"), ran
    said = [line for line in ran.stderr.splitlines() if "telemetry" in line]
    assert len(said) == 1, ran
    assert said[0].startswith(f"leakagent: telemetry was not delivered to {endpoint} within {seconds} s: "), ran
    assert "1 x thread pool" in ran.stderr, ran
    # gRPC's C library writes some lines past Python (GRPC_VERBOSITY=NONE stops it for the whole process).
    others = "\n".join(line for line in ran.stderr.splitlines() if line not in said and "ssl_transport_security" not in line)
    for noise in ("Traceback", "Transient", "Failed to export", "urllib3", "WARNING", "ERROR"):
        assert noise not in others, ran


@pytest.mark.parametrize("kind", ["refused", "hanging", "unavailable", "untrusted", "unknown"])
def test_the_end_does_not_wait(
    kind: str,
    protocol: str,
    request: pytest.FixtureRequest,
    python: Callable[..., Any],
    program: Callable[..., Path],
    tmp_path: Path,
) -> None:
    value = request.getfixturevalue(kind)
    endpoint = f"http://127.0.0.1:{value}" if isinstance(value, int) else value
    env = {
        **HOUR,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_LOGS_EXPORTER": "otlp",
    }
    # Each signal would wait for an hour.
    ran = python("-m", "leakagent", "--report", "text,json:report.json", program(APP), env=env)
    said_once(ran, endpoint)
    phases = waited_at_most(tmp_path, 1)
    assert kind != "hanging" or not phases[-1]["released"], phases
    # What could not be delivered is in the local report.
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [(one["kind"], one["reason"]) for one in report["findings"]] == [("thread_pool", "not_shut_down")]


def test_the_end_does_not_wait_for_an_sdk_that_takes_long_to_load(
    refused: int, protocol: str, python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    # The import waits for a file that nobody writes; that the program ends shows that it is given up.
    os.mkfifo(tmp_path / "never")
    (tmp_path / "stand_in.py").write_text("open('never').read()\n", encoding="utf-8")
    hold = """
import importlib.util, sys
class Holds:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, "stand_in.py") if name == "leakagent.telemetry.sdk" else None
sys.meta_path.insert(0, Holds)
import leakagent
leakagent.install()
"""
    endpoint = f"http://127.0.0.1:{refused}"
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "LEAKAGENT_OTEL_WAIT": "0.2"}
    said_once(python(program(hold + APP), env={**HOUR, **env}), endpoint, "0.2")
    first, *_ = waited_at_most(tmp_path, 0.2)
    assert not first["released"]
    # What is imported has to be taken down as well: not all of the time is waited for.
    assert 0.1 <= first["ready"] <= 0.2 / (1 + TEARDOWN)


#: An agent's thread that is given up while it imports, and what Python calls in the collection of its own end.
IN_AN_IMPORT = """
import _imp, gc, importlib.util, sys, threading, time
main, name = threading.get_ident(), []
class Slow:
    @staticmethod
    def find_spec(wanted, path=None, target=None):
        if threading.get_ident() != main:
            name[:] = [wanted]
            FINDS
sys.meta_path.insert(0, Slow)
import leakagent
leakagent.install()
end = time.monotonic() + 60
while not name and time.monotonic() < end:
    time.sleep(0.01)
def last(phase, info):
    if sys.is_finalizing():
        gc.callbacks.clear()
        NEEDS
        sys.stdout.write("done\\n")
gc.callbacks.append(last)
"""

#: How the agent's thread finds a module, what it imports instead of the SDK, and what the program needs at its end.
IMPORTS = {
    # Python has both locks while it looks for a module.
    "at the next module": ("time.sleep(0.05)", "", "__import__(name[0].partition('.')[0])"),
    # It has the import system's most of the time, and does not come to its next module.
    "in this module": (
        "return importlib.util.spec_from_file_location(wanted, 'stand_in.py')",
        "import _imp, time\nwhile True:\n    _imp.acquire_lock()\n    time.sleep(0.02)\n    _imp.release_lock()\n    time.sleep(0.002)\n",
        "_imp.acquire_lock()",
    ),
}


@pytest.mark.parametrize("where", IMPORTS)
def test_a_thread_that_is_given_up_while_it_imports_leaves_nothing_locked(
    where: str, refused: int, python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    finds, instead, needs = IMPORTS[where]
    (tmp_path / "stand_in.py").write_text(instead, encoding="utf-8")
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{refused}", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    ran = python(program(IN_AN_IMPORT.replace("FINDS", finds).replace("NEEDS", needs)), env={**HOUR, **env})
    assert (ran.returncode, ran.stdout) == (0, "done\n"), ran
    assert ran.stderr.count("\n") == 1, ran
    assert "telemetry was not delivered" in ran.stderr, ran


#: An agent's thread that is given up while it writes to the terminal again and again, which is slow: its buffer would be locked when Python
#: finalizes.
TO_A_SLOW_TERMINAL = """
import io, os, sys, threading, time
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter
main = threading.get_ident()
class Slow(io.RawIOBase):
    def writable(self):
        return True
    def write(self, data):
        if threading.get_ident() != main:
            time.sleep(0.1)
        return os.write(2, data)
class Terminal(io.TextIOWrapper):
    def flush(self):
        super().flush()
        if threading.get_ident() == main:
            time.sleep(0.5)  # the other one writes again by then
sys.stderr = Terminal(io.BufferedWriter(Slow(), 16), write_through=True)
def export(exporter, *args, **named):
    while True:
        usual(exporter, *args, **named)
usual, ConsoleMetricExporter.export = ConsoleMetricExporter.export, export
import leakagent
leakagent.install()
from pieces import pools
kept = pools(1)
print("out")
sys.exit(3)
"""


def test_a_thread_that_is_given_up_while_it_writes_to_the_terminal_does_not_abort_the_process(
    python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    ran = python(program(TO_A_SLOW_TERMINAL), env={"OTEL_METRICS_EXPORTER": "console"})
    assert (ran.returncode, ran.stdout) == (3, "out\n"), ran
    assert "telemetry was not delivered" in ran.stderr, ran


#: Both ask a real name server, each as its protocol does: gRPC by c-ares, HTTP by `socket.getaddrinfo`.  Which one the machine asks can't be
#: changed, so that the program names it; it takes leakagent in afterwards.
RESOLVERS = {
    "grpc": """
import grpc
made = grpc.insecure_channel
grpc.insecure_channel = lambda target, *more, **named: made(f"dns://127.0.0.1:PORT/{target}", *more, **named)
""",
    "http/protobuf": """
import socket
real = socket.getaddrinfo
def getaddrinfo(host, *more, **named):
    if host != "HOST":
        return real(host, *more, **named)
    question = b"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + b"".join(bytes([len(one)]) + one.encode() for one in host.split("."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.sendto(question + b"\\0\\0\\1\\0\\1", ("127.0.0.1", PORT))
        return asking.recv(512)
socket.getaddrinfo = getaddrinfo
""",
}


def test_the_end_does_not_wait_for_a_name_server(
    protocol: str, name_server: NameServer, python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    resolver = RESOLVERS[protocol].replace("PORT", str(name_server.port)).replace("HOST", HOST)
    endpoint = f"http://{HOST}:4318"
    env = {
        **HOUR,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "GRPC_DNS_RESOLVER": "ares",
        "OTEL_METRIC_EXPORT_INTERVAL": "10",
    }
    asked = """
import os, leakagent
from pieces import wait_until
leakagent.install()
wait_until(lambda: os.path.exists("asked"))
"""
    said_once(python(program(resolver + asked + APP), env=env), endpoint)
    waited_at_most(tmp_path, 1)
    assert name_server.asked
    assert all(b"\x09collector\x07example" in question for question in name_server.asked), name_server.asked


def test_a_collector_that_is_down_while_the_program_runs_is_told_once_at_the_end(
    unavailable: int, python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    endpoint = f"http://127.0.0.1:{unavailable}"
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "0.2",
        "OTEL_METRIC_EXPORT_INTERVAL": "10",
    }
    waits = "import os\nfrom pieces import wait_until\nwait_until(lambda: os.path.exists('many'))\n"
    said_once(python("-m", "leakagent", program(waits + APP), env=env), endpoint)


def test_a_configuration_file_is_refused_in_one_line(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    env = {"OTEL_CONFIG_FILE": "otel.yaml", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    ran = python("-m", "leakagent", program("print(1)"), env=env)
    assert (ran.returncode, ran.stdout) == (0, "1\n"), ran
    (line,) = ran.stderr.splitlines()
    assert line.startswith("leakagent: OTEL_CONFIG_FILE is not supported by leakagent, which sends nothing")


def test_a_fork_does_not_wait_for_an_export_that_hangs(
    hanging: int, protocol: str, python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    app = program("""
import os
from pieces import wait_until
# Until the first export hangs: the thread holds a connection.
def connected():
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                return True
        except OSError:  # closed in the meantime
            continue
    return False
print(wait_until(connected))
for _ in range(3):
    pid = os.fork()
    if not pid:
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""")
    env = {
        **HOUR,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{hanging}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_METRIC_EXPORT_INTERVAL": "10",
    }
    ran = python("-W", "ignore::DeprecationWarning", "-m", "leakagent", app, env=env)
    assert (ran.returncode, ran.stdout.split()) == (0, ["True", "7", "7", "7"]), ran


def test_a_child_that_is_forked_in_the_middle_of_a_line_for_the_terminal_sends_its_own(
    python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    app = program("""
import os, sys, threading
parent, main, began, go_on = os.getpid(), threading.get_ident(), threading.Event(), threading.Event()
class Terminal:
    encoding = "utf-8"
    def write(self, text):
        if os.getpid() == parent and threading.get_ident() != main:
            began.set()
            go_on.wait()
        with open(f"{os.getpid() == parent}.txt", "a") as file:
            return file.write(text)
    def flush(self):
        pass
sys.stderr = Terminal()
import leakagent
leakagent.install()
from pieces import pools
kept = pools(1)
began.wait()
pid = os.fork()
if pid:
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    go_on.set()
else:
    more = pools(2)
    sys.exit(7)
""")
    env = {"OTEL_METRICS_EXPORTER": "console", "OTEL_METRIC_EXPORT_INTERVAL": "10", "LEAKAGENT_OTEL_WAIT": "60"}
    ran = python("-W", "ignore::DeprecationWarning", app, env=env)
    assert (ran.returncode, ran.stdout) == (0, "7\n"), ran
    for name in (True, False):
        assert names.RESOURCE_COUNT in (tmp_path / f"{name}.txt").read_text(encoding="utf-8"), name


def test_a_child_that_is_forked_when_the_thread_was_given_up_sends_its_own(
    python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    app = program("""
import atexit, os, sys, threading
parent, main = os.getpid(), threading.get_ident()
class Terminal:
    encoding = "utf-8"
    def write(self, text):
        if os.getpid() == parent and threading.get_ident() != main:
            threading.Event().wait()
        with open(f"{os.getpid() == parent}.txt", "a") as file:
            return file.write(text)
    def flush(self):
        pass
sys.stderr = Terminal()
@atexit.register
def after_the_agent():
    pid = os.fork()
    if not pid:
        thread = threading.Thread(target=print, args=([one for one in sys.meta_path if type(one).__module__.startswith("leakagent.telemetry")],))
        thread.start()
        thread.join()
        sys.stdout.flush()
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
import leakagent
leakagent.install()
from pieces import pools
kept = pools(1)
""")
    env = {"OTEL_METRICS_EXPORTER": "console", "OTEL_METRIC_EXPORT_INTERVAL": "10", "LEAKAGENT_OTEL_WAIT": "5"}
    ran = python("-W", "ignore::DeprecationWarning", app, env=env)
    assert (ran.returncode, ran.stdout) == (0, "[]\n7\n"), ran
    assert "telemetry was not delivered" in (tmp_path / "True.txt").read_text(encoding="utf-8")
    assert names.RESOURCE_CREATED in (tmp_path / "False.txt").read_text(encoding="utf-8")


def test_an_exporter_that_is_missing_is_told_in_one_line(
    protocol: str, python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    package = "grpc" if protocol == "grpc" else "http"
    app = program(f"""
import sys
for signal in ("metric", "trace"):
    sys.modules[f"opentelemetry.exporter.otlp.proto.{package}.{{signal}}_exporter"] = None
import leakagent
leakagent.install()
print("out")
""")
    env = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "LEAKAGENT_OTEL_WAIT": "100"}
    ran = python(app, env=env)
    assert (ran.returncode, ran.stdout) == (0, "out\n"), ran
    (line,) = (one for one in ran.stderr.splitlines() if one)
    assert line.startswith(
        f"leakagent: no traces are sent: OTLP by {protocol} needs opentelemetry-exporter-otlp-proto-{package} "
    )
    assert line.endswith("pip install 'leakagent[otlp]'")
