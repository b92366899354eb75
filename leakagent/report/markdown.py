"""The report as a Markdown table, for a pull request or an issue.

Everything that comes from the program is shown as code, so that no name can mention a person, link, or end the table.
"""

from __future__ import annotations

from .fingerprint import merge
from .words import action_text, duration, exit_text, finite, headline, kind_name, nothing, place, reason_text, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leakagent.core.findings import Finding, Report

_SHOWN_EVIDENCE = 5
_SHOWN_NAMES = 3
_SPECIAL = "\\`*_{}[]<>()#+-.!|~@&:"


def render(report: Report) -> str:
    """Return the report as Markdown; one line when nothing was found."""
    findings = merge(report.findings)
    if not findings:
        return f"**leakagent**: {code(report.program, 80)} {nothing(report)}.\n"
    lines = [
        f"**leakagent**: {escaped(headline(report, findings))}",
        "",
        "| count | what | why | created at | evidence | fix |",
        "| ---: | --- | --- | --- | --- | --- |",
        *(_row(finding) for finding in findings),
        "",
    ]
    status = exit_text(report)
    told = [status] if status else []
    told += [f"Python {safe(report.python, 40)}, leakagent {safe(report.leakagent, 40)}, process {report.pid}"]
    return "\n".join((*lines, escaped("; ".join(told)))) + "\n"


def _row(finding: Finding) -> str:
    where = f"{code(place(finding.site), 400)} ({finding.site.owner})"
    if finding.source:
        where += f"<br>{code(finding.source)}"
    cells = (
        str(finding.count),
        escaped(kind_name(finding.kind)),
        escaped(reason_text(finding.reason)),
        where,
        "<br>".join(_evidence(finding)),
        code(finding.fix, 500),
    )
    return f"| {' | '.join(cells)} |"


def _evidence(finding: Finding) -> list[str]:
    told = []
    if finite(finding.oldest_age_s):
        told.append(("age " if finding.count == 1 else "oldest ") + duration(finding.oldest_age_s))
    told += [code(name, 60) for name in finding.names[:_SHOWN_NAMES]]
    told += [code(text) for text in finding.evidence[:_SHOWN_EVIDENCE]]
    if finding.test_id:
        told.append(f"made by test {code(finding.test_id)}")
    if finding.trace_id:
        told.append(f"trace {code(finding.trace_id, 32)}")
    done = action_text(finding)
    return [*told, escaped(done)] if done else told


def code(value: object, limit: int = 200) -> str:
    """Show a text as code within a table cell."""
    text = safe(value, limit)
    if not text.strip():
        return ""
    if "|" in text:
        # A backslash before a bar is read differently by different readers; an entity is not.
        return f"<code>{''.join(_entity(char) for char in text)}</code>"
    fence = "`"
    while fence in text:
        fence += "`"
    blank = " " if text.startswith(("`", " ")) or text.endswith(("`", " ")) else ""
    return f"{fence}{blank}{text}{blank}{fence}"


def escaped(value: object) -> str:
    """Show a text as it is: everything that Markdown knows becomes an entity, plain signs inside a text stay."""
    text = safe(value, 500)
    return "".join(_entity(char) if char in "\\`*_[]<>#|~@&" else char for char in text)


def _entity(char: str) -> str:
    return f"&#{ord(char)};" if char in _SPECIAL else char
