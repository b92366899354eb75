"""``leakagent ps``: every process of this user that can be asked."""

from __future__ import annotations

import json
import sys

from leakagent.live import client
from leakagent.report.words import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(words: list[str]) -> None:
    """List the processes; status 2 for wrong usage."""
    if words not in ([], ["--json"]):
        sys.stderr.write("leakagent: usage: leakagent ps [--json]\n")
        raise SystemExit(2)
    found = client.everybody()
    if words:
        print(json.dumps({"schema": "leakagent.ps/1", "processes": found}))  # noqa: T201 - the command's output
        return
    if not found:
        print(f"leakagent: {client.NOBODY}")  # noqa: T201
        return
    print(f"{'PID':>8}  {'STATE':<8} {'PYTHON':<8} PROGRAM")  # noqa: T201
    for one in found:
        print(_line(one))  # noqa: T201


def _line(one: dict[str, Any]) -> str:
    open_now = ", ".join(f"{number} {safe(kind)}" for kind, number in one.get("live", {}).items())
    program = " ".join(filter(None, (safe(str(one.get("program", "")), 60), f"({open_now})" if open_now else "")))
    return f"{one['pid']:>8}  {safe(str(one['state'])):<8} {safe(str(one.get('python', ''))):<8} {program}".rstrip()
