"""The report as workflow commands: GitHub shows each finding beside the line that created it."""

from __future__ import annotations

import os

from .fingerprint import merge
from .words import duration, finite, headline, kind_name, number, place, reason_text, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from leakagent.core.findings import Finding, Report
    from leakagent.core.sites import Site

#: GitHub shows ten warnings of a step and drops the rest.
MOST_WARNINGS = 10
_SHOWN_EVIDENCE = 3


def render(report: Report, environ: Mapping[str, str] | None = None) -> str:
    """Return one ``::warning`` per finding, ten at most and a notice for the rest; empty when nothing was found.

    Args:
        report: What to tell.
        environ: Environment, for ``GITHUB_WORKSPACE``; ``os.environ`` when not given.

    """
    findings = merge(report.findings)
    workspace = (os.environ if environ is None else environ).get("GITHUB_WORKSPACE", "")
    lines = [_warning(finding, workspace) for finding in findings[:MOST_WARNINGS]]
    if len(findings) > MOST_WARNINGS:
        more = number(len(findings) - MOST_WARNINGS, "more finding")
        lines.append(f"::notice title=leakagent::{_data(f'{headline(report, findings)}; {more}')}")
    return "".join(line + "\n" for line in lines)


def _warning(finding: Finding, workspace: str) -> str:
    reason = reason_text(finding.reason)
    kind = kind_name(finding.kind)
    properties = [f"title={_property(f'leakagent: {finding.count} x {kind}, {reason}')}"]
    file = _file(finding.site, workspace)
    if file:
        line = [f"line={finding.site.line}"] if finding.site.line > 0 else []
        properties = [f"file={_property(file)}", *line, *properties]
    told = [f"{finding.count} x {kind}: {reason}, created at {safe(place(finding.site), 400)}"]
    if finite(finding.oldest_age_s):
        told.append(f"oldest {duration(finding.oldest_age_s)}")
    told += [safe(text) for text in finding.evidence[:_SHOWN_EVIDENCE]]
    return f"::warning {','.join(properties)}::{_data('; '.join(told))}%0Afix: {_data(safe(finding.fix, 500))}"


def _file(site: Site, workspace: str) -> str:
    """Return the path as the repository knows it; empty for a library, whose lines are not in the repository."""
    root = workspace.replace("\\", "/").rstrip("/") + "/"
    path = site.path.replace("\\", "/")
    if workspace and path.startswith(root) and site.owner == "yours":
        return safe(path[len(root) :], 1000)
    return safe(site.file, 1000) if site.owner == "yours" and not site.file.startswith("<") else ""


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
