"""The closed lists are closed: each reason and kind has its words, its fix and its place in the schema."""

from __future__ import annotations

from leakagent.core import findings, records
from leakagent.core.findings import ACTIONS, REASONS, Finding, Report


def test_names_and_values_agree() -> None:
    reasons = {value for name, value in vars(findings).items() if name.isupper() and isinstance(value, str)} - set(ACTIONS)
    assert reasons == set(REASONS)
    states = {records.LIVE, records.DROPPED, records.FINISHED}
    kinds = {value for name, value in vars(records).items() if name.isupper() and isinstance(value, str)} - states
    assert kinds == set(records.KINDS)
    assert len(set(ACTIONS)) == len(ACTIONS)


def test_findings_do_not_share_their_lists() -> None:
    first, second = Finding("lost_task", "asyncio.task"), Finding("lost_task", "asyncio.task")
    first.names.append("x")
    first.evidence.append("x")
    first.pids.append(1)
    assert (second.names, second.evidence, second.pids, second.stack) == ([], [], [], [])
    one, other = Report("a", [], 1, 1), Report("a", [], 1, 1)
    one.agent["seconds"] = 5
    one.totals["x"] = {}
    assert (other.agent["seconds"], other.totals) == (0.0, {})
    assert "lost_task" in repr(first)
