"""The ledger and `leakagent reap`: what dead programs left behind is found and ended, and nothing foreign is ever signalled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METHODS = ["fork", "spawn", "forkserver"]

STARTER = """\
import multiprocessing, os, subprocess, sys, time
from concurrent.futures import ProcessPoolExecutor

def work(up):
    up.put(os.getpid())
    time.sleep(600)

def main(context, wanted):
    up = context.SimpleQueue()
    for _ in range(wanted):
        context.Process(target=work, args=(up,)).start()  # started here
    print(json.dumps([up.get() for _ in range(wanted)]), flush=True)
    if "leaves" in sys.argv:
        os.close(1)
    time.sleep(600)

if __name__ == "__main__":
    import json
    main(multiprocessing.get_context(sys.argv[1]), int(sys.argv[2]))
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """Return a runtime folder of the test's own."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    return folder


def runs(pid: int) -> bool:
    with suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return text.rpartition(")")[2].split()[0] not in "ZX"
    return False


class Left:
    """What a killed program has left behind."""

    def __init__(self, starter: int, pids: list[int], ledger: Path) -> None:
        """Keep its pid, those of its children, and its file."""
        self.starter, self.pids, self.ledger = starter, pids, ledger


@pytest.fixture
def leave(
    spawn: Callable[..., Any], program: Callable[..., Path], runtime: Path, until: Callable[..., None]
) -> Iterator[Callable[..., Left]]:
    """Start a program whose children are kept by policy, kill it, and kill in the end what is left of it."""
    left: list[int] = []

    def run(method: str = "fork", wanted: int = 1, *, agent: bool = True) -> Left:
        variables = {"XDG_RUNTIME_DIR": str(runtime), "LEAKAGENT_ORPHANS": "keep"}
        front = ["-m", "leakagent"] if agent else []
        process = spawn(*front, program(STARTER), method, wanted, variables=variables)
        pids = json.loads(process.stdout.readline())
        left.extend(pids)
        process.kill()
        process.wait(timeout=120)
        folder = runtime / "leakagent"
        until(lambda: all(Path(f"/proc/{pid}").exists() for pid in pids), "the children are there")
        return Left(process.pid, pids, next(iter(folder.glob(f"ledger-{process.pid}-*")), folder))

    yield run
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def reap(runtime: Path, python: Callable[..., Any]) -> Callable[..., Any]:
    """Run ``leakagent reap --json`` and return what it said, with its status."""

    def run(*arguments: object) -> dict[str, Any]:
        ran = python("-m", "leakagent", "reap", "--json", *map(str, arguments), env={"XDG_RUNTIME_DIR": str(runtime)})
        assert ran.stdout, ran
        return {**json.loads(ran.stdout), "status": ran.returncode, "stderr": ran.stderr}

    return run


@pytest.fixture
def foreign() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Start a process that has nothing to do with any program of the agent's."""
    started = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def start_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]


def mine(found: dict[str, Any], left: Left, group: str = "orphans") -> list[dict[str, Any]]:
    return [one for one in found[group] if one["pid"] in left.pids]


@pytest.mark.parametrize("method", METHODS)
def test_orphans_are_listed_then_ended(method: str, leave: Callable[..., Left], reap: Callable[..., Any]) -> None:
    left = leave(method, 2)
    listed = reap()
    assert (listed["status"], listed["clean"], listed["freed_uss_bytes"]) == (0, False, 0)
    assert sorted(one["pid"] for one in mine(listed, left)) == sorted(left.pids)
    line = next(number for number, text in enumerate(STARTER.splitlines(), 1) if text.endswith("# started here"))
    for one in mine(listed, left):
        assert one["site"].endswith(f"app.py:{line} main"), one
        assert (one["kind"], one["starter"], one["action"], one["proven"]) == ("process", left.starter, "none", True)
        assert one["uss_bytes"] > 0
        assert "app.py" in one["command"]
    assert all(map(runs, left.pids))
    ended = reap("--clean")
    assert ended["status"] == 0, ended
    assert [one["action"] for one in mine(ended, left)] == ["terminated"] * 2
    assert ended["freed_uss_bytes"] >= sum(one["uss_bytes"] for one in mine(ended, left))
    assert {one["action"] for one in ended["orphans"]} <= {"terminated", "gone"}
    assert not any(map(runs, left.pids))
    assert not left.ledger.exists()
    assert reap()["orphans"] == []


