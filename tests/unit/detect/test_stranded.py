"""The proof: any way to the future that does not lead through the task is a way to complete it."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakagent.detect.stranded import is_stranded

if TYPE_CHECKING:
    from collections.abc import Iterator


class Node:
    def __init__(self) -> None:
        self.to: list[Any] = []


class Task(Node):
    """Known weakly to its loop, as every task is."""


def pair(*, steps: int = 0) -> list[Any]:
    """Return a task and what it waits for; the future refers to the task, the task to the future over some steps."""
    task, future = Task(), Node()
    future.to.append(task)
    last: Node = task
    for _ in range(steps):
        last.to.append(Node())
        last = last.to[-1]
    last.to.append(future)
    return [task, future]


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("steps", [0, 1, 2, 30])
def test_only_the_task_leads_to_it(steps: int) -> None:
    box = pair(steps=steps)
    kept = [box[0], {"task": box[0]}, weakref.ref(box[0])]
    assert is_stranded(box)
    assert box == []
    assert kept


@pytest.mark.parametrize("steps", [0, 1, 2, 30])
def test_one_reference_more(steps: int) -> None:
    box = pair(steps=steps)
    known = box[1]
    assert not is_stranded(box)
    assert known


def test_a_reference_to_a_step_on_the_way() -> None:
    box = pair(steps=3)
    known = box[0].to[0].to[0]
    assert not is_stranded(box)
    assert known


def test_a_weak_reference() -> None:
    box = pair()
    known = weakref.ref(box[1])
    assert not is_stranded(box)
    assert known


def test_who_refers_to_the_task_refers_to_nothing_else() -> None:
    """An object in the task's own frame that has the task in a set: it leads to the future through the task only."""
    box = pair(steps=1)
    owner = Node()
    owner.to.append(box[0])
    box[0].to.append(owner)
    assert is_stranded(box)
    assert owner


def test_a_callback_of_the_future_that_is_known_elsewhere() -> None:
    """Not a way to the future, as long as it does not refer to it."""
    box = pair()
    harmless, way = Node(), Node()
    box[1].to.append(harmless)
    assert is_stranded(box)
    box = pair()
    box[1].to.append(way)
    way.to.append(box[1])
    assert not is_stranded(box)
    assert harmless


def test_too_much_to_look_at() -> None:
    assert not is_stranded(pair(steps=30), limit=10)


GRAPHS = st.integers(2, 8).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=20),
        st.sets(st.integers(0, count - 1), max_size=3),
    )
)


@given(GRAPHS)
@settings(max_examples=300, deadline=None)
def test_any_graph(graph: tuple[int, list[tuple[int, int]], set[int]]) -> None:
    """Number 0 is the future, 1 the task; what is held from outside leads to the future without the task, or it is stranded."""
    count, arrows, held = graph
    nodes: list[Any] = [Node() if number != 1 else Task() for number in range(count)]
    arrows = [*arrows, (0, 1), (1, 0)]
    for source, target in arrows:
        nodes[source].to.append(nodes[target])
    outside = [nodes[number] for number in sorted(held)]
    # What is not met from the future on is held by nobody, and the counts alone can't tell: it is called alive.
    met = _reached({0}, arrows)
    box = [nodes[1], nodes[0]]
    unmet = [nodes[number] for number in range(count) if number not in met]
    nodes.clear()
    stranded = is_stranded(box)
    leading = _reached({0}, [(target, source) for source, target in arrows if target != 1 or source == 1])
    alive = any(number in leading and number != 1 for number in held)
    alive = alive or any(source not in met and target in leading - {1} and target in met for source, target in arrows)
    assert stranded is not alive, (outside, unmet)


def _reached(start: set[int], arrows: list[tuple[int, int]]) -> set[int]:
    reached, before = set(start), set[int]()
    while reached != before:
        before = set(reached)
        reached |= {target for source, target in arrows if source in reached}
    return reached
