"""``leakagent report FILE``: show a JSON report again, or turn it into another format; of two, what has changed."""

from __future__ import annotations

import sys

from leakagent.report import compare, html, json_report, markdown, text
from leakagent.report.files import write_text
from leakagent.report.words import nothing, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from leakagent.core.findings import Report

_FORMATS = {"--html": html.render, "--markdown": markdown.render}


#: Exit status if the newer of two reports has leaks that are new or have grown: that of ``--fail-on-leak``.
WORSE_STATUS = 23


def main(words: list[str]) -> None:
    """Render the report in the file, or compare two.

    Exit status: 2 for wrong usage, 1 if a file can't be read or written, 23 if leaks of the second report are new or have grown, else 0.
    """
    as_json = "--json" in words
    paths, outputs = _arguments([word for word in words if word != "--json"])
    report = read(paths[0])
    if len(paths) > 1:
        changes = compare.Changes(report, read(paths[1]))
        sys.stdout.write(changes.as_json() if as_json else changes.as_text())
        raise SystemExit(WORSE_STATUS if changes.worse else 0)
    if as_json:
        sys.stdout.write(json_report.dumps(report))
        return
    for render, output in outputs:
        try:
            write_text(output, render(report))
        except OSError as error:
            fail(f"{output}: {error.strerror or error}", 1)
    if not outputs:
        width, color, unicode = text.style_of(sys.stdout)
        shown = text.render(report, width=width, color=color, unicode=unicode)
        sys.stdout.write(shown or f"leakagent: {safe(report.program, 80)} {nothing(report)}\n")


def _arguments(words: list[str]) -> tuple[list[str], list[tuple[Callable[[Report], str], str]]]:
    paths: list[str] = []
    outputs: list[tuple[Callable[[Report], str], str]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in _FORMATS:
            if not rest:
                fail(f"{word} needs a file name", 2)
            outputs.append((_FORMATS[word], rest.pop(0)))
        elif word.startswith("-"):
            fail(f"report has no option {word} (allowed: {', '.join([*_FORMATS, '--json'])})", 2)
        else:
            paths.append(word)
    if len(paths) not in {1, 2} or (outputs and len(paths) > 1):
        usage = "leakagent report FILE [--html OUT] [--markdown OUT] [--json], or leakagent report OLD NEW [--json]"
        fail(f"report takes one file, or two to compare: {usage}", 2)
    return paths, outputs


def read(path: str) -> Report:
    """Return the report in a file; ends with status 1 if it is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return json_report.loads(file.read())
    except OSError as error:
        fail(f"{path}: {error.strerror}", 1)
    except ValueError as error:
        fail(f"{path} is not a report of leakagent: {safe(error, 300)}", 1)


def fail(message: str, status: int) -> NoReturn:
    """End with one line on stderr and a status."""
    sys.stderr.write(f"leakagent: {message}\n")
    raise SystemExit(status)
