"""Records and counts: nothing is counted twice, nothing is kept alive that was not to be."""

from __future__ import annotations

import gc
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakagent.core.records import DROPPED, FINISHED, KINDS, LIVE, Record
from leakagent.core.registry import Counts, Registry


class Resource:
    pass


def test_a_dropped_resource_is_noticed_at_once() -> None:
    registry = Registry()
    resource = Resource()
    record = registry.add("thread_pool", resource, sys._getframe(), name="pool")
    assert (record.state, record.resource(), record.name) == (LIVE, resource, "pool")
    gc.disable()
    try:
        del resource
        assert (record.state, record.resource()) == (DROPPED, None)
    finally:
        gc.enable()
    # It is still to be told.
    assert list(registry) == [record]


def test_a_finished_resource_is_forgotten_and_not_called_dropped() -> None:
    registry = Registry()
    resource = Resource()
    record = registry.add("thread_pool", resource, None)
    registry.finish(record)
    registry.finish(record)
    del resource
    assert record.state == FINISHED
    assert (len(registry), registry.count("thread_pool").as_totals()) == (0, {"created": 1, "finished": 1, "live": 0, "peak": 1})


def test_what_can_not_be_referred_to_weakly_raises_and_leaves_nothing() -> None:
    registry = Registry()
    with pytest.raises(TypeError):
        registry.add("thread_pool", (), None)
    assert len(registry) == 0
    assert registry.add("process", (), None, weak=False).resource() == ()


@pytest.mark.parametrize(("level", "code", "stack"), [("count", False, False), ("site", True, False), ("stack", True, True)])
def test_the_level_says_what_is_noted(level: str, code: bool, stack: bool) -> None:
    record = Registry(level).add("thread", Resource(), sys._getframe())
    assert (record.code is not None, record.stack is not None) == (code, stack)
    if stack:
        assert record.stack is not None
        assert record.stack[0] == (record.code, record.lasti)


@given(st.lists(st.tuples(st.sampled_from(KINDS[:3]), st.booleans(), st.booleans()), max_size=40))
def test_counts_hold_whatever_happens(steps: list[tuple[str, bool, bool]]) -> None:
    registry = Registry()
    kept: list[Resource] = []
    open_records: list[Record] = []
    most: dict[str, int] = {}
    for kind, keep, finish in steps:
        resource = Resource()
        record = registry.add(kind, resource, None)
        if keep:
            kept.append(resource)
        del resource
        open_records.append(record)
        now = sum(1 for one in open_records if one.kind == kind)
        most[kind] = max(most.get(kind, 0), now)
        if finish:
            registry.finish(open_records.pop(0))
    for kind, peak in most.items():
        live = len(registry.of_kind(kind))
        totals = registry.count(kind).as_totals()
        assert totals["created"] - totals["finished"] == totals["live"] == live
        assert totals["peak"] == peak
    ids = [record.id for record in registry]
    assert ids == sorted(set(ids))
    assert registry.memory() > 0 or not ids


def test_a_fork_forgets() -> None:
    registry = Registry()
    resource = Resource()
    record = registry.add("thread", resource, None)
    registry.forget()
    registry.finish(record)
    assert (len(registry), registry.counts["thread"].as_totals()["live"]) == (0, 0)
    assert registry.add("thread", resource, None).id > record.id


def test_records_may_come_and_go_while_somebody_looks() -> None:
    registry = Registry()
    kept = [Resource() for _ in range(5)]
    for resource in kept:
        registry.add("thread", resource, None)
    for record in registry:
        registry.finish(record)
        registry.add("thread", kept[0], None)
    assert len(registry) == 5


def test_counts_start_at_nothing() -> None:
    assert Counts().as_totals() == {"created": 0, "finished": 0, "live": 0, "peak": 0}
    counts = Counts()
    counts.add(0, 2)  # a child finishes what its parent created
    assert counts.as_totals()["live"] == 0
