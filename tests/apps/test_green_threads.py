"""gevent and eventlet: a program whose threads are made green runs as without the agent, and is told that this one is off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

#: Its own name resolver imports trio where that is installed, which does not go with its sockets, also without the agent.
EVENTLET = "import os; os.environ['EVENTLET_NO_GREENDNS'] = 'yes'; import eventlet"

PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()\n",
    "eventlet": f"{EVENTLET}; eventlet.monkey_patch()\n",
}

#: What hung with the agent's threads in it: a pool, threads, a child, and the end itself.
WORK = """\
import asyncio, os, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor

def work(n):
    time.sleep(0.05)
    return n

with ThreadPoolExecutor(4) as pool:
    print(list(pool.map(work, range(4))))
threads = [threading.Thread(target=work, args=(1,)) for _ in range(5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
child = "from concurrent.futures import ThreadPoolExecutor as Pool; kept = Pool(1); kept.submit(print, 'child').result()"
print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True))
left = ThreadPoolExecutor(2)
left.submit(work, 1)
threading.Thread(target=work, args=(1,)).start()
"""

TERMINATED = """\
import os, signal, threading, time
from concurrent.futures import ThreadPoolExecutor
ThreadPoolExecutor(1).submit(time.sleep, 60)
print("ready", flush=True)
time.sleep(60)
"""


def off(library: str) -> str:
    return f"leakagent: off in this process: {library} has made threads green, and leakagent needs real ones"


@pytest.mark.parametrize("early", [True, False], ids=["environment", "command line"])
@pytest.mark.parametrize("library", PATCHES)
def test_runs_as_without_the_agent(library: str, early: bool, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    path = program(PATCHES[library] + WORK + "sys.exit(7)\n")
    words, variables = ((), {"LEAKAGENT": "1"}) if early else (("-m", "leakagent"), {})
    bare, ran = python("-W", "ignore", path), python("-W", "ignore", *words, path, env=variables)
    assert (ran.returncode, ran.stdout) == (bare.returncode, bare.stdout) == (7, bare.stdout), (ran, bare)
    assert "'child\\n', stderr=''" in ran.stdout, ran
    assert ran.stderr.splitlines() == [off(library), *bare.stderr.splitlines()], (ran, bare)


@pytest.mark.parametrize("library", PATCHES)
def test_sigterm_ends_it_at_once(library: str, program: Callable[..., Path], environment: Callable[..., dict[str, str]]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", program(PATCHES[library] + TERMINATED)],
        env=environment({"LEAKAGENT": "1"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, errors.splitlines()) == (-signal.SIGTERM, [off(library)])


LATE = """\
import leakagent
print(leakagent.install(), leakagent.is_active())
"""


@pytest.mark.parametrize("library", PATCHES)
def test_install_after_the_patch_says_that_it_stays_off(
    library: str, python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    ran = python("-W", "ignore", program(PATCHES[library] + LATE))
    said = "leakagent: off in this interpreter: somebody (gevent, eventlet) has made threads green, and leakagent needs real ones"
    assert (ran.returncode, ran.stdout, ran.stderr.splitlines()) == (0, "False False\n", [said]), ran


@pytest.mark.parametrize(
    ("library", "patch"),
    [
        ("gevent", "import gevent.monkey; gevent.monkey.patch_socket()"),
        ("eventlet", f"{EVENTLET}; eventlet.monkey_patch(socket=True)"),
        ("eventlet", f"{EVENTLET}; eventlet.monkey_patch(all=True, thread=False)"),
    ],
)
def test_sockets_may_be_green(library: str, patch: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    text = f"{patch}\nfrom concurrent.futures import ThreadPoolExecutor\nkept = ThreadPoolExecutor(1)\nkept.submit(print, 1).result()\n"
    ran = python("-W", "ignore", "-m", "leakagent", program(text))
    assert (ran.returncode, ran.stdout) == (0, "1\n"), (library, ran)
    assert "1 x thread pool" in ran.stderr, ran
    assert "green" not in ran.stderr, ran


UNINSTALLED = """\
import os
os.environ["EVENTLET_NO_GREENDNS"] = "yes"
import eventlet, gevent.events
before = (list(gevent.events.subscribers), eventlet.monkey_patch, eventlet.patcher.monkey_patch)
import leakagent
leakagent.install()
assert eventlet.monkey_patch is not before[1] and len(gevent.events.subscribers) == len(before[0]) + 1
leakagent.uninstall()
print((list(gevent.events.subscribers), eventlet.monkey_patch, eventlet.patcher.monkey_patch) == before)
"""


def test_uninstall_leaves_both_as_they_were(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    ran = python("-W", "ignore", program(UNINSTALLED))
    assert (ran.returncode, ran.stdout) == (0, "True\n"), ran


APP = """\
import threading, time
def app(environ, start_response):
    done = []
    thread = threading.Thread(target=lambda: (time.sleep(0.01), done.append(1)))
    thread.start()
    thread.join()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def test_workers_of_gunicorn_serve_and_end(serve: Callable[..., Any], port: int) -> None:
    gunicorn = os.fspath(Path(sys.executable).parent / "gunicorn")
    command = [gunicorn, "-b", f"127.0.0.1:{port}", "-k", "gevent", "-w", "2", "app:app"]
    server = serve(command, f"http://127.0.0.1:{port}/", agent=True, files={"app.py": APP})
    assert [server.get() for _ in range(10)] == ["ok"] * 10, server.log
    assert server.end_by(signal.SIGTERM) == 0, server.log
    assert off("gevent") in server.log
