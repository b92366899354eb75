"""Runs real programs in an environment of each release, and writes docs/support.md; a row that fails fails the script.

    python tests/matrix/run.py [LIBRARY[==RELEASE]...]

What is named is run again, and its rows replace those in the file; without arguments everything is run.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).parent))

import environments
import rows

TABLE = environments.ROOT / "docs" / "support.md"

HEAD = """\
# What is supported

Written by `make matrix` (`tests/matrix/run.py`), which makes one environment for each release and runs the programs of
`tests/matrix/programs/` in it, on Python 3.11. A row that fails fails the script. `make test` runs the newest releases.

- *found*: clients that are told with their line, of those that a leak was planted in, and none of those that were closed;
- *closed*: what was done about them;
- *remains*: what the process has more than before (threads, sockets, files, Systems) when everything was closed, by the agent where the
  program has not. "as closed by hand" means that a program which closes its clients itself leaves the same.

| library | release | constructor | left | found | closed | remains | |
|---|---|---|---|---|---|---|---|
"""


def main() -> int:
    """Run what is asked for, write the table, and say whether every row is well."""
    asked = sys.argv[1:]
    known = {library for library, _, _ in environments.RELEASES} | {
        f"{name}=={release}" for name, release, _ in environments.RELEASES
    }
    unknown = [name for name in asked if name not in known]
    if unknown:
        print(f"not in tests/matrix/environments.py: {', '.join(unknown)}", file=sys.stderr)
        return 2
    table: list[rows.Row] = []
    kept = _kept()
    with environments.wheel() as built:
        for library, release, more in environments.RELEASES:
            if asked and library not in asked and f"{library}=={release}" not in asked:
                table += [row for row in kept if (row.library, row.release) == (library, release)]
                continue
            python = environments.interpreter(library, release, more, built)
            found = rows.run(library, release, python)
            for row in found:
                print(row.line(), flush=True)
            table += found
    TABLE.write_text(HEAD + "".join(row.line() + "\n" for row in table), encoding="utf-8")
    bad = [row for row in table if row.problem]
    for row in bad:
        print(f"-- failed: {row.library} {row.release} {row.constructor} {row.left}: {row.problem}", file=sys.stderr)
    print(json.dumps({"rows": len(table), "failed": len(bad)}))
    return 1 if bad else 0


def _kept() -> list[rows.Row]:
    if not TABLE.exists():
        return []
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "`" in line]
    return [rows.Row.from_line(line) for line in lines]


if __name__ == "__main__":
    sys.exit(main())
