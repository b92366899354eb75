"""Fail open: an error inside the agent is told once, switches that part off, and never reaches the program."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Part -> why it is off; read by ``leakagent doctor`` and by the report.
disabled: dict[str, str] = {}

#: What the names of parts begin with that other packages bring (`leakagent.instrumentation.plugins`).
PLUGIN = "plug-in "

_told: set[str] = set()
_silent: list[bool] = []


def say(line: str, *, at_any_rate: bool = False) -> None:
    """Write one line to stderr, once in the whole tree of processes; a closed or broken stderr is survived.

    Args:
        line: What to say.
        at_any_rate: In a child as well.

    """
    if line in _told or (_silent and not at_any_rate):
        return
    _told.add(line)
    text = f"leakagent: {line}\n"
    try:
        stream, own = sys.stderr, sys.__stderr__
        if own is not None and stream is own and os.name == "posix":
            # Past the stream: what it can't get rid of stays in its buffer, and Python then ends with status 120.
            own.flush()
            os.write(own.fileno(), text.encode(own.encoding, "backslashreplace"))
        elif stream is not None:
            stream.write(text)
            stream.flush()
    except Exception:  # noqa: BLE001 - there is nowhere left to complain to
        return


def be_silent() -> None:
    """Say nothing from now on: this is a child, whose errors are told by the process that the user started."""
    _silent[:] = [True]


def failed(part: str, error: BaseException) -> None:
    """Note that ``part`` broke with ``error``: told once, listed as disabled.

    Not while the interpreter takes its modules apart: everything breaks then, and nothing is left to be done.  Nor because the program's
    stack is full (`RecursionError`): in the middle of a collection or a callback there was no room for us, and a moment later there is.
    """
    if part in disabled or sys.is_finalizing() or isinstance(error, RecursionError):
        return
    disabled[part] = f"{type(error).__name__}: {error}"
    say(f"{part} switched off after an error{_whose(part)}: {type(error).__name__}: {error}")


def unfit(part: str, missing: list[str]) -> None:
    """Note that this Python has not what ``part`` needs: told once, listed as disabled."""
    disabled[part] = f"this Python has no {', '.join(missing)}"
    say(f"{part} switched off: {disabled[part]}")


def guarded(part: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator for what Python calls by itself (exit, fork and collector hooks, threads): its errors switch ``part`` off."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def entry(*args: object) -> Any:  # noqa: ANN401
            return call(part, function, *args)

        entry.__name__, entry.__doc__ = function.__name__, function.__doc__
        return entry

    return decorate


def failed_in_child(part: str, cause: str) -> None:
    """Note what a child has handed over: told once, however many children there are."""
    if part not in disabled:
        disabled[part] = cause
        say(f"{part} switched off in a child after an error{_whose(part)}: {cause}")


def _whose(part: str) -> str:
    return "" if part.startswith(PLUGIN) else " of leakagent's own"


def call(part: str, function: Callable[..., Any], *args: object) -> Any:  # noqa: ANN401 - whatever it returns
    """Call ``function``; an exception switches ``part`` off and gives None."""
    try:
        return function(*args)
    except Exception as error:  # noqa: BLE001 - the program must never see it
        try:
            failed(part, error)
        except Exception:  # noqa: BLE001 - at the recursion limit not even this can be told
            return None
        return None
