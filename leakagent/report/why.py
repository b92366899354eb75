"""What keeps a process alive (`leakagent.why`), as lines for people."""

from __future__ import annotations

from .words import kind_name, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Frames that are shown of each culprit.
_FRAMES = 4


def lines(found: dict[str, Any], *, unicode: bool = True) -> list[str]:
    """Return the lines.

    Args:
        found: From `leakagent.why.why`.
        unicode: Whether more than ASCII can be shown.

    """
    shown = []
    if found["state"] == "running":
        shown += ["the main thread still runs:", *(f"     {frame}" for frame in found["main"])]
    else:
        shown.append("the main thread has ended" + ("; Python waits for:" if found["culprits"] else ", and is in:"))
        shown += [] if found["culprits"] else [f"     {frame}" for frame in found["main"]]
    if found["state"] == "running" and found["culprits"]:
        shown.append("and Python will wait for:" if not found["ending"] else "its event loop waits for:")
    for one in found["culprits"]:
        site = one["site"]
        shown.append(f"  {kind_name(one['kind'])}  {safe(one['name'], 80)}")
        if site["line"]:
            shown.append(f"     {one['owner']:<7}  {site['file']}:{site['line']} {site['function']}")
        shown += [f"     > {one['source']}"] if one["source"] else []
        shown += [f"     in {one['frames'][0]}"] if one["frames"] else []
        shown += [f"        {frame}" for frame in one["frames"][1:_FRAMES]]
        shown.append(f"     fix  {one['fix']}")
    return [safe(line, 400, unicode=unicode) for line in shown]
