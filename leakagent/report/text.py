"""The exit report for a terminal or a log: plain text, as wide as it is told, coloured only when asked."""

from __future__ import annotations

import os

from .fingerprint import merge
from .words import action_text, duration, exit_text, finite, headline, kind_name, place, reason_text, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from leakagent.core.findings import Finding, Report

#: Width where nobody knows better, in columns.
DEFAULT_WIDTH = 80
#: Most entries that are shown.
MOST_ENTRIES = 10

_NARROWEST = 40
_INDENT = " " * 9
_SHOWN_NAMES = 3
_SHOWN_EVIDENCE = 5
_SHOWN_FRAMES = 8
_TRACE_DIGITS = 8
_LONGEST_PARAGRAPH = 2000
_GAP = "   "

_BOLD = "1"
_DIM = "2"
_RED = "31"
_GREEN = "32"
_CYAN = "36"


def style_of(stream: object, environ: Mapping[str, str] | None = None) -> tuple[int, bool, bool]:
    """Return width, colour and unicode for a stream, as `render` takes them.

    Args:
        stream: Where the report will be printed; anything with or without ``isatty``, ``fileno`` and ``encoding``.
        environ: Environment (``COLUMNS``, ``NO_COLOR``, ``TERM``); ``os.environ`` when not given.

    """
    environ = os.environ if environ is None else environ
    terminal = _is_terminal(stream)
    color = terminal and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"
    return _width(stream, environ, terminal=terminal), color, _takes_unicode(stream)


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - a closed or a home-made stream
        return False


def _width(stream: object, environ: Mapping[str, str], *, terminal: bool) -> int:
    columns = environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and 0 < len(columns) <= 4 and int(columns):  # noqa: PLR2004 - up to 9999
        return int(columns)
    if terminal:
        try:
            return os.get_terminal_size(stream.fileno()).columns or DEFAULT_WIDTH  # type: ignore[attr-defined]
        except Exception:  # noqa: BLE001 - a terminal without a size, or a stream without a descriptor
            return DEFAULT_WIDTH
    return DEFAULT_WIDTH


def _takes_unicode(stream: object) -> bool:
    encoding = getattr(stream, "encoding", None)
    return isinstance(encoding, str) and encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig")


def render(report: Report, *, width: int = DEFAULT_WIDTH, color: bool = False, unicode: bool = True, details: str = "") -> str:
    """Return the exit report as lines of text, or an empty text when nothing was found.

    Args:
        report: What to tell.
        width: Columns; 0 or less when unknown.
        color: Whether to use terminal colours.
        unicode: False keeps every character within ASCII.
        details: Path of the JSON report, if one was written.

    """
    findings = merge(report.findings)
    if not findings:
        return ""
    page = _Page(max(width, _NARROWEST) if width > 0 else DEFAULT_WIDTH, color=color, unicode=unicode)
    page.wrapped("leakagent: " + headline(report, findings), "", "  ", _BOLD)
    page.line("")
    _entries(page, report, findings[:MOST_ENTRIES])
    if len(findings) > MOST_ENTRIES:
        page.line("")
        hint = _command(details) if details else "LEAKAGENT_REPORT=text,json:PATH"
        page.wrapped(f"... and {len(findings) - MOST_ENTRIES} more (details: {hint})", "  ", "  ")
    _footer(page, report, details)
    return "".join(page.lines)


class _Page:
    """Lines of a given width.  Paragraphs are made harmless here; a painted line is made of texts that are already."""

    def __init__(self, width: int, *, color: bool, unicode: bool) -> None:
        self.width = width
        self.color = color
        self.unicode = unicode
        self.lines: list[str] = []

    def safe(self, value: object, limit: int = 200) -> str:
        return safe(value, limit, unicode=self.unicode)

    def paint(self, style: str, text: str) -> str:
        return f"\033[{style}m{text}\033[0m" if self.color and style and text else text

    def line(self, text: str) -> None:
        self.lines.append(text + "\n")

    def wrapped(self, text: str, first: str, rest: str, style: str = "", *, taken: int | None = None) -> None:
        """Add a paragraph after ``first``, which takes ``taken`` columns; following lines begin with ``rest``."""
        taken = len(first) if taken is None else taken
        words = self.safe(text, _LONGEST_PARAGRAPH).split(" ")
        rows = _filled(words, " ", self.width - taken, self.width - len(rest))
        for index, row in enumerate(rows):
            # A CI runner takes a line that begins with two colons, after blanks, for a command.
            quoted = "\\" + row if row.startswith("::") else row
            self.line(((rest if index else first) + self.paint(style, quoted)).rstrip(" "))

    def pieces(self, pieces: list[str], between: str, indent: str) -> None:
        """Add pieces with ``between`` between them; a line is broken between pieces where that is possible."""
        room = self.width - len(indent)
        for row in _filled(pieces, between, room, room) if pieces else ():
            self.wrapped(row, indent, indent)


