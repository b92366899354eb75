"""Signals at random moments, collections at random thresholds, forks in threads, masses: the counts are right, and it ends by the rules."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: All of them in one interpreter, a share in the others.
SIGNALS = 10_000 if sys.version_info[:2] == (3, 13) else 2_000

#: Makes tasks, threads, pools and children while signals come, in whose handler it makes some as well, and knows how many.
STORM = """\
import asyncio, atexit, collections, gc, itertools, json, multiprocessing, os, random, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor

chance = random.Random(11)
# Counted by one call each: the handler can come between any two steps.
made = collections.defaultdict(itertools.count)
for kind in ("asyncio.task", "thread", "thread_pool", "process"):
    made[kind]
signals = 0

def on_signal(number, frame):
    global signals
    signals += 1
    if signals % 10 == 0:
        pool()
    if signals % 7 == 0:
        gc.collect(0)

def pool():
    # First, since what is begun here may not come to its end when SIGTERM comes.
    made_one = ThreadPoolExecutor(1)
    next(made["thread_pool"])
    made_one.shutdown()

def thread():
    one = threading.Thread(target=int)
    one.start()
    next(made["thread"])
    one.join()

def child():
    one = multiprocessing.get_context("fork").Process(target=int)
    one.start()
    next(made["process"])
    one.join()
    assert one.exitcode == 0, one.exitcode

async def part(number):
    await asyncio.sleep(0)
    return number

async def tasks():
    created = []
    for number in range(chance.randint(1, 40)):
        created.append(asyncio.create_task(part(number)))
        next(made["asyncio.task"])
    assert sum(await asyncio.gather(*created)) == sum(range(len(created)))

async def main():
    global signals
    turns = 0
    while signals < int(sys.argv[1]):
        turns += 1
        gc.set_threshold(chance.randint(1, 1000), chance.randint(1, 20), chance.randint(1, 20))
        await tasks()
        pool()
        thread()
        if turns % 20 == 0:
            child()

# Children have the handler as well, and are not sent signals.
signal.signal(signal.SIGUSR1, on_signal)
signal.signal(signal.SIGALRM, on_signal)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
print("ready", flush=True)
asyncio.run(main())
signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
print(json.dumps({kind: next(count) for kind, count in made.items()}), flush=True)
"""


@pytest.fixture
def storm(
    spawn: Callable[..., subprocess.Popen[str]], program: Callable[..., Path], tmp_path: Path
) -> Callable[..., subprocess.Popen[str]]:
    """Start a program under the agent, wait for its first line, and send it signals at random moments until it has ended."""

    def start(text: str, *arguments: object, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        words = ["-W", "ignore::DeprecationWarning", "-m", "leakagent", "--report", f"json:{tmp_path}/report.json", *options]
        process = spawn(*words, program(text), *arguments)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
        threading.Thread(target=_send, args=(process,), daemon=True).start()
        return process

    return start


def _send(process: subprocess.Popen[str]) -> None:
    chance = random.Random(5)
    while process.returncode is None:
        # `send_signal` looks whether it has ended, and so does not meet a pid that was given again.
        for _ in range(chance.randint(1, 20)):
            process.send_signal(signal.SIGUSR1)
        time.sleep(chance.random() * 0.002)


def test_the_counts_are_right(storm: Callable[..., Any], tmp_path: Path) -> None:
    process = storm(STORM, SIGNALS)
    out, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (0, ""), (out, err)
    made = json.loads(out)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["findings"] == []
    assert report["agent"]["disabled"] == []
    totals = report["totals"]
    # The main coroutine is a task as well, and so is what `asyncio.run` waits for at its end (asynchronous generators, the executor).
    made["asyncio.task"] += 3
    assert {kind: totals[kind]["created"] for kind in made} == made
    assert all(totals[kind]["finished"] == made[kind] for kind in ("asyncio.task", "thread_pool", "process")), totals


#: Ends by SIGTERM in the middle of all that.  Python itself gives the signals their default action back when it finalizes.
ENDS = STORM.replace(
    'print("ready"',
    """\
def last():
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    print("exit handler")
atexit.register(last)
print("ready\"""",
)


@pytest.mark.parametrize("seed", range(4))
def test_it_ends_by_the_rules(seed: int, storm: Callable[..., Any], tmp_path: Path) -> None:
    process = storm(ENDS, 10**9, options=("--budget", "100", "--grace", "20"))
    time.sleep(random.Random(seed).random())
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGTERM, (out, err)
    assert out.splitlines()[-1:] == ["exit handler"], (out, err)
    assert "leakagent/" not in err, err
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["exit"] == {"status": None, "signal": int(signal.SIGTERM)}
    assert report["agent"]["disabled"] == [], report


#: Somebody else waits for the child: `multiprocessing` takes it for running for ever.
REAPED = """\
import multiprocessing, os, signal, sys
if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=int)
    child.start()
    os.waitpid(child.pid, 0)
    print(child.is_alive())
    if len(sys.argv) > 1:
        os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("arguments", [(), ("signal",)], ids=["normal end", "signal"])
def test_a_child_that_somebody_else_has_waited_for(
    arguments: tuple[str, ...], python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    ran = python("-m", "leakagent", "--report", "text,json:report.json", program(REAPED), *arguments)
    assert (ran.returncode, ran.stdout, ran.stderr) == (-signal.SIGTERM if arguments else 0, "True\n", ""), ran
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["findings"] == []
