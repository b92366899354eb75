"""The value of ``LEAKAGENT_REPORT`` and ``--report``; imported at start-up, so this module needs nothing."""

from __future__ import annotations

TEXT = "text"
JSON = "json"
HTML = "html"
MARKDOWN = "markdown"
GITHUB = "github"
OFF = "off"

_FILES = (JSON, HTML, MARKDOWN)
_ALLOWED = "text, json:PATH, html:PATH, markdown:PATH, github, or off alone"


class Target:
    """One report to write.

    Attributes:
        format: ``text``, ``json``, ``html``, ``markdown`` or ``github``.
        path: File to write, as the user gave it; empty for ``text`` and ``github``, which are printed.

    """

    __slots__ = ("format", "path")

    def __init__(self, format: str, path: str = "") -> None:  # noqa: A002 - the word that the documentation uses
        """Note a target."""
        self.format = format
        self.path = path

    def __eq__(self, other: object) -> bool:
        """Two targets are equal when they write the same."""
        return isinstance(other, Target) and (self.format, self.path) == (other.format, other.path)

    def __hash__(self) -> int:
        """Hash over format and path."""
        return hash((self.format, self.path))

    def __repr__(self) -> str:
        """Show the target as in a report value."""
        return f"<Target {self.format}:{self.path}>" if self.path else f"<Target {self.format}>"


def parse_spec(text: str) -> list[Target]:
    """Read a report value.

    Args:
        text: A comma list of ``text``, ``json:PATH``, ``html:PATH``, ``markdown:PATH``, ``github``, or ``off`` alone.
            ``{pid}`` in a path stays, and is replaced when the report is written.

    Returns:
        The targets in order; none for ``off``.

    Raises:
        ValueError: With one sentence that names the wrong part and what is allowed.

    """
    targets: list[Target] = []
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        name, colon, path = part.partition(":")
        name, path = name.strip().lower(), path.strip()
        if name == OFF and not colon:
            if len(parts) > 1:
                raise _error(part, "can't be combined with other reports")
            return []
        _check(part, name, colon, path)
        target = Target(name, path)
        if target in targets:
            raise _error(part, "is given twice")
        if path and any(path == known.path for known in targets):
            raise _error(part, "names a file that another report goes to")
        targets.append(target)
    return targets


def _check(part: str, name: str, colon: str, path: str) -> None:
    if not part:
        raise _error(part, "is no report format")
    if name in (TEXT, GITHUB, OFF):
        if colon:
            raise _error(part, "takes no path")
    elif name not in _FILES:
        raise _error(part, "is no report format")
    elif not path:
        raise _error(part, "needs a path")
    elif path.endswith("/"):
        raise _error(part, "names a folder where a file is needed")
    elif "\0" in path:
        raise _error(part, "has a path that no file can have")


def _error(part: str, problem: str) -> ValueError:
    return ValueError(f"{part!r} {problem}; allowed: a comma list of {_ALLOWED}")
