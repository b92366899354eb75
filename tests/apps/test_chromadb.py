"""chromadb clients: exactly those that were never closed are told, and the program stays what it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

FILL = """\
def fill(client):
    collection = client.get_or_create_collection("things", embedding_function=None)
    collection.upsert(ids=["1", "2"], embeddings=[[1.0, 2.0], [3.0, 4.0]])
    return collection.count()
"""

KINDS = f"""\
import atexit
import chromadb
from chromadb import PersistentClient
{FILL}
a = chromadb.PersistentClient("a")  # leak: not_closed chromadb.client
b = chromadb.EphemeralClient()  # leak: not_closed chromadb.client
c = chromadb.Client()  # leak: not_closed chromadb.client
print(fill(a), fill(b), fill(c))
with chromadb.PersistentClient("d") as d:
    print(fill(d))
e = PersistentClient("e")
print(fill(e))
e.close()
def dropped():
    f = PersistentClient("f")  # leak: not_closed chromadb.client
    print(fill(f))
dropped()
for n in range(3):
    chromadb.PersistentClient("g")  # leak: not_closed chromadb.client
admin = chromadb.AdminClient(chromadb.Settings(is_persistent=True, persist_directory="e"))  # leak: not_closed chromadb.client
class Mine(type(a)):
    def __init__(self, path):
        super().__init__(settings=chromadb.Settings(is_persistent=True, persist_directory=path))
mine = Mine("mine")  # leak: not_closed chromadb.client
with Mine("other"):
    pass
print(fill(mine), type(mine).__name__)
@atexit.register
def bye():
    print("bye", a.get_collection("things", embedding_function=None).count(), b.heartbeat() > 0)
"""


def test_every_way_of_making_and_closing_one(compare: Callable[..., Any]) -> None:
    ran = compare(KINDS)
    ran.check()
    for report in ran.reports:
        by_line = {one["site"]["line"]: one for one in report["findings"]}
        lines = KINDS.splitlines()
        dropped = by_line[1 + lines.index('    f = PersistentClient("f")  # leak: not_closed chromadb.client')]
        kept = by_line[1 + lines.index('a = chromadb.PersistentClient("a")  # leak: not_closed chromadb.client')]
        assert "dropped without close()" in dropped["evidence"]
        assert "dropped without close()" not in kept["evidence"]
        assert {dropped["site"]["function"], kept["site"]["function"]} == {"dropped", "<module>"}
        assert {one["action"] for one in report["findings"]} == {"closed"}
        assert sorted(one["count"] for one in report["findings"]) == [1, 1, 1, 1, 1, 1, 3]


# Who shares a System has to close it as well: each unclosed client is told, and the System is stopped once, when nobody uses it.
SHARED = f"""\
import sys
import chromadb
from chromadb.config import System
{FILL}
stop = System.stop
def counted(system):
    print("stopped", system.settings.persist_directory, file=sys.stderr, flush=True)
    stop(system)
System.stop = counted
a = chromadb.PersistentClient("shared")
b = chromadb.PersistentClient("shared")  # leak: not_closed chromadb.client
c = chromadb.PersistentClient("shared")  # leak: not_closed chromadb.client
print(fill(a), a._system is b._system is c._system)
a.close()
a.close()
print(fill(b))
d = chromadb.PersistentClient("both")
e = chromadb.PersistentClient("both")
d.close()
e.close()
"""


def test_clients_that_share_a_system(compare: Callable[..., Any]) -> None:
    ran = compare(SHARED)
    ran.check()
    assert ran.bare.stderr.count("stopped both") == 1
    assert "stopped shared" not in ran.bare.stderr
    for agent, _ in ran.agents.values():
        assert agent.stderr.count("stopped shared") == 1, agent
        assert agent.stderr.count("stopped both") == 1, agent


# A constructor that fails hands out nothing that could be closed.
FAILING = """\
import asyncio
import chromadb
kept = chromadb.PersistentClient("kept")
def failing(make):
    try:
        return make()
    except Exception as error:
        print(type(error).__name__)
