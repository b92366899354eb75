"""What `leakagent reap` says it has freed, and what the system really got back.

    python benchmarks/reap.py [--runs 7] [--workers 8] [--repeat 3] [--method fork|spawn|forkserver]

A script with an idle ``ProcessPoolExecutor`` is started several times and each run is killed by SIGKILL; the parent watch is off
(``--orphans keep``), so that its workers pile up.  ``reap`` has to find exactly them.  ``reap --clean`` ends them: what ``AnonPages``
falls by in that time is what the system got back (``MemAvailable`` follows seconds later in a virtual machine that hands free pages to
its host).  Other programs of the machine use memory as well: the median of the repetitions counts.  Exit status 1 if it found others or too few, or if the median is off by more than `TOLERANCE`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 0.15

PROGRAM = """\
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor

def work(_):
    global memory
    memory = bytearray(os.urandom(1 << 20) * 10)
    time.sleep(0.5)
    return os.getpid()

if __name__ == "__main__":
    workers = int(sys.argv[2])
    executor = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(sys.argv[1]))
    pids = set()
    while len(pids) < workers:
        pids.update(executor.map(work, range(workers)))
    print(*pids, flush=True)
    time.sleep(3600)
"""


def anonymous() -> int:
    """Return the bytes of memory that programs have for themselves (``AnonPages`` of proc(5))."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonPages:"))


def reap(environment: dict[str, str], *words: str) -> dict[str, object]:
    """Run ``leakagent reap`` and return its JSON output."""
    command = [sys.executable, "-m", "leakagent", "reap", "--json", *words]
    return dict(json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout))


def pile(method: str, runs: int, workers: int) -> tuple[bool, int, int]:
    """Make a pile and end it.

    Returns:
        Whether exactly the workers were found, the bytes that `reap` names, and those that the system got back.

    """
    with tempfile.TemporaryDirectory(prefix="leakagent-reap-") as folder:
        program = Path(folder, "app.py")
        program.write_text(PROGRAM, encoding="ascii")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": folder, "LEAKAGENT_REPORT": "off"}
        command = [sys.executable, "-m", "leakagent", "--orphans", "keep", str(program), method, str(workers)]
        started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(runs)]
        pids: set[int] = set()
        for process in started:
            assert process.stdout is not None
            pids.update(map(int, process.stdout.readline().split()))
        for process in started:
            assert process.stdout is not None
            process.send_signal(signal.SIGKILL)
            process.stdout.close()  # what is left holds the other end
            process.wait()
        found = reap(environment)["orphans"]
        assert isinstance(found, list)
        is_exact = {one["pid"] for one in found if one["kind"] == "process"} == pids
        before = anonymous()
        freed = reap(environment, "--clean")["freed_uss_bytes"]
        assert isinstance(freed, int)
        return is_exact, freed, before - anonymous()


def main() -> int:
    """Print a line for each repetition and the verdict."""
    parser = argparse.ArgumentParser(description="What reap says and what the system got back.")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--method", choices=("fork", "spawn", "forkserver"), default="fork")
    options = parser.parse_args()
    ratios, all_exact = [], True
    for _ in range(options.repeat):
        is_exact, said, real = pile(options.method, options.runs, options.workers)
        all_exact &= is_exact
        ratios.append(said / real if real else 0.0)
        print(
            f"found exactly: {is_exact}  said {said / 2**20:.0f} MB  got back {real / 2**20:.0f} MB  ratio {ratios[-1]:.3f}",
            flush=True,
        )
    median = statistics.median(ratios)
    is_close = abs(median - 1) <= TOLERANCE
    print(f"median {median:.3f}: {'within' if is_close else 'NOT within'} {TOLERANCE:.0%}")
    return 0 if all_exact and is_close else 1


if __name__ == "__main__":
    sys.exit(main())
