"""What `import chromadb` and `import lancedb` cost under the agent, in instructions of the main thread (callgrind) or in processor time.

    python benchmarks/imports.py [--time PAIRS] [LIBRARY...]

Needs the libraries, leakagent and valgrind; ends with status 1 if a ratio is above `TARGET`.  Instructions do not depend on what else the machine does.
The same program without its import runs as well, and is subtracted: only the import counts.  Bare runs first and last: the difference is the noise.
With ``--time`` both read their own processor time in turn, and medians of the ratios are told.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

#: The most that the import may cost, over bare.
TARGET = 1.02

#: Ends at once: what the end costs is no cost of the import.
PROGRAM = """\
import os, sys, time
begin = time.process_time()
{what}
print(time.process_time() - begin, "leakagent" in sys.modules, flush=True)
os._exit(0)
"""

LIBRARIES = ("chromadb", "lancedb")
AGENT = ("-m", "leakagent", "--report", "off")
#: Counted by thread: native libraries start some that spin, how often depends on what else the machine does.
VALGRIND = ("valgrind", "--tool=callgrind", "--separate-threads=yes")


def ran(what: str, *front: str, before: tuple[str, ...] = ()) -> float:
    """Run the program, and return the processor time of what it does."""
    command = [*before, sys.executable, *front, "-c", PROGRAM.format(what=what)]
    # The same dictionaries in every run.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        message = f"status {done.returncode}: {done.stderr[-500:]}"
        raise SystemExit(message)
    taken, active = done.stdout.split()
    if (active == "True") != bool(front):
        message = f"leakagent was {'not ' if front else ''}active"
        raise SystemExit(message)
    return float(taken)


def instructions(library: str, *front: str) -> int:
    """Return how many instructions an import takes in the main thread."""
    counts = []
    for what in (f"import {library}", "pass"):
        with tempfile.TemporaryDirectory() as folder:
            ran(what, *front, before=(*VALGRIND, f"--callgrind-out-file={folder}/counted"))
            text = Path(folder, "counted-01").read_text(encoding="utf-8")
        found = re.search(r"^totals: (\d+)", text, re.MULTILINE)
        if not found:
            message = f"valgrind counted nothing: {text[-500:]}"
            raise SystemExit(message)
        counts.append(int(found[1]))
    return counts[0] - counts[1]


def by_instructions(library: str) -> float:
    """Print a line and return the ratio."""
    bare, agent, again = instructions(library), instructions(library, *AGENT), instructions(library)
    ratio = 2 * agent / (bare + again)
    noise = abs(again / bare - 1)
    print(
        f"import {library}: {bare / 1e9:.3f} thousand million instructions bare, ratio {ratio:.4f} (noise {noise:.4f})",
        flush=True,
    )
    return ratio


def by_time(library: str, pairs: int) -> float:
    """Print a line and return the median ratio."""
    ratios, bare = [], []
    for _ in range(pairs):
        bare.append(ran(f"import {library}"))
        ratios.append(ran(f"import {library}", *AGENT) / bare[-1])
    low, middle, high = (sorted(ratios)[number] for number in (pairs // 4, pairs // 2, -1 - pairs // 4))
    print(
        f"import {library}: {statistics.median(bare):.2f} s of processor time bare, "
        f"ratio {middle:.3f} (quartiles {low:.3f} to {high:.3f}, {pairs} pairs)",
        flush=True,
    )
    return middle


def main() -> int:
    """Print a line for each library."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=int, metavar="PAIRS", default=0, help="processor time of so many pairs, not instructions")
    parser.add_argument("libraries", nargs="*", metavar="LIBRARY", default=[*LIBRARIES])
    options = parser.parse_args()
    ratios = [by_time(one, options.time) if options.time else by_instructions(one) for one in options.libraries]
    return int(max(ratios) > TARGET)


if __name__ == "__main__":
    sys.exit(main())
