"""The one table of a TOML file that Python 3.10 has to read without ``tomllib``.

Only what the settings need: ``key = value`` lines with strings, numbers, booleans and lists of strings on one line.
Anything else in that table is refused with a clear message, everything outside of it is passed over.
"""

from __future__ import annotations

import ast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def table(text: str, name: str) -> dict[str, Any]:
    """Return the key-value pairs of the table ``name``.

    Raises:
        ValueError: A line of the table is not understood.

    """
    found: dict[str, Any] = {}
    inside = False
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("["):
            inside = line.partition("#")[0].strip() == f"[{name}]"
        elif inside and line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            if not equals:
                message = f"line {number} is not understood: {line[:60]}"
                raise ValueError(message)
            found[key.strip().strip("\"'")] = _value(value.strip(), number)
    return found


def _value(text: str, number: int) -> Any:  # noqa: ANN401 - any TOML value
    # TOML's simple values are Python literals but for the booleans; a comment behind them is Python's as well.
    literal = {"true": "True", "false": "False"}.get(text.partition("#")[0].strip(), text)
    try:
        return ast.literal_eval(literal)
    except (ValueError, SyntaxError):
        message = f"line {number} is not understood: {text[:60]}"
        raise ValueError(message) from None
