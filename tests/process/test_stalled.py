"""What makes no progress is told while the program still runs, with where it waits; what waits on purpose is not."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable


class Watched:
    """A program that runs, and what it has been told so far."""

    def __init__(self, process: subprocess.Popen[str], report: Path, text: str) -> None:
        self.process = process
        self.text = text
        self._report = report
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self._lines.extend(iter(self.process.stderr.readline, ""))

    @property
    def stderr(self) -> str:
        return "".join(self._lines)

    def told(self, what: str) -> int:
        """Return how often something is told as having made no progress, or as never going to."""
        return self.stderr.count(f"leakagent: {what}")

    def line(self, marker: str) -> int:
        return next(number for number, line in enumerate(self.text.splitlines(), 1) if line.endswith(f"# {marker}"))

    def end(self, signum: int = signal.SIGTERM) -> list[dict[str, Any]]:
        """End the program by a signal, and return the findings of its report."""
        self.process.send_signal(signum)
        assert self.process.wait(timeout=120) == -signum, self.stderr
        self._reader.join(60)
        report = json.loads(self._report.read_text(encoding="utf-8"))
        assert report["agent"]["disabled"] == [], report
        return list(report["findings"])


#: A server that accepts no connection: the kernel does, and takes what is sent.
SILENT_PEER = """\
import asyncio, socket
listener = socket.create_server(("127.0.0.1", 0))
address = listener.getsockname()
"""


@pytest.fixture
def watched(spawn: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> Callable[..., Watched]:
    """Start a program's text under the agent with a short threshold."""

    def start(text: str, *options: str, name: str = "app.py") -> Watched:
        report = tmp_path / "report.json"
        arguments = ["-m", "leakagent", "--stalled-after", "0.5", "--report", f"text,json:{report}", *options]
        return Watched(spawn(*arguments, program(text, name)), report, text)

    return start


KEPT_WAITING = """\
import asyncio

kept = []

class Backend:
    async def read(self):
        self.answer = asyncio.get_running_loop().create_future()
        backends.append(self)
        await self.answer  # read

backends = []

async def write_history():
    await Backend().read()  # history

async def stream():
    task = asyncio.create_task(write_history())  # made
    kept.append(task)
    try:
        yield 1
        await asyncio.sleep(100)
    finally:
        await task

async def consume():
    async for _ in stream():
        pass

async def main():
    await asyncio.wait_for(consume(), 0.1)

asyncio.run(main())
"""


def test_a_task_that_keeps_a_cancelled_one_waiting(watched: Callable[..., Watched], until: Callable[..., None]) -> None:
    """`wait_for` never returns, because the clean-up of what it waits for does not: LlamaIndex with a backend that stalls."""
    run = watched(KEPT_WAITING)
    until(lambda: "  fix  " in run.stderr, "the stall is told while the program hangs")
    assert run.told("asyncio task stalled: no progress") == 1
    assert f"yours    app.py:{run.line('made')} stream" in run.stderr
    assert (
        f"waiting in app.py:{run.line('history')} write_history > app.py:{run.line('read')} read > _asyncio.Future" in run.stderr
    )
    (found,) = run.end()
    assert (found["reason"], found["kind"], found["action"]) == ("stalled", "asyncio.task", "cancelled")
    assert found["site"]["line"] == run.line("made")
    assert any("write_history" in text and "read" in text for text in found["evidence"]), found
    assert any("was cancelled, and can't end" in text for text in found["evidence"]), found


def test_it_is_told_once_and_for_each_place(watched: Callable[..., Watched], until: Callable[..., None]) -> None:
    text = KEPT_WAITING.replace(
        "asyncio.wait_for(consume(), 0.1)", "asyncio.gather(*(asyncio.wait_for(consume(), 0.1) for _ in range(3)), second())"
    ).replace(
        "async def main",
        """\
async def second():
    try:
        await asyncio.wait_for(asyncio.sleep(100), 0.1)
    except asyncio.TimeoutError:
        await asyncio.wait_for(third(), 0.5)

async def third():
    try:
        await asyncio.sleep(100)
    finally:
        await asyncio.create_task(Backend().read())  # second

async def main""",
    )
    run = watched(text)
    until(lambda: run.told("asyncio task stalled: no progress") == 2, "both places are told")
    assert f"app.py:{run.line('second')} third" in run.stderr
    found = run.end()
    counts = {one["site"]["line"]: one["count"] for one in found if one["reason"] == "stalled"}
    assert counts == {run.line("made"): 3, run.line("second"): 1}, found
    assert run.told("asyncio task stalled: no progress") == 2


