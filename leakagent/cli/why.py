"""``leakagent why PID``: what keeps a process alive, the culprit first, with its line and the fix."""

from __future__ import annotations

import json
import sys

from leakagent.live import client
from leakagent.report.why import lines


def main(words: list[str]) -> None:
    """Print it; status 1 if the process can't be asked, 2 for wrong usage."""
    rest = [word for word in words if word != "--json"]
    if len(rest) != 1 or not (rest[0].isascii() and rest[0].isdecimal()):
        sys.stderr.write("leakagent: usage: leakagent why PID [--json]\n")
        raise SystemExit(2)
    try:
        found = client.ask(int(rest[0]), "why")
    except client.NoAnswerError as error:
        sys.stderr.write(f"leakagent: {error}\n")
        raise SystemExit(1) from None
    print(json.dumps(found, indent=1) if "--json" in words else "\n".join(lines(found)))  # noqa: T201 - the output
