"""lancedb connections and its background loop: told, closed and stopped when nobody uses them any more."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# To let go of a synchronous connection is the only way to end it, and it goes at once, with its table; an asynchronous one has a close().
KINDS = """\
import asyncio
import atexit
import gc
import weakref
import lancedb
from lancedb import connect
from lancedb.background_loop import LOOP
rows = [{"id": n, "vector": [float(n), 1.0]} for n in range(3)]
a = lancedb.connect("a")  # leak: not_closed lancedb.connection
table = a.create_table("t", rows)
print(table.count_rows())
b = connect("b")
b.create_table("t", rows)
b._conn.close()
def dropped():
    c = connect("c")
    c.create_table("t", rows)
    print(c.open_table("t").count_rows())
dropped()
def gone():
    g = connect("g")
    return [weakref.ref(one) for one in (g, g._conn, g.create_table("t", rows))]
print([one() for one in gone()])
async def main():
    d = await lancedb.connect_async("d")  # leak: not_closed lancedb.connection
    things = await d.create_table("t", rows)
    print(await things.count_rows())
    await lancedb.connect_async("dropped")  # leak: not_closed lancedb.connection
    e = await lancedb.connect_async("e")
    await e.create_table("t", rows)
    e.close()
    with await lancedb.connect_async("f") as f:
        print(await (await f.create_table("t", rows)).count_rows())
    return d
d = asyncio.run(main())
gc.collect()
print(table.search([1.0, 1.0]).limit(1).to_list()[0]["id"])
try:
    lancedb.connect("db://nobody")
except ValueError as error:
    print(type(error).__name__)
@atexit.register
def bye():
    print("bye", table.count_rows(), a.open_table("t").count_rows(), LOOP.thread.is_alive())
"""


def test_every_way_of_making_and_closing_one(compare: Callable[..., Any]) -> None:
    ran = compare(KINDS)
    ran.check()
    for report in ran.reports:
        assert sorted(one["action"] for one in report["findings"]) == ["closed", "closed", "none"]
        stages = {stage["stage"]: stage for stage in report["receipt"]}
        # Two connections, one dropped, and the loop, whose thread has ended.
        assert (stages["clients"]["asked"], stages["clients"]["forced"]) == (4, 0)


DAEMON = """\
import threading
import lancedb
db = lancedb.connect("db")  # leak: not_closed lancedb.connection
table = db.create_table("t", [{"id": 1}])
works = threading.Event()
def work():
    try:
        while True:
            table.count_rows()
            works.set()
    except BaseException as error:
        print("the daemon saw", type(error).__name__, error, flush=True)
for _ in range(5):
    threading.Thread(target=work, daemon=True).start()
works.wait()
print("end of the main thread", flush=True)
"""

# Calls that end in lancedb's loop while the main thread looks for lost tasks: their references move meanwhile.
IN_FLIGHT = """\
import gc, sys, threading
import lancedb
sys.setswitchinterval(1e-5)
table = lancedb.connect("db").create_table("t", [{"id": n, "vector": [float(n), 1.0]} for n in range(200)])
stop = threading.Event()
def work():
    while not stop.is_set():
        table.search([1.0, 2.0]).limit(3).to_list()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(40):
    gc.collect()
stop.set()
for thread in threads:
    thread.join()
del table
"""


def test_a_call_in_flight_is_no_lost_task(compare: Callable[..., Any]) -> None:
    compare(IN_FLIGHT).check()


WORKER = """\
import threading
import lancedb
db = lancedb.connect("db")  # leak: not_closed lancedb.connection
table = db.create_table("t", [{"id": 1}])
def work():
    threading.main_thread().join()
    for n in range(20):
        table.add([{"id": n}])
    print("the thread wrote", table.count_rows(), flush=True)
