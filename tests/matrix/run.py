"""Runs real programs in an environment of each release, and writes docs/support.md; a row that fails fails the script.

    python tests/matrix/run.py [LIBRARY[==RELEASE[:PART]]...]

Without arguments everything is run.  With arguments those are run, PART being the name of one of the functions of ``rows.ROWS``; what was not run
again stays as it was.  Everything is kept in results.json beside this file with its day and commit, and the table is made from that.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

sys.path.insert(0, os.fspath(Path(__file__).parent))

import environments
import rows

TABLE = environments.ROOT / "docs" / "support.md"

#: "LIBRARY==RELEASE" -> part -> day, commit, seconds, rows.
RESULTS = Path(__file__).with_name("results.json")

#: Environments at work at once: programs mostly wait.
JOBS = 3

HEAD = """\
# What is supported

Written by `make matrix` (`tests/matrix/run.py`), which makes one environment for each release and runs the programs of
`tests/matrix/programs/` in it, on Python 3.11. A row that fails fails the script. `make test` runs the newest releases.
{when}

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
    unknown = sorted({*asked} - {name for library, release, _ in environments.RELEASES for name in _names(library, release)})
    if unknown:
        print(f"not in tests/matrix: {', '.join(unknown)}", file=sys.stderr)
        return 2
    results: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    commit = _commit()
    with environments.wheel() as built, ThreadPoolExecutor(JOBS) as pool:
        running = [
            pool.submit(
                _run,
                library,
                release,
                more,
                [part for part in rows.ROWS[library] if _is_asked(asked, library, release, part)],
                built,
            )
            for library, release, more in environments.RELEASES
            if any(_is_asked(asked, library, release, part) for part in rows.ROWS[library])
        ]
        for future in as_completed(running):
            name, found = future.result()
            day = dt.datetime.now(tz=dt.timezone.utc).date().isoformat()
            for part, (seconds, made) in found.items():
                kept = [dataclasses.asdict(row) for row in made]
                results.setdefault(name, {})[part] = {"day": day, "commit": commit, "seconds": seconds, "rows": kept}
                for row in made:
                    print(row.line(), flush=True)
            # At once: a run of all takes long, and is sometimes ended.
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            TABLE.write_text(page(results), encoding="utf-8")
    missing = _missing(results)
    if missing:
        print(f"-- not run yet: {', '.join(missing)}", file=sys.stderr)
    every = [rows.Row(**row) for parts in results.values() for part in parts.values() for row in part["rows"]]
    bad = [row for row in every if row.problem]
    for row in bad:
        print(f"-- failed: {row.library} {row.release} {row.constructor} {row.left}: {row.problem}", file=sys.stderr)
    print(json.dumps({"rows": len(every), "failed": len(bad)}))
    return 1 if bad or missing else 0


def page(results: dict[str, dict[str, Any]]) -> str:
    """Return the page of the documentation.

    Args:
        results: What is kept in `RESULTS`; what is of no release of ``environments.RELEASES`` any more is left out.

    """
    parts = [
        results[f"{library}=={release}"][part.__name__]
        for library, release, _ in environments.RELEASES
        for part in rows.ROWS[library]
        if part.__name__ in results.get(f"{library}=={release}", {})
    ]
    ran = Counter((part["day"], part["commit"]) for part in parts)
    number = {when: sum(len(part["rows"]) for part in parts if (part["day"], part["commit"]) == when) for when in ran}
    when = "; ".join(f"{number[one]} rows on {one[0]} with commit {one[1]}" for one, _ in ran.most_common())
    missing = _missing(results)
    said = f"\nRun: {when}." + (f" Not run yet: {', '.join(missing)}." if missing else "")
    return HEAD.format(when=said) + "".join(rows.Row(**row).line() + "\n" for part in parts for row in part["rows"])


def _missing(results: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"{library}=={release}:{part.__name__}"
        for library, release, _ in environments.RELEASES
        for part in rows.ROWS[library]
        if part.__name__ not in results.get(f"{library}=={release}", {})
    ]


def _names(library: str, release: str) -> list[str]:
    return [library, f"{library}=={release}", *(f"{library}=={release}:{part.__name__}" for part in rows.ROWS[library])]


def _is_asked(asked: list[str], library: str, release: str, part: rows.Part) -> bool:
    return not asked or bool({library, f"{library}=={release}", f"{library}=={release}:{part.__name__}"} & {*asked})


def _run(
    library: str, release: str, more: list[str], parts: list[rows.Part], built: Path
) -> tuple[str, dict[str, tuple[int, list[rows.Row]]]]:
    """Run parts of a release; returns its name, and of each part the seconds and the rows."""
    python = environments.interpreter(library, release, more, built)
    found = {}
    for part in parts:
        start = time.monotonic()
        made = rows.run(library, release, python, part)
        found[part.__name__] = round(time.monotonic() - start), made
    return f"{library}=={release}", found


def _commit() -> str:
    """Return the commit of the checkout, with "-dirty" if files were changed since (others than what this writes)."""
    git = ["git", "-C", os.fspath(environments.ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    written = [f":(exclude){os.path.relpath(path, environments.ROOT)}" for path in (RESULTS, TABLE)]
    status = [*git, "status", "--porcelain", "--untracked-files=no", "--", ":/", *written]
    changed = subprocess.run(status, capture_output=True, text=True, check=True)
    return commit + ("-dirty" if changed.stdout else "")


if __name__ == "__main__":
    sys.exit(main())
