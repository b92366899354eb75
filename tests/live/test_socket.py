"""The socket of a program: who can ask, what is answered, and that it is gone when it must be."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from leakagent.cli import top
from leakagent.live import client, overview
from leakagent.live.server import CLIENTS

if TYPE_CHECKING:
    from collections.abc import Callable

THREAD = """
import sys, threading
go = threading.Event()
thread = threading.Thread(target=go.wait)
thread.start()
print("ready", sorted({"socket", "json", "leakagent.live.server"} & set(sys.modules)), flush=True)
sys.stdin.readline()
go.set()
"""

BLOCKED = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
async def main():
    print("blocked", flush=True)
    sys.stdin.readline()
asyncio.run(main())
"""

EXIT = """
import sys, threading
threading.Thread(target=lambda: sys.stdin.readline()).start()
print("main ends", flush=True)
"""

FORK = """
import os, sys, threading, time
threading.Thread(target=int).start()
print("parent", os.getpid(), flush=True)
sys.stdin.readline()
child = os.fork()
threads = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(1)]
if not child:
    links = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    print("child", os.getpid(), sum(link.startswith("socket:") for link in links), flush=True)
threads[0].start()
sys.stdin.readline()
if child:
    os.waitpid(child, 0)
"""


def talk(path: Path, data: bytes, *, half: bool = True) -> bytes:
    """Say something to a socket and return all that comes back."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(120)
            asking.connect(f"/proc/self/fd/{directory}/{path.name}")
            try:
                asking.sendall(data)
                if half:
                    asking.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: asking.recv(65536), b""))
            except (BrokenPipeError, ConnectionResetError):
                return b""
    finally:
        os.close(directory)


def test_a_program_is_listed_while_it_runs_and_not_after(running: Callable[..., Any]) -> None:
    app = running(THREAD)
    # Nothing is imported that the program does not import.
    assert app.line() == "ready ['leakagent.live.server']"
    path = app.socket()
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    (one,) = app.json("ps", "--json")["processes"]
    assert (one["pid"], one["program"], one["state"], one["live"]) == (app.pid, "app0.py", "running", {"thread": 1})
    assert str(app.pid) in app.ask("ps").stdout
    app.go_on()
    assert app.end() == (0, "")
    assert not path.exists()
    assert app.json("ps", "--json")["processes"] == []


def test_a_blocked_event_loop_does_not_keep_it_from_answering(running: Callable[..., Any]) -> None:
    app = running(BLOCKED)
    assert app.line() == "blocked"
    app.socket()
    report = app.json("dump", app.pid)
    assert (report["schema"], report["running"], report["exit"]) == ("leakagent.report/1", True, {"status": None, "signal": None})
    assert [(one["kind"], one["reason"]) for one in report["findings"]] == [("thread_pool", "not_shut_down")]
    assert report["totals"]["thread_pool"]["live"] == 1


def test_it_answers_while_python_waits_for_a_thread(running: Callable[..., Any]) -> None:
    app = running(EXIT)
    assert app.line() == "main ends"
    app.socket()
    app.until(lambda: app.json("ps", "--json")["processes"][0]["state"] == "ending", "the main thread has ended")
    app.go_on()
    assert app.end() == (0, "")


def test_one_that_was_just_started_is_waited_for(running: Callable[..., Any], monkeypatch: Any) -> None:
    app = running(THREAD)
    assert app.line().startswith("ready ")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(app.runtime))
    monkeypatch.setattr(client, "YOUNG", 60.0)
    assert client.ask(app.pid, "status")["pid"] == app.pid


def test_switched_off(running: Callable[..., Any]) -> None:
    app = running(THREAD, options=("--live", "0"))
    assert app.line() == "ready []"
    assert app.ask("dump", app.pid).returncode == 1


def test_a_fork_shares_nothing(running: Callable[..., Any]) -> None:
    # From 3.12 on a fork beside another thread warns, so this fails if the agent's thread is still there.
    app = running(FORK, switches=("-W", "error::DeprecationWarning"))
    assert app.line() == f"parent {app.pid}"
    app.socket()
    app.go_on()
    word, child, sockets = app.line().split()
    assert (word, sockets) == ("child", "0")
    app.socket(int(child))
    app.socket()
    pids = {one["pid"]: one["child"] for one in app.json("ps", "--json")["processes"]}
    assert pids == {app.pid: False, int(child): True}
    app.go_on()
    app.go_on()
    assert app.end() == (0, "")


def test_a_killed_programs_socket_is_cleaned_up(running: Callable[..., Any]) -> None:
    app = running(THREAD)
    path = app.socket()
    app.process.send_signal(signal.SIGKILL)
    app.end()
    assert path.exists()
    assert app.json("ps", "--json")["processes"] == []
    assert not path.exists()


def test_a_stopped_process_is_named_and_keeps_nobody_waiting_for_long(running: Callable[..., Any], monkeypatch: Any) -> None:
    stopped, other = running(THREAD), running(THREAD)
    for app in (stopped, other):
        assert app.line().startswith("ready")
        app.socket()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(stopped.runtime))
    stopped.process.send_signal(signal.SIGSTOP)
    with pytest.raises(
        client.NoAnswerError, match=f"^process {stopped.pid} did not answer in 0.2 s: it is stopped, or busy in code"
    ):
        client.ask(stopped.pid, "why", 0.2)
    seen = {one["pid"]: one for one in client.everybody(10)}
    assert (seen[stopped.pid]["state"], seen[other.pid]["state"]) == ("silent", "running")
    assert "app0.py" in seen[stopped.pid]["program"]
    rows = [top.cells(row) for row in overview.View().rows(overview.everybody(0.2)) if row.process["pid"] == stopped.pid]
    assert [row[:-1] for row in rows] == [(str(stopped.pid), "silent", "-", "", "", "", "", "")]
    stopped.process.send_signal(signal.SIGCONT)
    for app in (stopped, other):
        app.go_on()
        assert app.end() == (0, "")


def test_it_can_only_be_read_from(running: Callable[..., Any]) -> None:
    app = running(THREAD)
    path = app.socket()
    words = ("status", "dump", "why", "inventory")
    for other in ("shutdown", "uninstall", "cancel", "eval", "__class__", ""):
        answer = json.loads(talk(path, json.dumps({"version": 1, "ask": other}).encode() + b"\n"))
        assert answer == {"version": 1, "error": f"can be asked: {', '.join(words)}"}
    before = app.json("dump", app.pid)
    for word in words:
        assert "answer" in json.loads(talk(path, json.dumps({"version": 1, "ask": word, "do": "close"}).encode() + b"\n"))
    after = app.json("dump", app.pid)
    assert (before["totals"], before["findings"]) == (after["totals"], after["findings"])
    app.go_on()
    assert app.end() == (0, "")


def test_clients_that_hang_on_keep_neither_the_program_nor_its_end(running: Callable[..., Any]) -> None:
    """One in service that never asks, and more than may wait: the program ends as if they were not there."""
    app = running(THREAD)
    assert app.line().startswith("ready")
    path = app.socket()
    directory = os.open(path.parent, os.O_RDONLY)
    hanging = []
    try:
        for _ in range(3 * CLIENTS):
            one = socket.socket(socket.AF_UNIX)
            hanging.append(one)
            one.setblocking(False)
            try:
                one.connect(f"/proc/self/fd/{directory}/{path.name}")
            except BlockingIOError:  # no more may wait
                break
        assert CLIENTS < len(hanging) < 3 * CLIENTS
        app.go_on()
        assert app.end() == (0, "")
    finally:
        os.close(directory)
        for one in hanging:
            one.close()
    assert not path.exists()


@pytest.mark.parametrize(
    "said",
    [b"", b"\n", b"\xff\x00\n", b"[" * 900 + b"\n", b"x" * 100_000, b'{"version": 2, "ask": "dump"}\n', b'{"version": 1}\n'],
)
def test_garbage_is_refused_and_the_next_one_is_answered(running: Callable[..., Any], said: bytes) -> None:
    app = running(THREAD)
    path = app.socket()
    answer = talk(path, said)
    assert not answer or set(json.loads(answer)) == {"version", "error"}
    assert [one["pid"] for one in app.json("ps", "--json")["processes"]] == [app.pid]
    app.go_on()
    assert app.end() == (0, "")


def test_a_client_that_says_nothing_is_sent_away(running: Callable[..., Any]) -> None:
    app = running(THREAD)
    assert talk(app.socket(), b'{"version"', half=False) == b""
    assert [one["state"] for one in app.json("ps", "--json")["processes"]] == ["running"]


ASK = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
client = socket.socket(socket.AF_UNIX)
client.settimeout(120)
try:
    client.connect(sys.argv[2])
    client.sendall(b'{"version": 1, "ask": "status"}\\n')
    print("answer", client.recv(100))
except OSError as error:
    print(type(error).__name__)
"""


def test_another_user_is_not_answered(running: Callable[..., Any], run: Callable[..., Any]) -> None:
    """Neither through the modes, nor when somebody has opened them: the peer's user is looked at as well."""
    app = running(THREAD)
    path = app.socket()

    def ask_as(user: int) -> str:
        # From inside the folder, so that the folders above it need not be open.
        return str(run([sys.executable, "-c", ASK, str(user), path.name], cwd=path.parent).stdout.strip())

    assert ask_as(os.getuid()).startswith("answer b'{")
    if os.getuid() == 0:  # nobody else can become another user
        assert ask_as(65534) == "PermissionError"
        path.chmod(0o666)
        path.parent.chmod(0o755)
        assert ask_as(65534) in {"answer b''", "ConnectionResetError", "BrokenPipeError"}