failing(lambda: chromadb.PersistentClient("kept", tenant="none"))
failing(lambda: chromadb.PersistentClient("kept", database="none"))
failing(lambda: chromadb.PersistentClient("kept", settings=chromadb.Settings(allow_reset=True)))
failing(lambda: chromadb.PersistentClient("other", tenant="none"))
failing(lambda: chromadb.HttpClient(host="127.0.0.1", port=1))
failing(lambda: asyncio.run(chromadb.AsyncHttpClient(host="127.0.0.1", port=1)))
print(kept.count_collections())
kept.close()
failing(kept.count_collections)
failing(lambda: 1 / 0)
raise SystemExit(3)
"""


def test_constructors_that_fail(compare: Callable[..., Any]) -> None:
    ran = compare(FAILING)
    ran.check(status=3)
    assert len(ran.bare.stdout.split()) == 9, ran.bare


# A collection keeps its System in use without any client; `clear_system_cache` stops nothing, it only forgets: what nobody uses then
# goes with the garbage collector, as without the agent.
HANDLES = f"""\
import gc
import chromadb
from chromadb.api.shared_system_client import SharedSystemClient
{FILL}
def collection():
    client = chromadb.PersistentClient("a")  # leak: not_closed chromadb.client
    fill(client)
    return client.get_collection("things", embedding_function=None)
things = collection()
gc.collect()
print(things.count())
class Mine(type(chromadb.EphemeralClient())):
    pass
forgotten = chromadb.PersistentClient("b")  # leak: not_closed chromadb.client
SharedSystemClient.clear_system_cache()
print(fill(chromadb.PersistentClient("a")))  # leak: not_closed chromadb.client
print(things.count(), type(forgotten).__name__, issubclass(Mine, type(forgotten)))
"""


def test_handles_that_outlive_their_client(compare: Callable[..., Any]) -> None:
    compare(HANDLES).check()


PLACES = """\
import multiprocessing
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
import stores
import chromadb
def work(kept):
    kept.append(chromadb.PersistentClient("thread"))  # leak: not_closed chromadb.client
def child(path):
    client = chromadb.PersistentClient(path)
    print("child", client.count_collections(), flush=True)
    client.close()
if __name__ == "__main__":
    kept = []
    thread = threading.Thread(target=work, args=(kept,))
    thread.start()
    thread.join()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(lambda: chromadb.PersistentClient("pool").close()).result()
    for method in ("fork", "spawn"):
        process = multiprocessing.get_context(method).Process(target=print, args=(method,), kwargs={"flush": True})
        process.start()
        process.join()
        print(process.exitcode, flush=True)
    process = multiprocessing.get_context("spawn").Process(target=child, args=("child",))
    process.start()
    process.join()
    sys.exit(stores.client.count_collections() + 5)
"""

STORES = """\
import chromadb
client = chromadb.PersistentClient(f"store of {__name__}")
"""


def test_made_at_an_import_in_a_thread_and_with_children(compare: Callable[..., Any]) -> None:
    ran = compare(PLACES, modules={"stores": STORES})
    assert ran.bare.returncode == 5, ran.bare
    for agent, report in ran.agents.values():
        assert (agent.returncode, agent.stdout) == (5, ran.bare.stdout), (agent, ran.bare)
        found = sorted((one["reason"], one["kind"], one["site"]["file"], one["site"]["line"]) for one in report["findings"])
        # The spawned children import the program, and with it the module, again.
        assert found == [("not_closed", "chromadb.client", "app.py", 8), ("not_closed", "chromadb.client", "stores.py", 2)]


def test_the_data_is_there_in_the_next_run(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    path = program(
        "import chromadb\n"
        'things = chromadb.PersistentClient("db").get_or_create_collection("things", embedding_function=None)\n'
        "before = things.count()\n"
        "things.upsert(ids=[str(n) for n in range(before, before + 500)], embeddings=[[1.0, float(n)] for n in range(500)])\n"
        "print(before, things.query(query_embeddings=[[1.0, 3.0]], n_results=1)['ids'][0][0] if before else '')\n"
    )
    printed = []
    for front in ((), ("-m", "leakagent"), ("-m", "leakagent"), ()):
        ran = python(*front, path)
        assert ran.returncode == 0, ran
        printed.append(ran.stdout.split()[0])
    assert printed == ["0", "500", "1000", "1500"]
    assert not list((tmp_path / "db").glob("*-journal"))


# The daemon thread is in the middle of its work when the client is closed: Python would stop it without a word.
DAEMON = """\
import sys
import threading
import chromadb
client = chromadb.PersistentClient("db")  # leak: not_closed chromadb.client
things = client.get_or_create_collection("things", embedding_function=None)
works = threading.Event()
def work():
    try:
        while True:
            things.upsert(ids=["1"], embeddings=[[1.0, 2.0]])
            works.set()
    except BaseException as error:
        print("the daemon saw", type(error).__name__, error, flush=True)
