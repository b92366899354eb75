"""``leakagent report FILE``: show a JSON report again, or turn it into another format."""

from __future__ import annotations

import json
import sys

from leakagent.report import html, json_report, markdown, text
from leakagent.report.files import write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from leakagent.core.findings import Report

_FORMATS = {"--html": html.render, "--markdown": markdown.render}


def main(words: list[str]) -> None:
    """Render the report in the file; status 2 for wrong usage, 1 if it can't be read or written."""
    path, outputs = _arguments(words)
    report = read(path)
    for render, output in outputs:
        try:
            write_text(output, render(report))
        except OSError as error:
            fail(f"{output}: {error.strerror or error}", 1)
    if not outputs:
        width, color, unicode = text.style_of(sys.stdout)
        shown = text.render(report, width=width, color=color, unicode=unicode)
        sys.stdout.write(shown or f"leakagent: {report.program} left nothing open\n")


def _arguments(words: list[str]) -> tuple[str, list[tuple[Callable[[Report], str], str]]]:
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
            fail(f"report has no option {word} (allowed: {', '.join(_FORMATS)})", 2)
        else:
            paths.append(word)
    if len(paths) != 1:
        fail("report takes one file: leakagent report FILE [--html OUT] [--markdown OUT]", 2)
    return paths[0], outputs


def read(path: str) -> Report:
    try:
        with open(path, encoding="utf-8") as file:
            return json_report.from_dict(json.load(file))
    except OSError as error:
        fail(f"{path}: {error.strerror}", 1)
    except ValueError as error:
        fail(f"{path} is not a report of leakagent: {error}", 1)


def fail(message: str, status: int) -> NoReturn:
    sys.stderr.write(f"leakagent: {message}\n")
    raise SystemExit(status)
