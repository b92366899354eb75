"""Children of `subprocess`: told when they outlive the program, left alone as Python does, ended where the user asked for it."""

from __future__ import annotations

import importlib.util
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROPER = """\
import asyncio, os, signal, subprocess, sys, time
with subprocess.Popen(["sleep", "0"]) as one:
    pass
print(subprocess.run(["echo", "run"], capture_output=True, text=True).stdout, end="")
print(subprocess.check_output("exit 0; echo no", shell=True))
told = subprocess.Popen(["sleep", "600"])
told.terminate()
killed = subprocess.Popen(["sleep", "600"])
killed.kill()
print(killed.wait())
# Nobody asks for the status of this one.
forgotten = subprocess.Popen(["true"])
# It ends when the program does.
reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
try:
    subprocess.Popen(["there is no such program"])
except FileNotFoundError as error:
    print(error.filename)
async def main():
    process = await asyncio.create_subprocess_exec("echo", "loop", stdout=subprocess.PIPE)
    print((await process.communicate())[0], process.returncode)
    try:
        process = await asyncio.create_subprocess_shell("exec sleep 600")
        await asyncio.wait_for(process.wait(), 0.01)
    except asyncio.TimeoutError:
        process.kill()
        print(await process.wait())
asyncio.run(main())
class Mine(subprocess.Popen):
    pass
print(isinstance(Mine(["true"]), subprocess.Popen), Mine(["true"]).wait())
"""


def test_proper_use_is_not_told(told: Callable[..., Any]) -> None:
    after = told(PROPER)
    after.clean()
    lines = ["run", "b''", "-9", "there is no such program", "b'loop\\n' 0", "-9", "True 0"]
    assert (after.lines, after.ran.stderr) == (lines, ""), after
    assert after.report["totals"]["subprocess"]["created"] >= 11


LEFT = """\
import asyncio, subprocess, sys, time
devnull = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
pids = []

class Mine(subprocess.Popen):
    def __init__(self, *words):
        super().__init__(words, **devnull)

def start():
    global kept
    kept = subprocess.Popen(["sleep", "600"], **devnull)  # kept
    pids.append(kept.pid)
    pids.append(Mine("sleep", "600").pid)  # dropped

async def main():
    global process
    process = await asyncio.create_subprocess_exec("sleep", "600", **devnull)  # loop
    pids.append(process.pid)

start()
asyncio.run(main())
if "ignores" in sys.argv:
    stubborn = subprocess.Popen(  # ignores
        ["sh", "-c", "trap '' TERM; echo up >up; while :; do sleep 600; done"], **devnull)
    pids.append(stubborn.pid)
    import os
    while not os.path.exists("up"):
        time.sleep(0.01)
print(*pids, flush=True)
if "waits" in sys.argv:
    time.sleep(600)
sys.exit(3)
"""