threading.Thread(target=work, daemon=True).start()
works.wait()
print("end of the main thread", flush=True)
"""

WORKER = """\
import threading
import chromadb
client = chromadb.PersistentClient("db")  # leak: not_closed chromadb.client
things = client.get_or_create_collection("things", embedding_function=None)
def work():
    threading.main_thread().join()
    for n in range(20):
        things.upsert(ids=[str(n)], embeddings=[[1.0, 2.0]])
    print("the thread wrote", things.count(), flush=True)
threading.Thread(target=work).start()
print("end of the main thread", flush=True)
"""


@pytest.mark.parametrize("text", [DAEMON, WORKER], ids=["daemon", "thread"])
def test_a_thread_that_uses_it_at_the_end(compare: Callable[..., Any], text: str) -> None:
    compare(text).check()


INSTALL = """\
import sys
if "before" in sys.argv:
    from chromadb import PersistentClient
    from chromadb.api.client import Client
    from chromadb.api.shared_system_client import SharedSystemClient
    names = [(owner, name) for owner in (Client, SharedSystemClient) for name in vars(owner)]
    originals = [vars(owner)[name] for owner, name in names]
import leakagent
leakagent.install(report="json:report.json")
import chromadb
from chromadb import PersistentClient
first = PersistentClient("first")  # first
print([(one["site"]["line"], one["reason"], one["kind"]) for one in leakagent.snapshot()["findings"]])
if "before" in sys.argv:
    print(sum(vars(owner)[name] is not original for (owner, name), original in zip(names, originals)) > 1)
leakagent.uninstall()
if "before" in sys.argv:
    print(all(vars(owner)[name] is original for (owner, name), original in zip(names, originals)))
PersistentClient("not seen")
leakagent.install(report="json:report.json")
second = PersistentClient("second")  # leak: not_closed chromadb.client
"""


@pytest.mark.parametrize("order", ["before", "after"])
def test_install_before_and_after_the_import(
    python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path, order: str
) -> None:
    ran = python(program(INSTALL), order)
    assert ran.returncode == 0, ran
    line = 1 + next(number for number, text in enumerate(INSTALL.splitlines()) if text.endswith("# first"))
    expected = [f"[({line}, 'not_closed', 'chromadb.client')]", *(["True", "True"] if order == "before" else [])]
    assert ran.stdout.splitlines() == expected, ran
    report = (tmp_path / "report.json").read_text(encoding="utf-8")
    second = 1 + next(number for number, text in enumerate(INSTALL.splitlines()) if text.startswith("second"))
    assert f'"line": {second},' in report, report
    assert report.count('"fingerprint"') == 1, report


HTTP = """\
import asyncio
import sys
import chromadb
port = int(sys.argv[1])
a = chromadb.HttpClient(host="127.0.0.1", port=port)  # leak: not_closed chromadb.client
print(a.heartbeat() > 0)
b = chromadb.HttpClient(host="127.0.0.1", port=port)
b.close()
with chromadb.HttpClient(host="127.0.0.1", port=port) as c:
    print(c.get_or_create_collection("things", embedding_function=None).name)
try:
    chromadb.HttpClient(host="127.0.0.1", port=port, database="none")
