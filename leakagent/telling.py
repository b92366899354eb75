"""What makes no progress or keeps growing, told while the program runs: one block per fingerprint, by the process that the user started."""

from __future__ import annotations

import os

from . import guard
from .core.findings import GROWING
from .core.records import EVENT_LOOP
from .core.sites import shown_path
from .detect.leftovers import finding_of, ignored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agent import Agent
    from .core.findings import Finding
    from .detect.stalled import Stall
    from .instrumentation.growing import Growth


def stalls_of(agent: Agent) -> list[Finding]:
    """Return the findings about what makes no progress, without the tasks that are left at the end of their loop."""
    stalls = agent.parts.get("stalls")
    return [] if stalls is None else [_finding(agent, stall) for stall in [*stalls.tasks_now(), *stalls.still_there()]]


def seen_by_clients(agent: Agent) -> list[Finding]:
    """Return the findings about clients besides that they were left open."""
    parts = [part for part in agent.parts.values() if hasattr(part, "seen")]
    return [_finding(agent, stall) for part in parts for stall in part.seen()]


def _finding(agent: Agent, stall: Stall) -> Finding:
    from .report.fixes import fix_for  # only for programs that stall

    where = "blocked in " if stall.record.kind == EVENT_LOOP else "waiting in "
    waits = [where + chain_text(stall.chain, agent.base)] if stall.chain else []
    fix = stall.fix or stall.record.detail.get("fix") or fix_for(stall.reason, stall.record.kind)
    finding = finding_of(stall.record, stall.reason, base=agent.base, evidence=[*waits, *stall.evidence], fix=fix)
    finding.pids = [os.getpid()]
    return finding


def chain_text(chain: list[tuple[str, int, str]], base: str) -> str:
    """Return path, line and function of each frame as one text; a step without a path is the type of what is waited for."""
    return " > ".join(f"{shown_path(path, base)}:{line} {function}" if path else function for path, line, function in chain)


def tell_why(agent: Agent) -> None:
    """Print what keeps the process alive, unless the user wants no text."""
    from .report.spec import TEXT, parse_spec
    from .report.why import lines
    from .why import why

    if any(target.format == TEXT for target in parse_spec(agent.settings.report)):
        guard.say("\n   ".join(["why it does not end (Ctrl+C)", *lines(why(agent), unicode=False)]))


def growths_of(agent: Agent) -> list[Finding]:
    """Return the findings about sites whose live count keeps growing."""
    return [] if agent.growing is None else [growth_finding(agent, growth) for growth in agent.growing.found()]


def growth_finding(agent: Agent, growth: Growth) -> Finding:
    """Return the finding about a site whose live count keeps growing."""
    from .report.fixes import fix_for  # only for programs that grow

    fix = fix_for(GROWING, growth.kind)
    finding = finding_of(growth.record, GROWING, base=agent.base, evidence=[growth.trend.text()], fix=fix)
    finding.count = growth.count
    return finding


def tell(agent: Agent, stall: Stall) -> None:
    """Print what makes no progress."""
    tell_finding(agent, _finding(agent, stall))


def tell_finding(agent: Agent, finding: Finding) -> None:
    """Print a finding while the program runs, once, unless the user wants no text or has asked not to be told.

    A child prints nothing, but for one case: it is about to hang for ever (`leakagent.instrumentation.inherited`), so that nobody else
    is going to hear of it.  Its report is handed over at once as well.
    """
    from .report.fingerprint import complete
    from .report.live import render
    from .report.spec import TEXT, parse_spec

    complete(finding)
    known = agent.told_live
    if finding.fingerprint in known or ignored(finding, agent.settings.ignore):
        return
    known.add(finding.fingerprint)
    agent.stalled.append(finding)
    if agent.child:
        from .processes import family
        from .report.json_report import dumps

        family.hand_over(os.environ, dumps(agent.ending().look(children=False)))
    if any(target.format == TEXT for target in parse_spec(agent.settings.report)):
        guard.say(render(finding), at_any_rate=True)
