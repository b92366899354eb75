"""Leaks that are accepted: a file with their fingerprints, made from a report (``leakagent baseline``).

It is meant to be kept with the program, so it says for each what it is and where, sorted, without counts and ages that change from run to run.
"""

from __future__ import annotations

import json

from .words import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from leakagent.core.findings import Finding

SCHEMA = "leakagent.baseline/1"


def dumps(findings: Iterable[Finding]) -> str:
    """Return the file that accepts these findings."""
    leaks = {
        one.fingerprint: {
            "fingerprint": one.fingerprint,
            "reason": one.reason,
            "kind": one.kind,
            "file": one.site.file,
            "function": one.site.function,
            "source": one.source,
        }
        for one in findings
    }
    ordered = sorted(leaks.values(), key=lambda leak: (leak["file"], leak["function"], leak["fingerprint"]))
    return json.dumps({"schema": SCHEMA, "leaks": ordered}, indent=1) + "\n"


def read(path: str) -> frozenset[str]:
    """Return the fingerprints in a file.

    Raises:
        OSError: It can't be read.
        ValueError: It is no baseline.

    """
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        data = json.loads(text)
    except RecursionError:
        message = "not a baseline of leakagent: values in values, too deep to be read"
        raise ValueError(message) from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or not isinstance(data.get("leaks"), list):
        message = f"not a baseline of leakagent: expected schema {SCHEMA!r} (make one: leakagent baseline REPORT > FILE)"
        raise ValueError(message)
    found = [leak.get("fingerprint") if isinstance(leak, dict) else None for leak in data["leaks"]]
    known = [one for one in found if isinstance(one, str) and one]
    if len(known) < len(found):
        message = "not a baseline of leakagent: each of its leaks needs a fingerprint"
        raise ValueError(message)
    return frozenset(known)


def problem(path: str, error: Exception) -> str:
    """Say in one line why a file can't be used."""
    return f"baseline {safe(path, 300)}: {safe(getattr(error, 'strerror', None) or error, 300)}"