threading.Thread(target=work).start()
print("end of the main thread", flush=True)
"""

POOL = """\
import sys
from concurrent.futures import ThreadPoolExecutor
import lancedb
table = lancedb.connect("db").create_table("t", [{"id": 1}])  # leak: not_closed lancedb.connection
pool = ThreadPoolExecutor(2)  # leak: not_shut_down thread_pool
jobs = [pool.submit(lambda n=n: (table.add([{"id": n}]), print("added", flush=True))) for n in range(6)]
sys.exit(4)
"""


def test_a_daemon_thread_that_uses_it_at_the_end(compare: Callable[..., Any]) -> None:
    # Bare, 0.40.0 ends by SIGSEGV or SIGABRT now and then, when the interpreter ends in the middle of its work, or not at all, when
    # its own exit handler does.
    for agent, report in compare(DAEMON).agents.values():
        assert (agent.returncode, agent.stdout) == (0, "end of the main thread\n"), agent
        assert [(one["reason"], one["kind"]) for one in report["findings"]] == [("not_closed", "lancedb.connection")]


@pytest.mark.parametrize(("text", "status"), [(WORKER, 0), (POOL, 4)], ids=["thread", "pool"])
def test_a_thread_that_uses_it_at_the_end(compare: Callable[..., Any], text: str, status: int) -> None:
    compare(text).check(status=status)


# What was measured of 0.40.0: a call on a loop that was stopped hangs for ever, unless the loop is closed.
RECIPE = """\
import lancedb
from lancedb.background_loop import LOOP
table = lancedb.connect("db").create_table("t", [{"id": 1}])
print(table.count_rows())
LOOP.loop.call_soon_threadsafe(LOOP.loop.stop)
LOOP.thread.join()
print(LOOP.thread.is_alive())
del table
"""


def test_a_program_that_stops_the_loop_itself(compare: Callable[..., Any]) -> None:
    compare(RECIPE).check()


EARLY = """\
import atexit
import threading
def bye():
    print("early", table.count_rows())
    said.set()
    thread.join()
atexit.register(bye)
said = threading.Event()
import lancedb
table = lancedb.connect("db").create_table("t", [{"id": 1}])  # leak: not_closed lancedb.connection
def work():
    said.wait()
    print("daemon", table.count_rows())
thread = threading.Thread(target=work, daemon=True)
thread.start()
"""


def test_an_exit_handler_that_is_older_than_lancedb(compare: Callable[..., Any]) -> None:
    # Bare, 0.40.0 ends by SIGABRT now and then.
    for agent, report in compare(EARLY).agents.values():
        assert (agent.returncode, agent.stdout) == (0, "early 1\ndaemon 1\n"), agent
        assert [(one["reason"], one["site"]["line"]) for one in report["findings"]] == [("not_closed", 10)], report["findings"]


# A forked child of 0.40.0 ends by SIGSEGV now and then (7 of 700), or waits for ever (1 of 520), without the agent: lancedb warns of it.
# One of three has to come to its end.
CHILDREN = """\
import multiprocessing
import sys
import lancedb
def child():
    db = lancedb.connect("db")
    assert db.open_table("t").count_rows() == 1
if __name__ == "__main__":
    db = lancedb.connect("db")  # leak: not_closed lancedb.connection
    table = db.create_table("t", [{"id": 1}])
    print(table.count_rows(), flush=True)
    for method in ("fork", "spawn", "forkserver"):
        # Only fork is tried again.
        for _ in range(3 if method == "fork" else 1):
            process = multiprocessing.get_context(method).Process(target=child)
            process.start()
            process.join(45 if method == "fork" else None)
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
        print(method, process.exitcode in ((0, -11) if method == "fork" else (0,)), flush=True)
    print(table.count_rows(), flush=True)
    sys.exit(6)
"""


def test_children_that_use_it_as_well(compare: Callable[..., Any]) -> None:
    ran = compare(CHILDREN)
    ran.check(status=6)
    assert "False" not in ran.bare.stdout, ran.bare


# A tracer that stands around the calls, as profilers and instrumentations do.
WRAPPED = """\
import functools
from lancedb.background_loop import LOOP, BackgroundEventLoop
def traced(original):
    @functools.wraps(original)
    def run(self, future):
        return original(self, future)
    return run