@pytest.mark.parametrize("main", ["await ask()", "await asyncio.gather(ask())  # made"], ids=["main", "task"])
def test_a_peer_that_does_not_answer(watched: Callable[..., Watched], until: Callable[..., None], main: str) -> None:
    text = f"""\
{SILENT_PEER}
async def ask():
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"question")
    await reader.read(1)  # read

async def main():
    {main}

asyncio.run(main())
"""
    run = watched(text)
    until(lambda: "  fix  " in run.stderr, "the stall is told while the program hangs")
    assert f"app.py:{run.line('read')} ask > asyncio/streams.py:" in run.stderr
    assert "the other end of its connection has not answered for" in run.stderr
    assert [one["reason"] for one in run.end()] == ["stalled"]


def test_a_worker_whose_peer_does_not_answer(watched: Callable[..., Watched], until: Callable[..., None]) -> None:
    text = f"""\
{SILENT_PEER}
from concurrent.futures import ThreadPoolExecutor

def ask():
    with socket.create_connection(address) as connection:
        connection.sendall(b"question")
        connection.recv(1)  # read

with ThreadPoolExecutor(1) as pool:  # made
    pool.submit(ask).result()
"""
    run = watched(text)
    until(lambda: "  fix  " in run.stderr, "the stall is told while the program hangs")
    assert run.told("thread pool stalled: no progress") == 1
    assert f"yours    app.py:{run.line('made')} <module>" in run.stderr
    assert f"waiting in app.py:{run.line('read')} ask" in run.stderr
    assert "stalled" in {one["reason"] for one in run.end()}


STRANDED = """\
import asyncio

class Request:
    async def answered(self):
        self.answer = asyncio.get_running_loop().create_future()
        await self.answer  # waits

kept = []

async def ask():
    await Request().answered()

async def main():
    kept.append(asyncio.create_task(ask()))  # made
    await asyncio.sleep(LONG)

asyncio.run(main())
"""


def test_a_task_whose_future_nobody_can_complete(watched: Callable[..., Watched], until: Callable[..., None]) -> None:
    run = watched(STRANDED.replace("LONG", "1000"))
    until(lambda: "  fix  " in run.stderr, "it is told while the program runs")
    assert run.told("asyncio task stranded: nobody can complete what it waits for") == 1
    assert f"yours    app.py:{run.line('made')} main" in run.stderr
    assert f"app.py:{run.line('waits')} answered > _asyncio.Future" in run.stderr
    (found,) = run.end()
    assert (found["reason"], found["kind"], found["action"]) == ("stranded", "asyncio.task", "cancelled")


def test_a_stranded_task_is_told_at_the_end_of_its_loop(told: Callable[..., Any]) -> None:
    after = told(STRANDED.replace("LONG", "0"))
    found = after.only("stranded")
    assert (found["site"]["line"], found["action"]) == (after.line("made"), "cancelled")
    assert len(after.findings) == 1
    assert "complete or cancel the future" in found["fix"]


@pytest.mark.parametrize(
    "way_out",
    [
        "asyncio.get_running_loop().call_later(1000, self.answer.set_result, None)",
        "requests.append(self)",
        "requests.append(self.answer)",
        "requests.append(weakref.ref(self.answer))",
        "requests.append(self.answer.set_result)",
        "threading.Thread(target=hold, args=(self.answer,), daemon=True).start()",
    ],
)
def test_a_task_whose_future_somebody_can_complete_is_not_stranded(told: Callable[..., Any], way_out: str) -> None:
    text = STRANDED.replace("LONG", "0.1").replace("import asyncio", "import asyncio, threading, weakref\nrequests = []", 1)
    text = text.replace("kept = []", "kept = []\n\ndef hold(_):\n    threading.Event().wait()")
    after = told(text.replace("        await self.answer  # waits", f"        {way_out}\n        await self.answer"))
    assert [one["reason"] for one in after.findings] == ["outlived_scope"], after