except Exception as error:
    print(type(error).__name__)
async def main():
    d = await chromadb.AsyncHttpClient(host="127.0.0.1", port=port)  # leak: not_closed chromadb.client
    collection = await d.get_or_create_collection("things", embedding_function=None)
    await collection.upsert(ids=["1"], embeddings=[[1.0, 2.0]])
    print(await collection.count())
    try:
        await chromadb.AsyncHttpClient(host="127.0.0.1", port=port, database="none")
    except Exception as error:
        print(type(error).__name__)
    return d
d = asyncio.run(main())
"""


def test_clients_of_a_server(compare: Callable[..., Any], serve: Callable[..., Any], port: int) -> None:
    command = [os.fspath(Path(sys.executable).with_name("chroma")), "run", "--path", "db", "--host", "127.0.0.1"]
    server = serve([*command, "--port", str(port)], f"http://127.0.0.1:{port}/api/v2/heartbeat")
    ran = compare(HTTP, str(port))
    ran.check()
    for report in ran.reports:
        by_function = {one["site"]["function"]: one for one in report["findings"]}
        assert by_function["<module>"]["action"] == "closed"
        assert by_function["main"]["action"] == "none"
        assert "no close()" in by_function["main"]["fix"]
        assert not any("raised" in line for one in report["findings"] for line in one["evidence"])
    assert server.end_by(signal.SIGINT) == 0


# No version of chromadb gives back the System and the socket of a client of a server that is closed.
CLOSED_BY_HAND = """\
import sys
import chromadb
import leakagent
from chromadb.api.shared_system_client import SharedSystemClient
from leakagent.instrumentation.chroma_looks import MANY
for n in range(MANY):
    client = chromadb.HttpClient(host="127.0.0.1", port=int(sys.argv[1]))  # closed
    client.close()
del client
found = leakagent.snapshot()["findings"]
print([(one["reason"], one["site"]["line"]) for one in found], *found[0]["evidence"])
print(len(SharedSystemClient._identifier_to_system))
leakagent.shutdown()
print(len(SharedSystemClient._identifier_to_system))
"""


def test_what_close_itself_leaves_of_a_client_of_a_server(
    python: Callable[..., Any], program: Callable[..., Path], serve: Callable[..., Any], port: int
) -> None:
    command = [os.fspath(Path(sys.executable).with_name("chroma")), "run", "--path", "db", "--host", "127.0.0.1"]
    serve([*command, "--port", str(port)], f"http://127.0.0.1:{port}/api/v2/heartbeat")
    ran = python("-m", "leakagent", "--report", "off", program(CLOSED_BY_HAND), str(port))
    line = next(number for number, text in enumerate(CLOSED_BY_HAND.splitlines(), 1) if text.endswith("# closed"))
    text = "close() was called: chromadb itself has kept a System and a socket of each of 10 clients"
    assert ran.stdout.splitlines() == [f"[('growing', {line})] {text}", "10", "0"], ran


# Rust's panics are no `Exception`.
PANICS = f"""\
import chromadb
from chromadb.config import System
{FILL}
class PanicException(BaseException):
    pass
stop = System.stop
def stop_or_panic(system):
    if system.settings.persist_directory == "panics":
        raise PanicException("range end index 8 out of range")
    print("stopped", system.settings.persist_directory, flush=True)
    stop(system)