BackgroundEventLoop.run = traced(BackgroundEventLoop.run)
"""


@pytest.mark.parametrize(
    "text", [WRAPPED, "from lancedb.background_loop import LOOP\nLOOP.run = LOOP.run\n"], ids=["class", "object"]
)
def test_calls_that_somebody_else_has_wrapped(compare: Callable[..., Any], text: str) -> None:
    program = text + WORKER.replace("threading.Thread(target=work)", "threading.Thread(target=work, daemon=True)")
    program = program.replace("range(20)", "range(10**9)")
    ran = compare(program + "\nimport atexit\natexit.register(lambda: print(table.count_rows() > 0))\n")
    for agent, report in ran.agents.values():
        assert (agent.returncode, agent.stdout) == (0, "end of the main thread\nTrue\n"), agent
        assert [(one["reason"], one["kind"]) for one in report["findings"]] == [("not_closed", "lancedb.connection")]


# A connection to a server asks nothing before its first call.
OTHER_WAYS = """\
import lancedb
a = lancedb.connect_namespace("dir", {"root": "a"})  # leak: not_closed lancedb.connection
a.create_table("t", [{"id": 1}])
b = lancedb.connect("db://nobody", api_key="key", host_override="http://127.0.0.1:9")  # leak: not_closed lancedb.connection
c = lancedb.connect("db://nobody", api_key="key", host_override="http://127.0.0.1:9")
c._conn.close()
lancedb.connect("db://nobody", api_key="key", host_override="http://127.0.0.1:9")
"""


def test_namespaces_and_servers(compare: Callable[..., Any]) -> None:
    ran = compare(OTHER_WAYS)
    ran.check()
    for report in ran.reports:
        assert {one["action"] for one in report["findings"]} == {"closed"}


# A suite of the usual kind: a check for leaked threads around every test.
SUITE = """\
import threading
import pytest
from lancedb.background_loop import LOOP
from leakagent.testing import restart_lancedb_loop, stop_lancedb_loop

pytest_plugins = ["leakagent.pytest_lancedb"]

def names():
    return [thread.name for thread in threading.enumerate()]

@pytest.fixture(scope="session")
def table(tmp_path_factory):
    import lancedb
    return lancedb.connect(tmp_path_factory.mktemp("db")).create_table("t", [{"id": 1}])

@pytest.mark.parametrize("turn", range(2))
def test_a_call_starts_it_again(table, no_lancedb_loop, turn):
    assert table.count_rows() == 1
    assert "LanceDBBackgroundEventLoop" in names()

def test_nothing_is_left():
    assert "LanceDBBackgroundEventLoop" not in names()
    assert stop_lancedb_loop()

def test_by_hand(table):
    assert restart_lancedb_loop()
    assert not restart_lancedb_loop()
    works = [threading.Thread(target=lambda: [table.count_rows() for _ in range(20)]) for _ in range(4)]
    for one in works:
        one.start()
    while any(one.is_alive() for one in works):
        assert stop_lancedb_loop()
    assert table.count_rows() == 1
    assert "run" not in vars(LOOP)

def test_the_last_word(lancedb_loop, table):
    # What stops the loop without closing it, and leaves it to the next call to wait for ever.
    LOOP.loop.call_soon_threadsafe(LOOP.loop.stop)
    LOOP.thread.join()
    assert restart_lancedb_loop()
    assert table.count_rows() == 1

def pytest_sessionfinish():
    print("left:", names())
"""


@pytest.mark.parametrize("agent", [False, True], ids=["without the agent", "with the agent"])
def test_the_loop_in_a_test_suite(run: Callable[..., Any], program: Callable[..., Path], tmp_path: Path, *, agent: bool) -> None:
    suite = program(SUITE, "test_suite.py")
    program("from test_suite import pytest_sessionfinish\n", "conftest.py")
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-W", "ignore", suite]
    ran = run(command, cwd=tmp_path, env={"LEAKAGENT": "1" if agent else "0", "LEAKAGENT_REPORT": "off"})
    assert ran.returncode == 0, ran
    assert "left: ['MainThread']" in ran.stdout, ran
    assert "5 passed" in ran.stdout, ran
