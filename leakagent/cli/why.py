"""``leakagent why PID``: what keeps a process alive, the culprit first, with its line and the fix."""

from __future__ import annotations

import json
import sys

from leakagent.live import client
from leakagent.report.words import kind_name, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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
    print(json.dumps(found, indent=1) if "--json" in words else "\n".join(_lines(found)))  # noqa: T201 - the output


def _lines(found: dict[str, Any]) -> list[str]:
    lines = []
    if found["state"] == "running":
        lines += ["the main thread still runs:", *(f"     {safe(frame)}" for frame in found["main"])]
    else:
        lines.append("the main thread has ended" + ("; Python waits for:" if found["culprits"] else ", and is in:"))
        lines += [] if found["culprits"] else [f"     {safe(frame)}" for frame in found["main"]]
    for one in found["culprits"]:
        site = one["site"]
        lines.append(f"  {kind_name(one['kind'])}  {safe(one['name'], 80)}")
        if site["line"]:
            lines.append(f"     {one['owner']:<7}  {safe(site['file'])}:{site['line']} {safe(site['function'])}")
        lines += [f"     > {safe(one['source'])}"] if one["source"] else []
        lines += [f"     in {safe(one['frames'][0])}"] if one["frames"] else []
        lines += [f"        {safe(frame)}" for frame in one["frames"][1:4]]
        lines.append(f"     fix  {safe(one['fix'], 300)}")
    return lines
