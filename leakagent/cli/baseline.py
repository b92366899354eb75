"""``leakagent baseline REPORT``: print the file that accepts the leaks of a report."""

from __future__ import annotations

import sys

from leakagent.report import baseline

from .report import fail, read


def main(words: list[str]) -> None:
    """Print it; status 2 for wrong usage, 1 if the report can't be read."""
    if len(words) != 1 or words[0].startswith("-"):
        fail("baseline takes one file: leakagent baseline REPORT > leakagent-baseline.json", 2)
    sys.stdout.write(baseline.dumps(read(words[0]).findings))
