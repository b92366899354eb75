"""Writing every report that was asked for, at a moment when nobody can help any more.

Each target stands alone: one that fails costs one line and not the others.  What could not be written to its file is
printed as text, so that nothing is lost.  A terminal that is gone is survived silently.

Printing goes to the descriptor where the stream is the interpreter's own kind: a stderr that does not block (asyncio's
``connect_write_pipe`` makes it so, and the flag is shared with every process on the same terminal) takes a part of what
a stream writes and drops the rest, while we wait, for a bounded time.  A stream of another kind is somebody's (an IDE,
a test runner, a tee) and gets the text like any other.
"""

from __future__ import annotations

import io
import os

from .files import is_device, write_all, write_text
from .spec import GITHUB, HTML, JSON, MARKDOWN, TEXT, Target, parse_spec
from .words import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from leakagent.core.findings import Report

__all__ = ["Target", "emit", "parse_spec", "target_path"]


def emit(  # noqa: PLR0913 - who tells, and where
    report: Report,
    targets: Iterable[Target],
    stream: object,
    *,
    is_child: bool = False,
    is_late: bool = False,
    base: str = "",
) -> list[str]:
    """Write the report to every target; never raises.

    Args:
        report: What to tell.
        targets: Where to, as `parse_spec` gives them.
        stream: What the user reads (``sys.stderr``); None or closed is allowed.
        is_child: Whether another process of the same run does the talking: nothing is printed, and files get this
            process's pid.
        is_late: Whether the process of the same run that writes the plain path had ended before this one started: files get
            this process's pid.
        base: Folder that relative paths start from; the working folder when not given.  A program may have changed its
            working folder since the user typed the path.

    Returns:
        One line for each target that failed.

    """
    targets = list(targets)
    problems: list[str] = []
    details = ""
    for target in targets:
        if not target.path:
            continue
        try:
            path = target_path(target, report.pid, is_child=is_child, is_late=is_late)
            if path:
                write_text(os.path.join(base, os.path.expanduser(path)), _rendered(report, target.format))
                details = details or (path if target.format == JSON else "")
        except Exception as error:  # noqa: BLE001 - the other reports are still to be written
            problems.append(f"leakagent: {target.format} report lost: {safe(_message(error), 400)}")
    if not is_child:
        problems += _print_all(report, {target.format for target in targets}, stream, problems, details)
    return problems


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def target_path(target: Target, pid: int, *, is_child: bool, is_late: bool = False) -> str:
    """Return the path that a process writes to: ``{pid}`` replaced; else, for a child or a late one, its pid before the suffix.

    Empty for a child whose target is a device: only the process that the user started talks there.
    """
    if is_child and is_device(target.path):
        return ""
    if "{pid}" in target.path:
        return target.path.replace("{pid}", str(pid))
    if not is_child and (not is_late or is_device(target.path)):
        return target.path
    root, suffix = os.path.splitext(target.path)
    return f"{root}.{pid}{suffix}"


def _rendered(report: Report, format_: str) -> str:
    # Each is imported when somebody asked for it: this runs at the end of other people's programs.
    if format_ == JSON:
        from .json_report import dumps

        return dumps(report)
    if format_ == HTML:
        from .html import render as render_html

        return render_html(report)
    if format_ == MARKDOWN:
        from .markdown import render as render_markdown

        return render_markdown(report)
    if format_ == GITHUB:
        from .github import render as render_github

        return render_github(report)
    message = f"no such format: {format_}"
    raise ValueError(message)


def _print_all(report: Report, formats: set[str], stream: object, failed: list[str], details: str) -> list[str]:
    problems: list[str] = []
    _print(stream, "".join(line + "\n" for line in failed))
    if TEXT in formats or failed:
        try:
            from .text import render, style_of

            width, color, unicode = style_of(stream)
            _print(stream, render(report, width=width, color=color, unicode=unicode, details=details))
        except Exception as error:  # noqa: BLE001 - the program's end goes on
            problems.append(f"leakagent: text report lost: {safe(_message(error), 400)}")
    if GITHUB in formats:
        try:
            _print(stream, _rendered(report, GITHUB))
        except Exception as error:  # noqa: BLE001 - as above
            problems.append(f"leakagent: github report lost: {safe(_message(error), 400)}")
    _print(stream, "".join(line + "\n" for line in problems))
    return problems


def _print(stream: object, text: str) -> None:
    if not text or stream is None:
        return
    try:
        encoding = getattr(stream, "encoding", None)
        encoding = encoding if isinstance(encoding, str) else "utf-8"
        try:
            data = text.encode(encoding, "backslashreplace")
        except LookupError:
            encoding = "ascii"
            data = text.encode(encoding, "backslashreplace")
        descriptor = _descriptor(stream)
        if descriptor is None:
            stream.write(data.decode(encoding))  # type: ignore[attr-defined]
            stream.flush()  # type: ignore[attr-defined]
        else:
            stream.flush()  # type: ignore[attr-defined]
            write_all(descriptor, data)
    except Exception:  # noqa: BLE001 - nobody is left to tell
        return


def _descriptor(stream: object) -> int | None:
    """Return the descriptor behind the interpreter's own kind of stream; None where somebody may be in between."""
    if type(stream) is not io.TextIOWrapper or os.name != "posix":
        return None
    try:
        return stream.fileno()
    except io.UnsupportedOperation:
        return None
