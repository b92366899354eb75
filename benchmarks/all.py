"""Runs every benchmark in this interpreter's environment, and writes `benchmarks/results.json` and `docs/benchmarks.md` with its plots.

    python benchmarks/all.py [--quick] [BENCHMARK...]

``make bench`` does that in an environment of its own.  A benchmark that fails leaves the figures of its last run where they were,
is named, and does not stop the others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import report

HERE = Path(__file__).resolve().parent
BENCHMARKS = ("startup", "times", "scale", "memory", "executors", "exit_time", "pause", "async_tree", "otel", "web")
#: Rounds that show whether a benchmark runs, and little else.
QUICK = "2"


def main() -> int:
    """Run them, and return 1 if one has failed."""
    parser = argparse.ArgumentParser(description="Runs every benchmark.")
    parser.add_argument("--quick", action="store_true", help="two rounds of each")
    parser.add_argument("benchmark", nargs="*", choices=[*BENCHMARKS, []], help="all by default")
    options = parser.parse_args()
    failed = []
    for name in options.benchmark or BENCHMARKS:
        command = [sys.executable, str(HERE / f"{name}.py"), *(["--rounds", QUICK] if options.quick else [])]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    report.write()
    if failed:
        print(f"failed, with the figures of their last run kept: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
