"""Which leftovers are told: the program's own, and nothing that the user asked not to hear of."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakagent.core.findings import BLOCKS_EXIT, NOT_SHUT_DOWN, Finding
from leakagent.core.records import KINDS, Record
from leakagent.core.sites import LIBRARY, YOURS, Site
from leakagent.detect.leftovers import finding_of, ignored, pool_is_a_leak, task_is_a_leak

LIB = Site("run", "/venv/lib/python3.11/site-packages/lancedb/pool.py", 3)
OWN = Site("run", "/app/app.py", 3, base="/app")


@pytest.mark.parametrize(
    ("site", "stuck", "told"), [(OWN, False, True), (OWN, True, True), (LIB, False, False), (LIB, True, True)]
)
def test_pools(site: Site, stuck: bool, told: bool) -> None:
    assert pool_is_a_leak(Finding(NOT_SHUT_DOWN, "thread_pool", site), stuck=stuck) == told


@pytest.mark.parametrize(
    ("site", "running", "told"), [(OWN, False, True), (OWN, True, True), (LIB, False, True), (LIB, True, False)]
)
def test_tasks(site: Site, running: bool, told: bool) -> None:
    assert task_is_a_leak(Finding("outlived_scope", "asyncio.task", site), running_elsewhere=running) == told


@pytest.mark.parametrize("pattern", ["abc123", "thread", "run", "app.py:3", "/app/app.py:3"])
def test_each_kind_of_pattern(pattern: str) -> None:
    finding = Finding(BLOCKS_EXIT, "thread", OWN)
    finding.fingerprint = "abc123"
    assert ignored(finding, ("nothing", pattern))
    assert not ignored(finding, ("nothing",))


@given(st.text(max_size=12))
def test_nothing_but_the_whole_name_is_ignored(pattern: str) -> None:
    finding = Finding(BLOCKS_EXIT, "thread", OWN)
    finding.fingerprint = "abc123"
    names = {"abc123", "thread", "run", "app.py:3", "/app/app.py:3"}
    assert ignored(finding, (pattern,)) == (pattern in names)


@given(st.sampled_from(KINDS), st.text(max_size=10), st.floats(-1e6, 1e6))
def test_a_record_becomes_a_finding(kind: str, name: str, age: float) -> None:
    import time

    frame = sys._getframe()
    record = Record(
        1, kind, frame.f_code, frame.f_lasti, time.monotonic() - age, 42, name=name, stack=[(frame.f_code, frame.f_lasti)]
    )
    found = finding_of(record, NOT_SHUT_DOWN, base="", evidence=("seen",), action="closed", fix="do")
    assert (found.kind, found.reason, found.pids, found.evidence, found.action, found.fix) == (
        kind, NOT_SHUT_DOWN, [42], ["seen"], "closed", "do",
    )  # fmt: skip
    assert found.names == ([name] if name else [])
    assert found.oldest_age_s >= max(0.0, age)
    assert found.stack == [f"{found.site.file}:{found.site.line} {found.site.function}"]


def test_a_record_without_a_place() -> None:
    found = finding_of(Record(1, "thread", None, 0, 0.0, 1), NOT_SHUT_DOWN, base="/app")
    assert (found.site.line, found.stack, found.site.owner) == (0, [], YOURS)
    assert LIB.owner == LIBRARY
