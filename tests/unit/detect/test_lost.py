"""The proof by counting: for any graph of objects it says what the collector itself would do, or errs towards alive."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakagent.detect import lost
from leakagent.detect.lost import is_lost


class Node:
    def __init__(self) -> None:
        self.to: list[Any] = []


def asked(node: list[Node], **options: Any) -> bool:
    """Ask about the last node of a list, which is taken out, as the caller of the proof does."""
    return is_lost([node.pop()], **options)


def cycle(length: int) -> list[Node]:
    nodes = [Node() for _ in range(length)]
    for index, one in enumerate(nodes):
        one.to.append(nodes[index - 1])
    return nodes[:1]


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_a_cycle_that_nobody_refers_to(length: int) -> None:
    gc.disable()
    try:
        assert asked(cycle(length))
    finally:
        gc.enable()


@pytest.mark.parametrize("holder", ["variable", "list", "attribute", "closure", "iterator", "bound method"])
def test_one_reference_from_outside_is_enough(holder: str) -> None:
    nodes = cycle(3)
    inner = nodes[0].to[0]
    kept: Any = {
        "variable": lambda: inner,
        "list": lambda: [inner],
        "attribute": lambda: type("Holder", (), {"it": inner}),
        "closure": lambda: lambda: inner,
        "iterator": lambda: iter([inner]),
        "bound method": lambda: inner.to.append,
    }[holder]()
    if holder not in {"variable", "closure"}:
        del inner
    assert not asked(nodes)
    assert kept is not None


def test_a_search_that_stops_early_calls_it_alive() -> None:
    assert not asked(cycle(50), limit=20)


def test_a_task_that_ends_in_the_middle_of_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    # A loop in another thread does that: the proof runs in Python, and other threads get their turns.
    async def wait(future: asyncio.Future[int]) -> int:
        return await future

    loop = asyncio.new_event_loop()
    future = loop.create_future()
    task = loop.create_task(wait(future))
    loop.run_until_complete(asyncio.sleep(0))
    box, ends = [task], [future]
    del task, future
    original = lost.leading_to_first

    def then_it_ends(arrows: list[list[int]]) -> set[int]:
        group = original(arrows)
        while ends:
            ends.pop().set_result(1)
            loop.run_until_complete(asyncio.sleep(0))
        return group

    monkeypatch.setattr(lost, "leading_to_first", then_it_ends)
    try:
        assert not is_lost(box)
    finally:
        loop.close()


NUMBERS = st.integers(0, 6)


@settings(max_examples=60)
@given(st.sets(st.tuples(NUMBERS, NUMBERS), max_size=14), st.sets(NUMBERS, max_size=2))
def test_as_the_collector_does(arrows: set[tuple[int, int]], roots: set[int]) -> None:
    gc.disable()
    gc.freeze()  # what was there before is not looked at, which makes a collection cheap
    try:
        nodes = [Node() for _ in range(7)]
        for source, target in arrows:
            nodes[source].to.append(nodes[target])
        # Each node is asked about while it is alive: a reference of its own keeps it in a cycle, as a waiting task is.
        nodes[0].to.append(nodes[0])
        kept = [nodes[number] for number in sorted(roots)]
        first, box = weakref.ref(nodes[0]), [nodes[0]]
        nodes.clear()
        lost = is_lost(box)
        gc.collect()
        # Never a false alarm.
        assert first() is None or not lost
        # Exact, where all that refers into the group is part of it.
        group = _reachable(arrows)
        if not roots and all(source in group for source, target in arrows if target in group):
            assert lost
        assert len(kept) == len(roots)
    finally:
        gc.unfreeze()
        gc.enable()


def _reachable(arrows: set[tuple[int, int]]) -> set[int]:
    found = {0}
    while more := {target for source, target in arrows if source in found} - found:
        found |= more
    return found


def test_the_answer_is_alive_where_counts_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert not asked(cycle(3))