BLOCKED = """\
import asyncio, time

async def tick():
    while True:
        await asyncio.sleep(0.01)

def wait():
    time.sleep(1000)  # blocks

async def main():
    task = asyncio.create_task(tick())
    await asyncio.sleep(0.1)
    wait()

asyncio.run(main())
"""


def test_a_blocked_loop(watched: Callable[..., Watched], until: Callable[..., None]) -> None:
    run = watched(BLOCKED)
    until(lambda: "  fix  " in run.stderr, "it is told while the loop is blocked")
    assert run.told("event loop stalled: no progress") == 1
    assert f"yours    app.py:{run.line('blocks')} wait" in run.stderr
    found = [one for one in run.end() if one["kind"] == "event_loop"]
    assert [(one["reason"], one["site"]["line"], one["action"]) for one in found] == [("stalled", run.line("blocks"), "none")]
    assert "an event loop was blocked 1 time when app.py ended" in run.stderr.replace("\n  ", " ")


@pytest.mark.parametrize(
    "change",
    [
        # Nobody waits for the loop: a script that computes.
        ("task = asyncio.create_task(tick())\n    await asyncio.sleep(0.1)", "pass"),
        # Busy, and not blocked.
        ("    wait()", "    while True:\n        time.sleep(0.01)\n        await asyncio.sleep(0)"),
        # In a thread of its own.
        ("    wait()", "    await asyncio.get_running_loop().run_in_executor(None, wait)"),
    ],
    ids=["alone", "busy", "in a thread"],
)
def test_a_loop_that_is_not_blocked(watched: Callable[..., Watched], until: Callable[..., None], change: tuple[str, str]) -> None:
    # The other one is told in the same looks, so this one was looked at as well.
    text = BLOCKED.replace(*change).replace("import asyncio, time", f"import asyncio, time, threading\n{SECOND_LOOP}")
    run = watched(text)
    until(lambda: "  fix  " in run.stderr, "the other loop is told")
    assert f"app.py:{run.line('other')} other" in run.stderr
    assert run.told("") == 1, run.stderr


SECOND_LOOP = """
async def other():
    asyncio.get_running_loop().call_later(0.01, print)
    time.sleep(1000)  # other

threading.Timer(0.5, lambda: asyncio.run(other())).start()
"""

