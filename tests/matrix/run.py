"""Runs real programs in an environment of each release, and writes docs/support.md; a row that fails fails the script.

    python tests/matrix/run.py [LIBRARY[==RELEASE]...]

What is named is run again, and its rows replace those in the file; without arguments everything is run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).parent))

import environments
import rows

TABLE = environments.ROOT / "docs" / "support.md"

#: Environments at work at once: programs mostly wait.
JOBS = 3

HEAD = """\
# What is supported

Written by `make matrix` (`tests/matrix/run.py`), which makes one environment for each release and runs the programs of
`tests/matrix/programs/` in it, on Python 3.11. A row that fails fails the script. `make test` runs the newest releases.

- *found*: clients that are told with their line, of those that a leak was planted in, and none of those that were closed;
- *closed*: what was done about them;
- *remains*: what the process has more than before (threads, descriptors, Systems) when everything was closed, by the agent where the program
  has not. "as closed by hand" means that a program which closes its clients itself leaves the same.

The row *all that was opened* compares two whole processes, one that closes everything itself without leakagent, and one that leaves it to leakagent: what
is named there belongs to the library, which never gives it back (of chromadb up to 1.5.2 a Python thread as well, posthog's). Rows about *writing* end a program in the middle of its writes, bare and
under leakagent, and look for all rows that it had said to be written. Of other libraries' clients each line has made ten.

| library | release | constructor | left | found | closed | remains | |
|---|---|---|---|---|---|---|---|
"""


def main() -> int:
    """Run what is asked for, write the table, and say whether every row is well."""
    # A shell that starts this in the background has it ignore Ctrl+C, and all that it starts as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asked = sys.argv[1:]
    known = {library for library, _, _ in environments.RELEASES} | {
        f"{name}=={release}" for name, release, _ in environments.RELEASES
    }
    unknown = [name for name in asked if name not in known]
    if unknown:
        print(f"not in tests/matrix/environments.py: {', '.join(unknown)}", file=sys.stderr)
        return 2
    table = {(library, release): _kept(library, release) for library, release, _ in environments.RELEASES}
    wanted = [one for one in environments.RELEASES if not asked or one[0] in asked or f"{one[0]}=={one[1]}" in asked]
    with environments.wheel() as built, ThreadPoolExecutor(JOBS) as pool:
        running = {pool.submit(_rows, *one, built): one[:2] for one in wanted}
        for future in as_completed(running):
            table[running[future]] = future.result()
            for row in future.result():
                print(row.line(), flush=True)
            # At once: a run of all takes long, and is sometimes ended.
            TABLE.write_text(HEAD + "".join(row.line() + "\n" for found in table.values() for row in found), encoding="utf-8")
    missing = [f"{library} {release}" for (library, release), found in table.items() if not found]
    if missing:
        print(f"-- no rows yet: {', '.join(missing)}", file=sys.stderr)
    every = [row for found in table.values() for row in found]
    bad = [row for row in every if row.problem]
    for row in bad:
        print(f"-- failed: {row.library} {row.release} {row.constructor} {row.left}: {row.problem}", file=sys.stderr)
    print(json.dumps({"rows": len(every), "failed": len(bad)}))
    return 1 if bad or missing else 0


def _rows(library: str, release: str, more: list[str], built: Path) -> list[rows.Row]:
    return rows.run(library, release, environments.interpreter(library, release, more, built))


def _kept(library: str, release: str) -> list[rows.Row]:
    if not TABLE.exists():
        return []
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {library} | {release} |")]
    return [rows.Row.from_line(line) for line in lines]


if __name__ == "__main__":
    sys.exit(main())