def test_the_pile_of_several_runs_is_found_exactly(leave: Callable[..., Left], reap: Callable[..., Any]) -> None:
    lefts = [leave("fork", 4) for _ in range(3)]
    pids = sorted(pid for left in lefts for pid in left.pids)
    assert sorted(one["pid"] for one in reap()["orphans"]) == pids
    ended = reap("--clean")
    assert sorted(one["pid"] for one in ended["orphans"]) == pids
    assert not any(map(runs, pids))


def test_children_of_the_living_are_none(
    spawn: Callable[..., Any], program: Callable[..., Path], runtime: Path, reap: Callable[..., Any]
) -> None:
    process = spawn("-m", "leakagent", program(STARTER), "fork", 2, variables={"XDG_RUNTIME_DIR": str(runtime)})
    pids = json.loads(process.stdout.readline())
    assert reap("--clean")["orphans"] == []
    assert reap("--clean", *pids)["status"] == 1
    assert all(map(runs, [process.pid, *pids]))


def test_young_ones_are_passed_over(leave: Callable[..., Left], reap: Callable[..., Any]) -> None:
    left = leave()
    assert reap("--older-than", 3600, "--clean")["orphans"] == []
    assert runs(left.pids[0])


def test_a_named_one_is_the_only_one_that_is_ended(leave: Callable[..., Left], reap: Callable[..., Any]) -> None:
    left = leave("fork", 2)
    assert reap("--clean", left.pids[0])["status"] == 0
    assert [runs(pid) for pid in left.pids] == [False, True]


