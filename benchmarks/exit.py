"""How programs end, bare and under leakagent: time from the order to end until the end, status, and what still ran.

    python benchmarks/exit.py --python PYTHON [--python PYTHON...] [--pairs N] [--markdown OUT]

The first table of each version is about programs that leave nothing: how long their end takes, and how much longer under leakagent, each
the shortest of ``--pairs`` runs, in turns.  After SIGTERM Python alone does nothing at all.  The second is
about what programs leave behind; the programs and the ways to end them are those of ``tests/process/exit_matrix.py``, whose rows are
asserted by order and status in a test.  Its times are those of one run each, on whatever machine this is: read them as ratios.  A program
that has not ended after 8 seconds is killed: "hangs".
"""

from __future__ import annotations

import argparse
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 8.0
WAIT = "import time\nwhile True: time.sleep(0.01)\n"


def end(python: str, program: Path, signals: tuple[int, ...], *, agent: bool) -> str:
    """Run a program to its end and describe that in a few words."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LEAKAGENT_REPORT": "off"}
    command = [python, "-u", *(["-m", "leakagent"] if agent else []), str(program)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
    assert process.stdout is not None
    while process.stdout.readline() not in {b"ready\n", b""}:
        pass
    begin = time.monotonic()
    for number in signals:
        time.sleep(0.05)
        process.send_signal(number)
    try:
        output = process.communicate(timeout=LIMIT)[0].decode()
    except subprocess.TimeoutExpired:
        process.kill()
        output = process.communicate()[0].decode()
        return f"hangs{_what_ran(output)}"
    return f"{time.monotonic() - begin:.1f} s, {process.returncode}{_what_ran(output)}"


def _what_ran(output: str) -> str:
    jobs = output.count("job\n")
    return (f", {jobs} jobs" if jobs else "") + ("" if "exit handler" in output else ", no exit handler")


def table(python: str, matrix: dict[str, object]) -> str:
    """Return the table of one interpreter."""
    ends, left, program = matrix["ENDS"], matrix["LEFT"], matrix["program"]
    assert isinstance(ends, dict)
    assert isinstance(left, dict)
    assert callable(program)
    lines = ["| left behind | " + " | ".join(ends) + " |", "|---|" + "---|" * len(ends)]
    with tempfile.TemporaryDirectory(prefix="leakagent-exit-") as folder:
        for what in left:
            for agent in (False, True):
                cells = []
                for how, (signals, _, _) in ends.items():
                    path = Path(folder, "app.py")
                    path.write_text(program(what, how), encoding="utf-8")
                    cells.append(end(python, path, signals, agent=agent))
                lines.append(f"| {what}, {'leakagent' if agent else 'bare'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def seconds(python: str, program: Path, number: int, *, agent: bool) -> float:
    """Return how long a program takes to end when it has printed its last word, or was sent a signal."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [python, "-u", *(["-m", "leakagent"] if agent else []), str(program)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0) as process:
        assert process.stdout is not None
        while process.stdout.readline() not in {b"ready\n", b""}:
            pass
        if number:
            time.sleep(0.1)  # it waits by then
        begin = time.monotonic()
        if number:
            process.send_signal(number)
        # With a limit of its own `wait` looks at ever longer intervals, and the time would be one of these.
        limit = threading.Timer(60, process.kill)
        limit.start()
        process.wait()
        limit.cancel()
        return time.monotonic() - begin


def delays(python: str, matrix: dict[str, object], pairs: int) -> str:
    """Return the table of one interpreter about programs that leave nothing."""
    clean, ends = matrix["CLEAN"], {"normal": 0, "SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}
    assert isinstance(clean, dict)
    lines = ["| nothing left behind | " + " | ".join(ends) + " |", "|---|" + "---|" * len(ends)]
    with tempfile.TemporaryDirectory(prefix="leakagent-exit-") as folder:
        path = Path(folder, "app.py")
        for name, text in clean.items():
            cells = []
            for number in ends.values():
                path.write_text(f"{text}\nprint('ready')\n" + (WAIT if number else ""), encoding="utf-8")
                found = [[seconds(python, path, number, agent=agent) for agent in (False, True)] for _ in range(pairs)]
                bare, with_agent = (min(column) for column in zip(*found, strict=True))
                cells.append(f"{bare * 1000:.0f} ms {(with_agent - bare) * 1000:+.0f} ms")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Print a table per interpreter, and write all of them as one document."""
    parser = argparse.ArgumentParser(description="How programs end, bare and under leakagent.")
    parser.add_argument("--python", action="append", help="an interpreter; may be given several times")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of runs of each program that leaves nothing")
    parser.add_argument("--markdown", type=Path, help="where the document is written")
    options = parser.parse_args()
    # In the background of a shell Ctrl+C is ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    matrix = runpy.run_path(str(ROOT / "tests" / "process" / "exit_matrix.py"))
    parts = ["# How programs end", (__doc__ or "").split("\n\n", 2)[2].strip()]
    for python in options.python or [sys.executable]:
        version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.strip()
        machine = f"({os.cpu_count()} processors, load {os.getloadavg()[0]:.0f})"
        parts += [f"## {version} {machine}", delays(python, matrix, options.pairs), table(python, matrix)]
        print("\n\n".join(parts[-3:]), flush=True)
    if options.markdown:
        options.markdown.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
