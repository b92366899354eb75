"""Fail open: an error inside the agent is told once, switches that part off, and never reaches the program."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Part -> why it is off; read by ``leakagent doctor`` and by the report.
disabled: dict[str, str] = {}

_told: set[str] = set()


def say(line: str) -> None:
    """Write one line to stderr, once per process; a closed or broken stderr is survived."""
    if line in _told:
        return
    _told.add(line)
    stream = sys.stderr
    try:
        if stream is None:
            return
        stream.write(f"leakagent: {line}\n")
        stream.flush()
    except Exception:  # noqa: BLE001 - there is nowhere left to complain to
        return


def failed(part: str, error: BaseException) -> None:
    """Note that ``part`` broke with ``error``: told once, listed as disabled."""
    if part in disabled:
        return
    disabled[part] = f"{type(error).__name__}: {error}"
    say(f"{part} switched off after an error of leakagent's own: {type(error).__name__}: {error}")


def call(part: str, function: Callable[..., Any], *args: object) -> Any:  # noqa: ANN401 - whatever it returns
    """Call ``function``; an exception switches ``part`` off and gives None."""
    try:
        return function(*args)
    except Exception as error:  # noqa: BLE001 - the program must never see it
        failed(part, error)
        return None
