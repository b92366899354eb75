"""What `import chromadb` and `import lancedb` cost under the agent: paired runs, processor time, medians of the ratios.

    python benchmarks/imports.py [PAIRS]

Needs both libraries and leakagent.  Bare and under the agent run in turn, so that a busy machine slows both.  Only the import counts: the program
reads its own processor time before and after it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

PROGRAM = """\
import sys, time
begin = time.process_time()
import {library}
print(time.process_time() - begin, "leakagent" in sys.modules)
"""

LIBRARIES = ("chromadb", "lancedb")


def seconds(library: str, *front: str) -> float:
    """Return the processor time of one import."""
    command = [sys.executable, *front, "-c", PROGRAM.format(library=library)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    taken, active = text.split()
    if (active == "True") != bool(front):
        message = f"leakagent was {'not ' if front else ''}active"
        raise SystemExit(message)
    return float(taken)


def main() -> int:
    """Print a line for each library."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    for library in LIBRARIES:
        ratios, bare = [], []
        for _ in range(pairs):
            bare.append(seconds(library))
            ratios.append(seconds(library, "-m", "leakagent", "--report", "off") / bare[-1])
        low, middle, high = (sorted(ratios)[number] for number in (pairs // 4, pairs // 2, -1 - pairs // 4))
        print(
            f"import {library}: {statistics.median(bare):.2f} s of processor time bare, "
            f"ratio {middle:.3f} (quartiles {low:.3f} to {high:.3f}, {pairs} pairs)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