LEGITIMATE = """\
import asyncio, concurrent.futures, queue, signal, socket, sys, threading, time, weakref

kept, tasks = [], []

class Calls:
    def __init__(self):
        self.answers = {}

    async def call(self):
        self.answers[len(self.answers)] = answer = asyncio.get_running_loop().create_future()
        return await answer

def start(name, coroutine):
    tasks.append(asyncio.get_running_loop().create_task(coroutine, name=name))

async def main():
    loop = asyncio.get_running_loop()
    stop, jobs, lock, free, condition = asyncio.Event(), asyncio.Queue(), asyncio.Lock(), asyncio.Semaphore(0), asyncio.Condition()
    full = asyncio.Queue(1)
    full.put_nowait(1)
    calls = Calls()
    kept.extend([jobs, lock, free, condition, full, calls])
    loop.add_signal_handler(signal.SIGUSR1, stop.set)
    await lock.acquire()
    start("shutdown event", stop.wait())
    start("worker", jobs.get())
    start("lock", lock.acquire())
    start("semaphore", free.acquire())
    start("full queue", full.put(1))
    start("queue's join", full.join())
    start("sleep", asyncio.sleep(1000))
    start("deadline", asyncio.wait_for(jobs.get(), 1000))
    start("remote call", calls.call())

    async def notified():
        async with condition:
            await condition.wait()

    async def limited():
        await asyncio.wait_for(loop.create_future(), 1000)

    async def limited_outside():
        await asyncio.wait_for(asyncio.gather(loop.create_task(calls.call())), 1000)

    async def known_weakly():
        answer = loop.create_future()
        answers.add(answer)
        await answer

    answers = weakref.WeakSet()
    start("condition", notified())
    start("future with a deadline", limited())
    start("future with a deadline of who waits for it", limited_outside())
    start("future that is known weakly", known_weakly())

    async def for_ever():
        await asyncio.Future()

    async def until_cancelled():
        await asyncio.Event().wait()

    start("for ever", for_ever())
    start("until it is cancelled", until_cancelled())

    async def echo(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
            await writer.drain()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    start("server", server.serve_forever())

    async def subscribed():
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"subscribe")
        await reader.readexactly(9)
        await reader.read(1)

    async def listens():
        reader, writer = await asyncio.open_connection(*address)
        kept.append(writer)
        await reader.read(1)

    start("subscription", subscribed())
    start("connection that was never written to", listens())
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)

    async def handle(connection):
        while data := await loop.sock_recv(connection, 100):
            await loop.sock_sendall(connection, data)

    async def accept():
        connection, _ = await loop.sock_accept(listener)
        connection.setblocking(False)
        await asyncio.gather(handle(connection), loop.sock_accept(listener))

    start("server of plain sockets", accept())
    client = socket.create_connection(listener.getsockname())
    client.sendall(b"x")
    one, other = socket.socketpair()
    kept.extend([client, one, other])

    async def local():
        reader, writer = await asyncio.open_connection(sock=one)
        writer.write(b"x")
        await reader.read(1)

    start("Unix socket", local())

    async def run(function, *arguments):
        await loop.run_in_executor(None, function, *arguments)

    def receive():
        idle = socket.create_connection(address)
        idle.sendall(b"subscribe")
        while idle.recv(100):
            pass

    start("thread that waits for an event", run(threading.Event().wait))
    start("thread with a queue", run(queue.Queue().get))
    start("thread that sleeps", run(time.sleep, 1000))
    start("thread with a subscription", run(receive))
    start("future of a thread", asyncio.wait_for(asyncio.wrap_future(concurrent.futures.Future()), None))

    async def child(**pipes):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(1000)", **pipes)
        kept.append(process)
        await process.communicate()

    start("child", child())
    start("child's output", child(stdout=asyncio.subprocess.PIPE))

    async def polls():
        while True:
            await asyncio.wait({tasks[0]}, timeout=0.05)

    async def waits(wait):
        await wait

    start("shield", waits(asyncio.shield(tasks[0])))
    start("gather", waits(asyncio.gather(*tasks[:3])))
    start("wait", asyncio.wait(tasks[:3]))
    start("polling", polls())

    async def drains():
        try:
            await asyncio.sleep(1000)
        finally:
            await full.join()

    async def clean_up():
        while True:
            await asyncio.sleep(0.05)

    async def cleans_up():
        try:
            await asyncio.sleep(1000)
        finally:
            kept.append(asyncio.ensure_future(clean_up()))
            await asyncio.shield(kept[-1])

    start("cancelled, drains a queue", drains())
    start("cancelled, cleans up", cleans_up())
    await asyncio.sleep(0.1)
    tasks[-1].cancel()
    tasks[-2].cancel()
    await asyncio.sleep(0)
    await asyncio.gather(*tasks, stalls())

class Backend:
    async def read(self):
        self.answer = asyncio.get_running_loop().create_future()
        await self.answer

async def stalls():
    async def late():
        try:
            await asyncio.sleep(1000)
        finally:
            await Backend().read()

    task = asyncio.create_task(late())  # the only one
    await asyncio.sleep(0.1)
    task.cancel()
    await task

asyncio.run(main())
"""


def test_what_waits_on_purpose_is_not_told(watched: Callable[..., Watched], until: Callable[..., None]) -> None:
    """More than thirty kinds of legitimate waits, all older than the one stall that is told."""
    run = watched(LEGITIMATE)
    until(lambda: "  fix  " in run.stderr, "the stall is told")
    looked = _looks(run)
    until(lambda: _looks(run) >= looked + 12, "the agent has looked at all of them for another two thresholds")
    assert run.told("") == 1, run.stderr
    assert f"app.py:{run.line('the only one')} stalls" in run.stderr