def test_who_ignores_sigterm_is_killed(
    leave: Callable[..., Left], reap: Callable[..., Any], program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = STARTER.replace("    up.put(os", "    import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    up.put(os")
    monkeypatch.setitem(globals(), "STARTER", text)
    left = leave()
    (one,) = mine(reap("--clean"), left)
    assert (one["action"], runs(left.pids[0])) == ("killed", False)


# -- nothing foreign -------------------------------------------------------------------------------------------------


def change(left: Left, **values: object) -> None:
    """Change the entry of the only child."""
    head, line = left.ledger.read_text(encoding="ascii").splitlines()[:2]
    entry = {**eval(line), **values}
    left.ledger.write_text(f"{head}\n{entry!r}\n", encoding="ascii")


def change_head(left: Left, **values: object) -> None:
    """Change the first line, and the name of the file with it."""
    lines = left.ledger.read_text(encoding="ascii").splitlines()
    head = {**eval(lines[0]), **values}
    left.ledger.unlink()
    left.ledger = left.ledger.with_name(f"ledger-{head['pid']}-{head['start']}-{head['place']}.log")
    left.ledger.write_text("\n".join([repr(head), *lines[1:]]) + "\n", encoding="ascii")
    left.ledger.chmod(0o600)


def test_a_pid_that_was_given_again(leave: Callable[..., Left], reap: Callable[..., Any]) -> None:
    left = leave()
    change(left, start=str(int(start_of(left.pids[0])) - 1))
    assert (reap("--clean")["orphans"], reap("--clean", left.pids[0])["status"]) == ([], 1)
    assert runs(left.pids[0])


def test_an_entry_that_points_at_a_foreign_process(
    leave: Callable[..., Left], reap: Callable[..., Any], foreign: Callable[[], subprocess.Popen[bytes]]
) -> None:
    left = leave()
    stranger = foreign()
    # Also if somebody has forged the session as well.
    for session in (None, os.getsid(0)):
        change(left, pid=stranger.pid, start=start_of(stranger.pid))
        if session is not None:
            change_head(left, session=session)
        found = reap("--clean")
        assert found["orphans"] == []
        (one,) = [one for one in found["not_proven"] if one["pid"] == stranger.pid]
        assert one["why"] in {"it has left the session of its starter", "nothing in it names its starter"}, one
    assert stranger.poll() is None


def test_an_entry_that_points_at_an_older_process(leave: Callable[..., Left], reap: Callable[..., Any]) -> None:
    left = leave()
    change(left, pid=os.getpid(), start=start_of(os.getpid()))
    (one,) = [one for one in reap("--clean")["not_proven"] if one["pid"] == os.getpid()]
    assert one["why"] == "it is older than its starter"


def test_a_starter_that_lives(
    leave: Callable[..., Left], reap: Callable[..., Any], foreign: Callable[[], subprocess.Popen[bytes]]
) -> None:
    left = leave()
    stranger = foreign()
    change_head(left, pid=stranger.pid, start=start_of(stranger.pid))
    assert reap("--clean")["orphans"] == []
    assert runs(left.pids[0])


def test_from_before_a_reboot(leave: Callable[..., Left], reap: Callable[..., Any]) -> None:
    left = leave()
    place = left.ledger.stem.split("-", 3)[3]
    change_head(left, place=f"00000000-{place.partition('-')[2]}")
    assert reap("--clean")["orphans"] == []
    # It can be of another machine that shares the folder, unless it is older than this one's start.
    assert left.ledger.exists()
    uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    before = time.time() - uptime - 3600
    os.utime(left.ledger, (before, before))
    reap()
    assert not left.ledger.exists()
    assert runs(left.pids[0])


def test_a_link_in_place_of_the_file(leave: Callable[..., Left], reap: Callable[..., Any], tmp_path: Path) -> None:
    left = leave()
    moved = left.ledger.rename(tmp_path / "moved")
    left.ledger.symlink_to(moved)
    assert reap("--clean")["orphans"] == []
    assert runs(left.pids[0])


def test_a_link_in_place_of_the_folder(leave: Callable[..., Left], reap: Callable[..., Any], runtime: Path) -> None:
    left = leave()
    (runtime / "leakagent").rename(runtime / "elsewhere")
    (runtime / "leakagent").symlink_to(runtime / "elsewhere")
    assert reap("--clean")["orphans"] == []
    assert runs(left.pids[0])


@pytest.mark.parametrize("mode", [0o644, 0o620])
def test_a_file_that_others_may_open(leave: Callable[..., Left], reap: Callable[..., Any], mode: int) -> None:
    left = leave()
    left.ledger.chmod(mode)
    assert reap("--clean")["orphans"] == []
    assert runs(left.pids[0])


def test_a_folder_that_others_may_enter(leave: Callable[..., Left], reap: Callable[..., Any], runtime: Path) -> None:
    left = leave()
    (runtime / "leakagent").chmod(0o755)
    assert reap("--clean")["orphans"] == []
    assert runs(left.pids[0])


@pytest.mark.parametrize(
    "text",
    ["", "x", "{", "{}\n", "[1]\n", "{'format': 1}\n", "__import__('os').kill(0, 9)\n", "(" * 9999, "\0\n", "{'pid': -1}\n"],
)
def test_what_is_no_ledger(leave: Callable[..., Left], reap: Callable[..., Any], text: str) -> None:
    left = leave()
    left.ledger.write_text(text, encoding="ascii")
    found = reap("--clean")
    assert (found["orphans"], found["status"], found["stderr"]) == ([], 0, "")
    assert runs(left.pids[0])


@pytest.mark.parametrize(
    "entry", [{"pid": -1}, {"pid": 0}, {"pid": 1}, {"pid": True}, {"start": 5}, {"pid": "7"}, {"pid": 2**70}]
)
def test_an_entry_that_makes_no_sense(leave: Callable[..., Left], reap: Callable[..., Any], entry: dict[str, object]) -> None:
    left = leave()
    change(left, **entry)
    found = reap("--clean")
    assert (found["orphans"], found["status"], found["stderr"]) == ([], 0, "")
    assert runs(left.pids[0])


def test_half_a_line_at_the_end(leave: Callable[..., Left], reap: Callable[..., Any]) -> None:
    left = leave()
    with left.ledger.open("a", encoding="ascii") as file:
        file.write("{'pid': 5, 'sta")
    assert len(mine(reap("--clean"), left)) == 1
    assert not runs(left.pids[0])


def test_another_user(leave: Callable[..., Left], reap: Callable[..., Any], runtime: Path) -> None:
    left = leave()
    if os.getuid() == 0:
        # Whoever else has written it.
        os.chown(left.ledger, 65534, 65534)
        assert reap("--clean")["orphans"] == []
        os.chown(left.ledger, 0, 0)
        os.chown(runtime / "leakagent", 65534, 65534)
    else:
        (runtime / "leakagent").chmod(0o770)
    assert reap("--clean")["orphans"] == []
    assert runs(left.pids[0])


def test_who_has_left_the_session_is_left_alone(
    leave: Callable[..., Left], reap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "STARTER", STARTER.replace("    up.put(os", "    os.setsid()\n    up.put(os"))
    left = leave()
    found = reap("--clean")
    assert found["orphans"] == []
    assert [one["why"] for one in mine(found, left, "not_proven")] == ["it has left the session of its starter"]
    assert runs(left.pids[0])


# -- programs without the agent --------------------------------------------------------------------------------------


def test_programs_without_the_agent_are_not_proven(leave: Callable[..., Left], reap: Callable[..., Any]) -> None:
    left = leave("spawn", 2, agent=False)
    found = reap("--clean")
    assert found["orphans"] == []
    others = mine(found, left, "not_proven")
    assert sorted(one["pid"] for one in others) == sorted(left.pids)
    assert all((one["action"], one["starter"]) == ("none", 0) for one in others)
    assert all(map(runs, left.pids))
    named = reap("--clean", left.pids[0])
    assert [one["action"] for one in mine(named, left, "not_proven") if one["pid"] == left.pids[0]] == ["terminated"]
    assert [runs(pid) for pid in left.pids] == [False, True]


def test_any_other_process_is_not_ended_by_its_name(
    reap: Callable[..., Any], foreign: Callable[[], subprocess.Popen[bytes]]
) -> None:
    stranger = foreign()
    found = reap("--clean", stranger.pid, os.getpid())
    assert found["status"] == 1
    assert found["stderr"].count("is left alone") == 2
    assert stranger.poll() is None


# -- the file, the command line --------------------------------------------------------------------------------------

PROPER = """\
import os, subprocess, sys
folder = os.path.join(os.environ["XDG_RUNTIME_DIR"], "leakagent")
def ledgers():
    # The socket of the process comes there as well, when it has lived for a moment.
    return [name for name in os.listdir(folder) if name.startswith("ledger-")]
if "processes" in sys.argv:
    import multiprocessing
    for _ in range(200):
        process = multiprocessing.get_context("fork").Process(target=abs, args=(1,))
        process.start()
        process.join()
    (name,) = ledgers()
    print(len(open(os.path.join(folder, name)).readlines()) < 100, oct(os.stat(folder).st_mode), name.split("-")[1] == str(os.getpid()))
elif "subprocesses" in sys.argv:
    for _ in range(100):
        subprocess.run(["true"])
    print(len(ledgers()))
else:
    print(os.path.exists(folder), "leakagent.processes.ledger" in sys.modules)
"""


@pytest.mark.parametrize(
    ("argument", "printed"), [("processes", "True 0o40700 True"), ("subprocesses", "1"), ("none", "False False")]
)
def test_the_file_comes_with_the_first_process_and_goes_at_the_end(
    argument: str, printed: str, told: Callable[..., Any], runtime: Path
) -> None:
    text = PROPER if argument != "none" else PROPER.replace("import os, subprocess, sys", "import os, sys")
    after = told(text, argument, env={"XDG_RUNTIME_DIR": str(runtime)})
    after.clean()
    assert after.lines == [printed], after
    assert list(runtime.rglob("ledger-*")) == []


def test_text(leave: Callable[..., Left], python: Callable[..., Any], runtime: Path) -> None:
    left = leave()
    env = {"XDG_RUNTIME_DIR": str(runtime)}
    listed = python("-m", "leakagent", "reap", env=env)
    assert listed.returncode == 0
    for part in (
        "1 process left over, ",
        " MB (USS)",
        f"{left.pids[0]}",
        "app.py:",
        f"by {left.starter}, which is gone",
        "--clean",
    ):
        assert part in listed.stdout, (part, listed)
    ended = python("-m", "leakagent", "reap", "--clean", env=env)
    assert "ended 1, " in ended.stdout, ended
    again = python("-m", "leakagent", "reap", env=env)
    assert "not proven" in again.stdout or again.stdout == "leakagent: no process is left over\n", again


def test_again_and_again(
    leave: Callable[..., Left], spawn: Callable[..., Any], runtime: Path, until: Callable[..., None]
) -> None:
    reaper = spawn("-m", "leakagent", "reap", "--clean", "--every", "0.1", variables={"XDG_RUNTIME_DIR": str(runtime)})
    for _ in range(2):
        left = leave()
        until(lambda left=left: not runs(left.pids[0]), "it is ended")
    assert reaper.poll() is None
    reaper.send_signal(signal.SIGINT)
    assert reaper.wait(timeout=120) == 0


@pytest.mark.parametrize(
    "words", [["--what"], ["--older-than"], ["--older-than", "x"], ["--every", "0"], ["--every", "nan"], ["7"]]
)
def test_wrong_usage(words: list[str], python: Callable[..., Any], runtime: Path) -> None:
    ran = python("-m", "leakagent", "reap", *words, env={"XDG_RUNTIME_DIR": str(runtime)})
    assert (ran.returncode, ran.stdout) == (2, ""), ran
    assert ran.stderr.startswith("leakagent: ")
