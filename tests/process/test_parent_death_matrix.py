"""Who is left after each death of a starter: nobody but children of `subprocess`; and where Python waits for children, so does the agent."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

METHODS = ["fork", "spawn", "forkserver"]

#: Kind -> the lines that start three children of it.
KINDS = {
    "process": "kept = [context.Process(target=work, args=(folder,)) for _ in range(3)]; [one.start() for one in kept]",
    "daemon": "kept = [context.Process(target=work, args=(folder,), daemon=True) for _ in range(3)]; [one.start() for one in kept]",
    "pool": "kept = context.Pool(3); kept.map(abs, range(9))",
    "pool_busy": "kept = context.Pool(3); kept.map_async(work, [folder] * 3, chunksize=1)",
    "manager": "kept = context.Manager(); values = kept.dict(a=1)",
    "ppe": "kept = ProcessPoolExecutor(3, mp_context=context); list(kept.map(abs, range(9)))",
    "ppe_busy": "kept = ProcessPoolExecutor(3, mp_context=context); [kept.submit(work, folder) for _ in range(3)]",
    "popen": "kept = [subprocess.Popen(['sleep', '600']) for _ in range(3)]",
}

#: Kinds whose children run a job of ours, which says so.
AT_WORK = {"process", "daemon", "pool_busy", "ppe_busy"}

#: Kinds whose children Python waits for when the program ends by itself.
WAITED_FOR = {"process", "ppe_busy"}

#: Death -> exit status of the program.
DEATHS = {
    "sigterm": -signal.SIGTERM,
    "sigint": -signal.SIGINT,
    "sigkill": -signal.SIGKILL,
    "os._exit": 3,
    "segv": -signal.SIGSEGV,
    "exception": 1,
    "end": 0,
}

PROGRAM = """\
import multiprocessing, os, signal, subprocess, sys, threading, time
from concurrent.futures import ProcessPoolExecutor

def work(folder):
    open(f"{folder}/up-{os.getpid()}", "w").close()
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.02)
    open(f"{folder}/done-{os.getpid()}", "w").close()

def ups(folder):
    return sum(name.startswith("up-") for name in os.listdir(folder))

if __name__ == "__main__":
    method, kind, death, folder = sys.argv[1:]
    context = multiprocessing.get_context(method)
    exec(KINDS[kind])
    while kind in AT_WORK and ups(folder) < 3:
        time.sleep(0.02)
    threading._register_atexit(print, "waiting", flush=True)
    print("ready", flush=True)
    while not os.path.exists(f"{folder}/die"):
        time.sleep(0.02)
    if death == "os._exit":
        os._exit(3)
    if death == "segv":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    if death == "exception":
        raise ValueError
""".replace("if __name__", f"KINDS = {KINDS!r}\nAT_WORK = {AT_WORK!r}\n\nif __name__")


def in_session(session: int) -> list[int]:
    """Return the processes of a session that run."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(name))
    return found


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("method", METHODS)
def test_who_is_left(
    method: str,
    death: str,
    *,
    spawn: Callable[..., subprocess.Popen[str]],
    program: Callable[..., Path],
    until: Callable[..., None],
    tmp_path: Path,
) -> None:
    app, running = program(PROGRAM), {}
    for kind in KINDS if method == "fork" else [kind for kind in KINDS if kind != "popen"]:
        folder = tmp_path / kind
        folder.mkdir()
        running[kind] = spawn("-m", "leakagent", "--report", "off", "--budget", "60", app, method, kind, death, folder)
    for process in running.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
    for kind, process in running.items():
        if death.startswith("sig"):
            process.send_signal(getattr(signal, death.upper()))
        (tmp_path / kind / "die").touch()
    for kind, process in running.items():
        _ends(kind, death, process, tmp_path / kind, until)


def _ends(kind: str, death: str, process: Any, folder: Path, until: Callable[..., None]) -> None:
    waits = kind in WAITED_FOR and death in {"exception", "end"}
    if waits:
        assert process.stdout.readline() == "waiting\n"
        (folder / "go").touch()
    assert process.wait(timeout=120) == DEATHS[death], (kind, process.communicate())
    left = 3 if kind == "popen" else 0
    until(lambda: len(in_session(process.pid)) == left, f"all but {left} of {kind} end: {in_session(process.pid)}")
    # Where Python waits for children they have done their work, and elsewhere nobody has waited for that.
    assert len(list(folder.glob("done-*"))) == (3 if waits else 0), kind
