"""The one table of a TOML file that Python 3.10 has to read without ``tomllib``.

Only what the settings need: ``key = value`` with strings, numbers, booleans and lists of them, a list also over several
lines.  Anything else in that table is refused with a clear message, everything outside of it is passed over.
"""

from __future__ import annotations

import ast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def table(text: str, name: str) -> dict[str, Any]:
    """Return the key-value pairs of the table ``name``.

    Raises:
        ValueError: A line of the table is not understood.

    """
    found: dict[str, Any] = {}
    inside = False
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, raw in lines:
        line = raw.strip()
        if line.startswith("["):
            header = line.partition("#")[0].strip().replace(" ", "")
            inside = header == f"[{name}]"
            if header == f"[{name}":
                raise _not_understood(line, number)
        elif inside and line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            key = key.strip().strip("\"'")
            if not equals or key in found:
                raise _not_understood(line, number)
            found[key] = _value(value.strip(), number, lines)
    return found


def _value(text: str, number: int, lines: Iterator[tuple[int, str]]) -> Any:  # noqa: ANN401 - any TOML value
    """Return a value; one that is not complete goes on in the next lines."""
    known, value = _literal(text)
    while not known and text.startswith("["):
        following = next(lines, None)
        if following is None:
            break
        text += "\n" + following[1]
        known, value = _literal(text)
    if not known:
        raise _not_understood(text, number)
    return value


def _not_understood(text: str, number: int) -> ValueError:
    return ValueError(f"line {number} is not understood: {text[:60]}")


def _literal(text: str) -> tuple[bool, Any]:
    # TOML's simple values are Python literals but for the booleans and for single quotes, which take everything as it is; a
    # comment behind them is Python's as well.
    word = text.partition("#")[0].strip()
    if word in {"true", "false"}:
        return True, word == "true"
    try:
        value = ast.literal_eval("r" + text if text.startswith("'") else text)
    except (ValueError, SyntaxError):
        return False, None
    # What Python knows and TOML does not.
    return isinstance(value, (str, int, float, list)) and not isinstance(value, bool), value