FAIR = """\
import asyncio
from leakagent.instrumentation import stalls

stalls.LOOK_SECONDS = 1e-6  # one task per look

class Backend:
    async def read(self):
        self.answer = asyncio.get_running_loop().create_future()
        await self.answer

async def late():
    try:
        await asyncio.sleep(1000)
    finally:
        await Backend().read()

async def main():
    kept = [asyncio.create_task(asyncio.Queue().get()) for _ in range(8)]
    task = asyncio.create_task(late())  # the newest
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, *kept)

asyncio.run(main())
"""


def test_those_that_wait_on_purpose_keep_no_other_from_being_read(
    watched: Callable[..., Watched], until: Callable[..., None]
) -> None:
    """A look has time for a few: the next one begins with those that have not had their turn."""
    run = watched(FAIR)
    until(lambda: f"app.py:{run.line('the newest')} main" in run.stderr, "the newest task has had its turn")
    assert run.told("") == 1, run.stderr


def _looks(run: Watched) -> int:
    """Return how often the program's threads, which all wait, have woken up: the agent's own is the only one with a clock so short."""
    return sum(
        int(line.split()[1])
        for status in Path(f"/proc/{run.process.pid}/task").glob("*/status")
        if int(status.parent.name) != run.process.pid
        for line in status.read_text(encoding="ascii").splitlines()
        if line.startswith("voluntary")
    )


def test_progress_begins_the_threshold_anew(watched: Callable[..., Watched], until: Callable[..., None]) -> None:
    """The same frame waits again and again, each time for another future: no stall, however long it goes on."""
    text = """\
import asyncio, threading

class Backend:
    async def read(self):
        self.answer = asyncio.get_running_loop().create_future()
        threading.Timer(0.2, asyncio.get_running_loop().call_soon_threadsafe, (self.answer.set_result, None)).start()
        await self.answer

async def work():
    try:
        await asyncio.sleep(1000)
    finally:
        for _ in range(20):
            await Backend().read()
        print("done", flush=True)

async def main():
    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()
    await task

asyncio.run(main())
"""
    run = watched(text)
    assert run.process.wait(timeout=120) == 1, run.stderr
    assert run.told("asyncio task") == 0, run.stderr


def test_nothing_is_said_where_no_text_is_wanted(spawn: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    text = KEPT_WAITING.replace("async def main():", "async def main():\n    kept.append(asyncio.ensure_future(end()))")
    text = text.replace(
        "async def main",
        """\
async def end():
    from leakagent import agent
    while not agent.current().told_live:
        await asyncio.sleep(0.01)
    print("told", flush=True)
    await asyncio.sleep(1000)

async def main""",
    )
    process = spawn("-m", "leakagent", "--stalled-after", "0.5", "--report", f"json:{report}", program(text))
    assert process.stdout.readline() == "told\n"
    process.terminate()
    _, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (-signal.SIGTERM, "")
    assert [one["reason"] for one in json.loads(report.read_text(encoding="utf-8"))["findings"]] == ["stalled"]


def test_a_child_says_nothing_and_hands_it_over(
    watched: Callable[..., Watched], until: Callable[..., None], tmp_path: Path
) -> None:
    child = tmp_path / "child.py"
    child.write_text(KEPT_WAITING.replace("\nasync def main", f"\n{TOLD}\nasync def main"), encoding="utf-8")
    child.write_text(
        child.read_text(encoding="utf-8").replace(
            "async def main():", "async def main():\n    kept.append(asyncio.ensure_future(end()))"
        ),
        encoding="utf-8",
    )
    run = watched("import subprocess, sys, signal\nsubprocess.run([sys.executable, 'child.py'])\nprint('over', flush=True)\n")
    assert run.process.wait(timeout=120) == 0, run.stderr
    run._reader.join(60)
    assert run.told("asyncio task") == 0, run.stderr
    assert "stalled: no progress" in run.stderr


TOLD = """
async def end():
    import os, signal
    from leakagent import agent
    stalls = agent.current().parts["stalls"]
    while not stalls.tasks_now():
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
"""
