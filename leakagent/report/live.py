"""A finding that is told while the program runs: a short block of text in a log."""

from __future__ import annotations

from .words import kind_name, place, reason_text, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leakagent.core.findings import Finding

#: Longest piece of evidence, in characters: an await chain with the file and line of each frame.
_LONGEST = 2000


def render(finding: Finding) -> str:
    """Return the block, ASCII only: nobody knows what the log can show.

    Args:
        finding: Completed (`leakagent.report.fingerprint.complete`).

    """
    lines = [
        f"{kind_name(finding.kind)} {reason_text(finding.reason)}",
        f"   {finding.site.owner:<7}  {place(finding.site)}",
        f"   > {finding.source}" if finding.source else "",
        f"   {finding.count} of them" if finding.count > 1 else "",
        f"   {', '.join(finding.names)}" if finding.names else "",
        *(f"   {text}" for text in finding.evidence),
        *(f"   called from  {text}" for text in finding.stack[1:9]),
        f"   fix  {finding.fix}",
    ]
    return "\n".join(safe(line, _LONGEST, unicode=False) for line in lines if line)