def _filled(parts: list[str], between: str, first_room: int, room: int) -> list[str]:
    """Fill rows with parts; a part that is longer than a row stays whole, so that a path can be copied."""
    rows: list[str] = []
    row = ""
    for part in parts:
        if row and len(row) + len(between) + len(part) > (room if rows else first_room):
            rows.append(row)
            row = part
        else:
            row = row + between + part if row else part
    return [*rows, row]


def _entries(page: _Page, report: Report, findings: list[Finding]) -> None:
    digits = max(2, *(len(str(finding.count)) for finding in findings))
    kinds = max(len(page.safe(kind_name(finding.kind))) for finding in findings)
    reasons = max(len(page.safe(reason_text(finding.reason))) for finding in findings)
    rows = [(finding, page.safe(place(finding.site), 400)) for finding in findings]
    # "  31 x " + kind + gap + reason + gap + owner, two blanks, place
    before = 2 + digits + 3 + kinds + len(_GAP) + reasons + len(_GAP) + len("library  ")
    one_line = all(before + len(where) <= page.width for _, where in rows)
    for finding, where in rows:
        head = f"  {finding.count:>{digits}} x {page.safe(kind_name(finding.kind)):<{kinds}}{_GAP}"
        reason = page.safe(reason_text(finding.reason))
        owner = f"{page.safe(finding.site.owner, 10):<7}  "
        if one_line:
            page.line(
                page.paint(_BOLD, head)
                + page.paint(_RED, f"{reason:<{reasons}}")
                + _GAP
                + page.paint(_DIM, owner)
                + page.paint(_CYAN, where)
            )
        else:
            page.wrapped(reason, page.paint(_BOLD, head), _INDENT, _RED, taken=len(head))
            page.line(_INDENT + page.paint(_DIM, owner) + page.paint(_CYAN, where))
        _details(page, report, finding)


def _details(page: _Page, report: Report, finding: Finding) -> None:
    if finding.source:
        page.line(_INDENT + page.paint(_DIM, "> " + page.safe(finding.source, max(page.width - len(_INDENT) - 2, 20))))
    dot = " \u00b7 " if page.unicode else "; "
    page.pieces([page.safe(piece, 300) for piece in _pieces(report, finding)], dot, _INDENT)
    for index, frame in enumerate(finding.stack[1 : _SHOWN_FRAMES + 1]):
        page.line(_INDENT + page.paint(_DIM, ("called from  " if not index else " " * 13) + page.safe(frame)))
    fix = _INDENT + page.paint(_GREEN, "fix") + "  "
    page.wrapped(finding.fix, fix, _INDENT + "     ", taken=len(_INDENT) + 5)


def _pieces(report: Report, finding: Finding) -> list[str]:
    pieces = []
    if finite(finding.oldest_age_s):
        pieces.append(("age " if finding.count == 1 else "oldest ") + duration(finding.oldest_age_s))
    if finding.names:
        pieces.append(_first(safe(name, 60) for name in finding.names))
    pieces += finding.evidence[:_SHOWN_EVIDENCE]
    if finding.test_id:
        pieces.append(f"made by test {finding.test_id}")
    if finding.trace_id:
        pieces.append(f"trace {finding.trace_id[:_TRACE_DIGITS]}")
    others = [pid for pid in finding.pids if pid != report.pid]
    if others:
        which = "process" if len(others) == 1 else "processes"
        pieces.append(f"in {which} {_first(str(pid) for pid in others)}")
    done = action_text(finding)
    return [*pieces, done] if done else pieces


def _first(texts: Iterable[str]) -> str:
    several = list(texts)
    more = len(several) - _SHOWN_NAMES
    return ", ".join(several[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _footer(page: _Page, report: Report, details: str) -> None:
    status = exit_text(report)
    parts = [status] if status else []
    if details:
        parts.append(f"details: {_command(details)}")
    if not report.running:
        parts.append("quiet: LEAKAGENT_REPORT=off")
    if not parts:
        return
    page.line("")
    # The command stays on one line, however long it is, to be copied.
    room = page.width - 2
    for row in _filled([page.safe(part, 1000) for part in parts], " " * 5, room, room):
        page.line("  " + row)


def _command(details: str) -> str:
    plain = all(char.isalnum() or char in "/._-+=:,@%" for char in details) and not details.startswith("-")
    if not plain:
        details = "'" + details.replace("'", "'\\''") + "'"
    return f"leakagent report {details}"
