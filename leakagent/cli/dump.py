"""``leakagent dump PID``: the JSON report of a living process."""

from __future__ import annotations

import json
import sys

from leakagent.live import client


def main(words: list[str]) -> None:
    """Print the report; status 1 if the process can't be asked, 2 for wrong usage."""
    if len(words) != 1 or not (words[0].isascii() and words[0].isdecimal()):
        sys.stderr.write("leakagent: usage: leakagent dump PID\n")
        raise SystemExit(2)
    try:
        report = client.ask(int(words[0]), "dump")
    except client.NoAnswerError as error:
        sys.stderr.write(f"leakagent: {error}\n")
        raise SystemExit(1) from None
    print(json.dumps(report, indent=1))  # noqa: T201 - the command's output
