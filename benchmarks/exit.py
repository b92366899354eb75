"""How programs end, bare and under leakagent: time from the order to end until the end, status, and what still ran.

    python benchmarks/exit.py --python PYTHON [--python PYTHON...] [--markdown OUT]

The programs and the ways to end them are those of ``tests/process/exit_matrix.py``, whose rows are asserted by order and status in a
test.  Times are those of one run each, on whatever machine this is: read them as ratios.  A program that has not ended after
`LIMIT` seconds is killed: "hangs".
"""

from __future__ import annotations

import argparse
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 8.0


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


def main() -> int:
    """Print a table per interpreter, and write all of them as one document."""
    parser = argparse.ArgumentParser(description="How programs end, bare and under leakagent.")
    parser.add_argument("--python", action="append", help="an interpreter; may be given several times")
    parser.add_argument("--markdown", type=Path, help="where the document is written")
    options = parser.parse_args()
    matrix = runpy.run_path(str(ROOT / "tests" / "process" / "exit_matrix.py"))
    parts = ["# How programs end", (__doc__ or "").split("\n\n", 2)[2].strip()]
    for python in options.python or [sys.executable]:
        version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.strip()
        parts += [f"## {version}", table(python, matrix)]
        print("\n\n".join(parts[-2:]), flush=True)
    if options.markdown:
        options.markdown.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