def runs(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.fixture
def ended() -> Iterator[list[int]]:
    """Return a list for the pids of processes that outlive a program: they are killed in the end."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_left_over_is_told_at_its_line_and_runs_on(told: Callable[..., Any], ended: list[int]) -> None:
    after = told(LEFT)
    pids = [int(word) for word in after.lines[0].split()]
    ended += pids
    assert (after.ran.returncode, [runs(pid) for pid in pids]) == (3, [True] * 3), after
    found = {one["site"]["line"]: one for one in after.findings}
    assert sorted(found) == sorted(map(after.line, ("kept", "dropped", "loop"))), after
    for marker, pid in zip(("kept", "dropped", "loop"), pids, strict=True):
        one = found[after.line(marker)]
        assert (one["kind"], one["reason"], one["action"], one["names"]) == (
            "subprocess", "orphaned", "none", [f"sleep (pid {pid})"],
        )  # fmt: skip
        assert one["evidence"][0].startswith("runs on after the program, "), one
        assert one["evidence"][0].endswith(" MB of its own")
        assert "p.terminate()" in one["fix"]


@pytest.mark.parametrize("signum", [None, signal.SIGTERM, signal.SIGINT])
def test_a_policy_ends_them(
    signum: int | None, told: Callable[..., Any], interrupted: Callable[..., Any], program: Callable[..., Path], ended: list[int]
) -> None:
    options = ["--subprocesses", "end"]
    if signum is None:
        after = told(LEFT, "ignores", options=tuple(options))
        ran = after.ran
        actions = {one["site"]["line"]: (one["reason"], one["action"]) for one in after.findings}
        assert actions.pop(after.line("ignores")) == ("refused_cleanup", "killed"), after
        assert set(actions.values()) == {("orphaned", "terminated")}
        assert after.stages["subprocesses"]["asked"] == 4
    else:
        ran = interrupted(["-m", "leakagent", *options, "--report", "off", program(LEFT), "waits"], signum=signum)
    pids = [int(word) for word in ran.stdout.split()]
    ended += pids
    assert ran.returncode == (3 if signum is None else -signum), ran
    assert not any(map(runs, pids))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_them_as_python_does(
    signum: int, interrupted: Callable[..., Any], program: Callable[..., Path], ended: list[int]
) -> None:
    ran = interrupted(["-m", "leakagent", "--report", "off", program(LEFT), "waits"], signum=signum)
    pids = [int(word) for word in ran.stdout.split()]
    ended += pids
    assert ran.returncode == -signum
    assert all(map(runs, pids))


GUARDED = """\
import asyncio, os, signal, subprocess, sys, time
devnull = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
plain = subprocess.Popen(["sleep", "600"], **devnull)
script = "trap '' TERM; echo up; while :; do sleep 600; done"
stubborn = [subprocess.Popen(["sh", "-c", script], **{**devnull, "stdout": subprocess.PIPE}) for _ in range(2)]
for process in stubborn:
    process.stdout.readline()
stubborn[1].terminate()
async def main():
    global loop
    loop = await asyncio.create_subprocess_exec("sleep", "600", **devnull)
asyncio.run(main())
own = subprocess.Popen(["sleep", "600"], start_new_session=True, **devnull)
pid = os.fork()
if pid == 0:
    # It holds no end of the guardian's pipe, and none of the test's.
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    time.sleep(600)
print(plain.pid, stubborn[0].pid, loop.pid, stubborn[1].pid, own.pid, pid, flush=True)
if sys.argv[1] == "_exit":
    os._exit(7)
if sys.argv[1] == "SIGKILL":
    os.kill(os.getpid(), 9)
if sys.argv[1] == "uninstall":
    import leakagent
    leakagent.uninstall()
"""


def guardians() -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if b"guardian.main()" in path.read_bytes():
                found.add(int(path.parent.name))
    return found


@pytest.mark.parametrize("how", ["SIGKILL", "_exit", "end", "uninstall"])
def test_a_guardian_ends_them_when_the_program_is_killed(
    how: str, python: Callable[..., Any], program: Callable[..., Path], ended: list[int], until: Callable[..., None]
) -> None:
    before = guardians()
    options = ("--subprocesses", "guard", "--report", "off")
    ran = python("-W", "ignore", "-m", "leakagent", *options, program(GUARDED), how)
    pids = [int(word) for word in ran.stdout.split()]
    ended += pids
    assert ran.returncode == {"SIGKILL": -9, "_exit": 7}.get(how, 0), ran
    if how != "end":  # up to 3.11 a thread of asyncio's complains that the process ends after its loop
        assert ran.stderr == "", ran
    until(lambda: guardians() <= before, "the guardian is gone")
    # Who was told to end, has a session of its own, or is a fork of the program's own, is left alone; without the agent all are.
    left = [runs(pid) for pid in pids]
    if how == "uninstall":
        left[2] = True  # asyncio itself ends it in some versions
    assert left == [how == "uninstall"] * 3 + [True] * 3


def test_the_program_does_not_see_its_guardian(told: Callable[..., Any]) -> None:
    text = """\
import os, subprocess
subprocess.Popen(["sleep", "600"])
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("none")
subprocess.run(["true"])
import psutil
print([child.name() for child in psutil.Process().children(recursive=True)])
"""
    after = told(text, options=("--subprocesses", "guard"))
    assert after.lines == ["(0, 0)", "['sleep']"], after
    assert [one["action"] for one in after.findings] == ["terminated"], after


WARNS = """\
import gc, subprocess, sys, warnings
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as caught:
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    pid = process.pid
    del process
    gc.collect()
print([one.category.__name__ for one in caught], subprocess._active != [])
import os
os.kill(pid, 9)
"""


def test_a_dropped_one_is_dropped(told: Callable[..., Any]) -> None:
    after = told(WARNS)
    assert after.lines == ["['ResourceWarning'] True"], after
    assert after.findings == []


ZOMBIES = """\
import os, subprocess, time
kept = [subprocess.Popen(["true"]) for _ in range(3)]  # kept
waited = [subprocess.Popen(["true"]) for _ in range(3)]
asked = [subprocess.Popen(["true"]) for _ in range(3)]
for process in waited: process.wait()
while any(process.poll() is None for process in asked): time.sleep(0.01)
told = [subprocess.Popen(["sleep", "600"]) for _ in range(3)]
for process in told: process.terminate()
def states():
    for process in kept + told:
        with open(f"/proc/{process.pid}/stat") as file:
            yield file.read().rpartition(")")[2].split()[0]
while set(states()) != {"Z"}: time.sleep(0.01)
"""


def test_zombies_of_a_place_are_told(told: Callable[..., Any]) -> None:
    after = told(ZOMBIES)
    (one,) = after.findings
    assert (one["kind"], one["reason"], one["count"], one["site"]["line"]) == ("subprocess", "not_closed", 3, after.line("kept"))
    assert "zombie" in one["evidence"][0]
    assert "p.wait()" in one["fix"]


UVLOOP = """\
import asyncio, subprocess
import uvloop
devnull = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
async def main():
    global kept
    process = await asyncio.create_subprocess_exec("echo", "loop", stdout=subprocess.PIPE)
    print((await process.communicate())[0], process.returncode)
    for name in ("terminate", "kill"):
        process = await asyncio.create_subprocess_exec("sleep", "600")
        getattr(process, name)()
        print(await process.wait())
    kept = await asyncio.create_subprocess_exec("sleep", "600", **devnull)  # kept
    print(kept.pid)
loop = uvloop.new_event_loop()
loop.run_until_complete(main())
"""

if importlib.util.find_spec("uvloop"):

    def test_processes_of_uvloop(told: Callable[..., Any], ended: list[int]) -> None:
        after = told(UVLOOP)
        *lines, pid = after.lines
        ended.append(int(pid))
        assert (lines, runs(int(pid))) == (["b'loop\\n' 0", "-15", "-9"], True), after
        (one,) = after.findings
        assert (one["kind"], one["reason"], one["site"]["line"]) == ("subprocess", "orphaned", after.line("kept")), one
        assert one["names"] == [f"sleep (pid {pid})"]
        assert after.report["totals"]["subprocess"]["created"] == 4