System.stop = stop_or_panic
first = chromadb.PersistentClient("first")
panics = chromadb.PersistentClient("panics")
last = chromadb.PersistentClient("last")
print(fill(first), fill(panics), fill(last), flush=True)
raise SystemExit(3)
"""


def test_one_that_panics_costs_neither_the_others_nor_the_status(
    python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    ran = python("-m", "leakagent", "--report", f"json:{report}", program(PANICS), env={"ANONYMIZED_TELEMETRY": "False"})
    assert (ran.returncode, ran.stdout.splitlines()) == (3, ["2 2 2", "stopped last", "stopped first"]), ran
    assert "Traceback" not in ran.stderr, ran
    found = json.loads(report.read_text(encoding="utf-8"))["findings"]
    by_name = {one["names"][0].rpartition("/")[2]: (one["action"], one["evidence"]) for one in found}
    assert by_name == {"first": ("closed", []), "last": ("closed", []), "panics": ("none", ["closing it raised PanicException"])}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_server_under_the_agent(serve: Callable[..., Any], port: int, signum: int) -> None:
    command = [os.fspath(Path(sys.executable).with_name("chroma")), "run", "--path", "db", "--host", "127.0.0.1"]
    statuses = set()
    for agent in (False, True):
        server = serve([*command, "--port", str(port)], f"http://127.0.0.1:{port}/api/v2/heartbeat", agent=agent)
        statuses.add(server.end_by(signum))
    assert statuses == {0}
    assert server.report["findings"] == []


# -- told while the program runs ---------------------------------------------------------------------------------------

# Each waits until it has been told, or for what must not be told.
LIVE = """\
import os, sys, threading, time
import chromadb
from leakagent.instrumentation.chroma_looks import MANY
from leakagent.watcher import watcher
def fill(client):
    things = client.get_or_create_collection("things", embedding_function=None)
    things.upsert(ids=["1"], embeddings=[[1.0, 2.0]])
    return things
def looks(number):
    "Wait until the agent has looked that often."
    seen = []
    watcher.look_every(0.2, lambda: seen.append(1))
    end = time.monotonic() + 60
    while len(seen) < 8 * number and time.monotonic() < end:
        time.sleep(0.01)
def dropped():
    for n in range(3):
        fill(chromadb.PersistentClient(f"dropped {n}"))  # dropped
def collection_goes_on():
    return fill(chromadb.PersistentClient("collection"))
def server_goes_on():
    return fill(chromadb.PersistentClient("server"))._client
def spelled():
    os.symlink("spelled", "link")
    return [chromadb.PersistentClient("spelled"), chromadb.PersistentClient(os.path.abspath("link"))]  # spelled
def reruns():
    for n in range(MANY + 1):
        client = chromadb.PersistentClient("reruns")  # reruns
    return client
def raced():
    both, usual = threading.Barrier(2), chromadb.config.System.__init__
    def init(self, settings):
        both.wait(60)  # neither is done before the other one has begun
        usual(self, settings)
    def work():
        try:
            made.append(chromadb.PersistentClient("raced"))  # raced
        except BaseException:
            pass
    made = []
    threads = [threading.Thread(target=work) for n in range(2)]
    chromadb.config.System.__init__ = init
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chromadb.config.System.__init__ = usual
    return made
kept = [globals()[name]() for name in sys.argv[1:]]
looks(3)
print("end", flush=True)
"""


TOLD = {
    "dropped": ("not closed", "its System runs on, and nobody uses it any more"),
    "spelled": ("keeps growing", "the directory is open 2 times, as 'spelled', '"),
    "reruns": ("keeps growing", "the System that they share counts 22 users, and no close() can stop it any more"),
    "raced": ("keeps growing", "threads were opening this directory at the same moment"),
}

#: In use through a collection, and through the server object that a collection hands on.
NOT_TOLD = ("collection_goes_on", "server_goes_on")


def test_what_is_told_while_the_program_runs(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    ran = python("-m", "leakagent", program(LIVE), *TOLD, *NOT_TOLD, env={"ANONYMIZED_TELEMETRY": "False"})
    assert (ran.returncode, ran.stdout) == (0, "end\n"), ran
    live, _, report = ran.stderr.partition(" resources were still open")
    blocks = live.split("leakagent: chroma client ")[1:]
    for what, (reason, text) in TOLD.items():
        line = next(number for number, line in enumerate(LIVE.splitlines(), 1) if line.endswith(f"# {what}"))
        found = [block for block in blocks if block.startswith(f"{reason}\n   yours    app.py:{line} ")]
        assert len(found) == 1, (what, ran)
        assert text in found[0], (what, ran)
    assert len(blocks) == len(TOLD), ran
    # That of the reruns is in use as well, by its last client.
    assert " ".join(report.split()).count("still in use, by a collection") == len(NOT_TOLD) + 1, ran


MIDDLE = f"""\
import chromadb
import leakagent
{FILL}
def collection():
    client = chromadb.PersistentClient("in use")
    fill(client)
    return client.get_collection("things", embedding_function=None)
