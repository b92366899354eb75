"""The report as one HTML file: works offline, without scripts, in light and dark.

Everything that comes from the program is escaped, and should that ever fail, the policy in the page lets nothing run
and nothing load: only this style sheet and the script of one button, each named by its hash.  Without scripts the button is not there, and
the text that it copies is.
"""

from __future__ import annotations

import binascii
import hashlib

from . import charts, markdown
from .fingerprint import merge
from .json_report import timestamp
from .words import (
    action_text,
    disabled_parts,
    duration,
    exit_text,
    finite,
    headline,
    kind_name,
    number,
    place,
    reason_text,
    safe,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leakagent.core.findings import Finding, Process, Report

_OPEN_ENTRIES = 10
#: Characters of findings, the biggest first: with all the rest the page stays below 200 kB.
_LARGEST = 120_000
_MOST_PROCESSES = 100
_DEEPEST = 20

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2330;--soft:#5b6475;--line:#d9dee7;--page:#fff;--card:#f5f7fa;
--bad:#b3261e;--good:#1b6e3c}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ef;--soft:#9aa4b5;--line:#333b49;--page:#14181f;--card:#1c222c;
--bad:#ff8a80;--good:#7bd49b}}
body{margin:0 auto;max-width:72rem;padding:1.5rem;font:15px/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--page)}
h1{font-size:1.3rem;margin:0 0 .5rem}h2{font-size:1rem;margin:2rem 0 .5rem}
p{margin:.25rem 0}.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}
.verdict{border-left:4px solid var(--bad);background:var(--card);padding:.75rem 1rem;margin:1rem 0;font-weight:600}
.verdict.good{border-color:var(--good)}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.4rem .75rem .4rem 0}
th{color:var(--soft);font-weight:500;font-size:.85rem}tr{border-top:1px solid var(--line)}thead tr,tr.more{border:0}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
code{font:13px/1.5 ui-monospace,monospace;overflow-wrap:anywhere}
summary{cursor:pointer;color:var(--soft)}details{padding-bottom:.5rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.4rem 0}dt{color:var(--soft)}dd{margin:0}
svg{display:block;width:100%;height:auto}svg text{font:13px system-ui,sans-serif;fill:var(--ink)}svg .took{fill:var(--soft)}
polyline{fill:none;stroke-width:2;vector-effect:non-scaling-stroke}.axis{stroke:var(--line);fill:none}
rect.done{fill:var(--good)}rect.forced{fill:var(--bad)}.key{margin-right:1.25rem}.key:before{content:"\\25A0\\A0"}
.l0{stroke:#3b7dd8}.k0:before{color:#3b7dd8}.l1{stroke:#d9822b}.k1:before{color:#d9822b}.l2{stroke:#2f9e63}.k2:before{color:#2f9e63}
.l3{stroke:#b455b6}.k3:before{color:#b455b6}.l4{stroke:#c23b4e}.k4:before{color:#c23b4e}.l5{stroke:#7a8b1f}.k5:before{color:#7a8b1f}
.lm{stroke:var(--soft);stroke-dasharray:5 4}.km:before{color:var(--soft)}
ul{margin:.25rem 0;padding-left:1.25rem}
textarea{width:100%;height:9rem;font:12px/1.4 ui-monospace,monospace;color:var(--ink);background:var(--card);border:1px solid var(--line)}
button{font:inherit;color:var(--ink);background:var(--card);border:1px solid var(--line);border-radius:4px;padding:.2rem .8rem;cursor:pointer}
"""

#: Shows the button, which is of no use without it, and copies what stands beside it; works from a file as well.
_SCRIPT = """
const button=document.querySelector("button"),text=document.querySelector("textarea");
button.hidden=false;
button.onclick=()=>{text.closest("details").open=true;text.select();
const done=document.execCommand("copy");button.textContent=done?"Copied":"Select the text and copy it"};
"""

#: Characters of Markdown beyond which the copy is left out: the page stays small.
_LONGEST_COPY = 20_000

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>leakagent: {program}</h1>
<p class="soft">{run}</p>
<p class="verdict{mood}">{verdict}</p>
{findings}{timeline}{receipt}{processes}{totals}{copy}{agent}{script}</body>
</html>
"""


def render(report: Report) -> str:
    """Return the report as a whole HTML document."""
    findings = merge(report.findings)
    policy = (
        f"default-src 'none'; style-src '{_hash(_STYLE)}'; script-src '{_hash(_SCRIPT)}'; base-uri 'none'; form-action 'none'"
    )
    clean = "Nothing is open that leaks." if report.running else "Nothing was left open."
    verdict = headline(report, findings) if findings else clean
    return _PAGE.format(
        policy=policy,
        style=_STYLE,
        title=f"leakagent: {_shown(report.program, 80)}",
        program=_shown(report.program, 80),
        run=_run(report),
        mood="" if findings else " good",
        verdict=_shown(verdict, 500),
        findings=_findings(report, findings) if findings else "",
        timeline=_titled("Timeline", charts.timeline(report, _shown)),
        receipt=_receipt(report) if report.receipt else "",
        processes=_titled("Processes", _processes(report) if report.processes else ""),
        totals=_totals(report) if report.totals else "",
        copy=_copy(report),
        agent=_agent(report),
        script=f"<script>{_SCRIPT}</script>\n",
    )


def _hash(text: str) -> str:
    return "sha256-" + binascii.b2a_base64(hashlib.sha256(text.encode()).digest(), newline=False).decode("ascii")


def _titled(title: str, content: str) -> str:
    return f"<h2>{title}</h2>\n{content}" if content else ""


def _shown(value: object, limit: int = 200) -> str:
    return _escaped(safe(value, limit))


def _escaped(text: str) -> str:
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;")):
        text = text.replace(char, entity)
    return text


def _code(value: object, limit: int = 200) -> str:
    return f"<code>{_shown(value, limit)}</code>"


def _run(report: Report) -> str:
    parts = [
        _code(" ".join(safe(part) for part in report.argv), 400),
        f"process {report.pid}",
        f"Python {_shown(report.python, 40)}",
        f"leakagent {_shown(report.leakagent, 40)}",
        f"{timestamp(report.started)} to {timestamp(report.ended)}",
    ]
    status = exit_text(report)
    if status:
        parts.append(_shown(status))
    return " &middot; ".join(parts)


def _findings(report: Report, findings: list[Finding]) -> str:
    rows, size, shown = [], 0, 0
    for index, finding in enumerate(findings):
        row = _finding(report, finding, opened=index < _OPEN_ENTRIES)
        size += len(row)
        if size > _LARGEST:
            break
        rows.append(row)
        shown += 1
    hidden = len(findings) - shown
    more = f'<p class="soft">and {number(hidden, "more place")}, which the JSON report has</p>\n' if hidden else ""
    return f"""<h2>Findings</h2>
<table>
<thead><tr><th class="n">count</th><th>what</th><th>why</th><th>owner</th><th>created at</th></tr></thead>
<tbody>
{"".join(rows)}</tbody>
</table>
{more}"""


def _finding(report: Report, finding: Finding, *, opened: bool) -> str:
    facts = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in _facts(report, finding))
    return f"""<tr><td class="n">{finding.count}</td><td>{_shown(kind_name(finding.kind))}</td>\
<td class="bad">{_shown(reason_text(finding.reason))}</td><td>{_shown(finding.site.owner, 10)}</td>\
<td>{_code(place(finding.site), 400)}</td></tr>
<tr class="more"><td></td><td colspan="4"><details{" open" if opened else ""}><summary>details and fix</summary>\
<dl>{facts}</dl></details></td></tr>
"""


def _facts(report: Report, finding: Finding) -> list[tuple[str, str]]:
    facts = []
    if finding.source:
        facts.append(("source", _code(finding.source)))
    if finite(finding.oldest_age_s):
        facts.append(("age" if finding.count == 1 else "oldest", duration(finding.oldest_age_s)))
    if finding.names:
        facts.append(("names", ", ".join(_code(name) for name in finding.names)))
    if finding.evidence:
        facts.append(("evidence", "<br>".join(_shown(text) for text in finding.evidence)))
    if finding.stack:
        facts.append(("stack", "<br>".join(_code(frame) for frame in finding.stack)))
    if finding.test_id:
        facts.append(("test", _code(finding.test_id)))
    if finding.trace_id:
        facts.append(("trace", _code(finding.trace_id)))
    if [pid for pid in finding.pids if pid != report.pid]:
        facts.append(("processes", ", ".join(str(pid) for pid in finding.pids)))
    done = action_text(finding)
    if done:
        facts.append(("what was done", _shown(done)))
    facts.append(("fix", f'<span class="good">{_shown(finding.fix, 500)}</span>'))
    facts.append(("to silence it", _code(f"LEAKAGENT_IGNORE={finding.fingerprint}")))
    return facts


def _receipt(report: Report) -> str:
    rows = "".join(
        f"""<tr><td>{_shown(stage.stage)}</td><td class="n">{duration(stage.seconds)} of {duration(stage.deadline)}</td>\
<td class="n">{stage.asked}</td><td class="n">{stage.forced}</td></tr>
"""
        for stage in report.receipt
    )
    return f"""<h2>Clean-up</h2>
{charts.waterfall(report.receipt, _shown)}<table>
<thead><tr><th>stage</th><th class="n">took</th><th class="n">asked</th><th class="n">forced</th></tr></thead>
<tbody>
{rows}</tbody>
</table>
"""


def _processes(report: Report) -> str:
    """Return the processes as a tree; those whose starter is not known stand at its top."""
    below: dict[int, list[Process]] = {}
    known = {one.pid for one in report.processes}
    for one in report.processes[:_MOST_PROCESSES]:
        below.setdefault(one.parent_pid if one.parent_pid in known and one.parent_pid != one.pid else report.pid, []).append(one)

    def tree(pid: int, depth: int) -> str:
        items = "".join(
            f"<li>{_process(one)}{tree(one.pid, depth + 1) if depth < _DEEPEST else ''}</li>\n" for one in below.pop(pid, ())
        )
        return f"\n<ul>\n{items}</ul>\n" if items else ""

    root = f'<li>{_shown(report.program, 80)} <span class="soft">process {report.pid}</span>{tree(report.pid, 0)}</li>'
    hidden = len(report.processes) - _MOST_PROCESSES
    more = f'<p class="soft">and {hidden} more</p>\n' if hidden > 0 else ""
    return f"<ul>\n{root}\n</ul>\n{more}"


def _process(one: Process) -> str:
    place_ = f" {_code(one.place, 200)}" if one.place else ""
    state = ' <span class="bad">still runs</span>' if one.runs else ""
    return f'{_shown(one.name, 80)} <span class="soft">{_shown(kind_name(one.kind))} {one.pid}</span>{place_}{state}'


def _copy(report: Report) -> str:
    text = markdown.render(report)
    if len(text) > _LONGEST_COPY:
        return ""
    return (
        "<h2>For an issue or a pull request</h2>\n<p><button hidden>Copy as Markdown</button></p>\n"
        f"<details><summary>Markdown</summary><textarea readonly>\n{_escaped(text)}</textarea></details>\n"
    )


def _totals(report: Report) -> str:
    names = ("created", "finished", "live", "peak")
    rows = "".join(
        f"<tr><td>{_shown(kind_name(kind))}</td>"
        + "".join(f'<td class="n">{int(counters.get(name, 0))}</td>' for name in names)
        + "</tr>\n"
        for kind, counters in report.totals.items()
    )
    heads = "".join(f'<th class="n">{name}</th>' for name in names)
    return f"""<h2>Totals</h2>
<table>
<thead><tr><th>kind</th>{heads}</tr></thead>
<tbody>
{rows}</tbody>
</table>
"""


def _agent(report: Report) -> str:
    cost = f"{duration(report.agent.get('seconds', 0.0))}, {number(int(report.agent.get('bytes', 0)), 'byte')}"
    disabled = disabled_parts(report.agent.get("disabled", ()))
    off = f"; off: {', '.join(_shown(part) for part in disabled)}" if disabled else ""
    return f'<p class="soft">The agent itself took {cost}{off}.</p>\n'