things = collection()
for n in range(3):
    fill(chromadb.PersistentClient("dropped"))
closed = leakagent.shutdown()["findings"]
print(sorted((one["site"]["line"], one["count"], one["action"]) for one in closed if one["reason"] == "not_closed"))
print(things.count())
"""


def test_a_collection_in_use_keeps_its_system_in_the_middle_of_a_program(
    python: Callable[..., Any], program: Callable[..., Path]
) -> None:
    ran = python("-m", "leakagent", program(MIDDLE))
    line = 1 + MIDDLE.splitlines().index('    client = chromadb.PersistentClient("in use")')
    dropped = 1 + MIDDLE.splitlines().index('    fill(chromadb.PersistentClient("dropped"))')
    assert ran.stdout.splitlines() == [str([(line, 1, "none"), (dropped, 3, "closed")]), "2"], ran


# -- fork --------------------------------------------------------------------------------------------------------------

# Bare, chromadb 1.x hangs in each of these children, also in the one that touches nothing, since the end of the interpreter frees
# its bindings.
FORKS = f"""\
import multiprocessing, os, sys
import chromadb
{FILL}
client = chromadb.PersistentClient("db")  # leak: not_closed chromadb.client
fill(client)
things = client.get_collection("things", embedding_function=None)
def nothing():
    pass
def other():
    with chromadb.PersistentClient("of the child") as own:
        print("other", own.count_collections(), flush=True)
def dropped():
    global client, things
    client = things = None
for use in (nothing, other, dropped):
    pid = os.fork()
    if not pid:
        use()
        sys.exit(7)
    print(use.__name__, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
print(fill(client))
"""


def test_forked_children_that_leave_it_alone_come_to_their_end(
    python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    ran = python("-m", "leakagent", "--report", f"json:{report}", program(FORKS))
    assert (ran.returncode, ran.stdout.splitlines()) == (0, ["nothing 7", "other 0", "other 7", "dropped 7", "2"]), ran
    found = json.loads(report.read_text(encoding="utf-8"))["findings"]
    assert [(one["reason"], one["kind"]) for one in found] == [("not_closed", "chromadb.client")], found


HANGS = f"""\
import multiprocessing
import chromadb
{FILL}
client = chromadb.PersistentClient("db")  # made
fill(client)
def child():
    things = client.get_collection("things", embedding_function=None)  # used
process = multiprocessing.get_context("fork").Process(target=child, daemon=True)
process.start()
input()
process.kill()
process.join()
print(process.exitcode, fill(client))
"""


def test_a_forked_child_that_uses_it_is_told_before_it_hangs(
    environment: Callable[..., dict[str, str]], program: Callable[..., Path], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "leakagent", "--report", f"text,json:{report}", os.fspath(program(HANGS))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        late = threading.Timer(120, process.kill)
        late.start()
        try:
            lines = []
            while not lines or ("   fix  " not in lines[-1] and lines[-1]):
                lines.append(process.stderr.readline())
            stdout, stderr = process.communicate("\n")
        finally:
            late.cancel()
            process.kill()
    made, used = (
        1 + next(n for n, line in enumerate(HANGS.splitlines()) if line.endswith(f"# {word}")) for word in ("made", "used")
    )
    told = "".join(lines)
    assert f"leakagent: chroma client kept the process from ending\n   yours    app.py:{made} <module>" in told, told
    assert f"used in app.py:{used} child, in a child that was forked after it was made" in told, told
    assert stdout.splitlines() == ["-9 2"], stderr
    found = json.loads(report.read_text(encoding="utf-8"))["findings"]
    assert sorted((one["reason"], one["site"]["line"]) for one in found) == [("blocks_exit", made), ("not_closed", made)], found
