from __future__ import annotations

import sys
from typing import Any

import pytest

from leakagent.core.findings import Finding
from leakagent.core.records import CHROMADB_CLIENT
from leakagent.core.registry import Registry
from leakagent.core.sites import Site
from leakagent.telemetry import names
from leakagent.telemetry.numbers import Numbers, qualified


class Thing:
    pass


def made_in(registry: Registry, function: str, number: int) -> list[Thing]:
    space: dict[str, Any] = {"Thing": Thing, "registry": registry, "sys": sys, "KIND": CHROMADB_CLIENT}
    exec(f"def {function}():\n    it = Thing()\n    registry.add(KIND, it, sys._getframe())\n    return it\n", space)
    return [space[function]() for _ in range(number)]


def counted(numbers: Numbers) -> dict[str, float]:
    numbers.collect()
    return {values[2]: value for values, value in numbers.points(names.RESOURCE_COUNT)}


def test_ten_thousand_sites_are_bounded_and_the_biggest_are_named() -> None:
    registry = Registry()
    kept = [made_in(registry, f"small{number}", 1) for number in range(10_000)]
    numbers = Numbers(registry, {}, list)
    assert len(counted(numbers)) == names.SITES + 1
    kept.append(made_in(registry, "late_and_big", 50))
    points = counted(numbers)
    assert points["late_and_big"] == 50
    assert len(points) == names.SITES + 1
    assert sum(points.values()) == 10_050


def test_equals_do_not_take_turns() -> None:
    registry = Registry()
    kept = [made_in(registry, f"b{number}", 2) for number in range(names.SITES)]
    numbers = Numbers(registry, {}, list)
    before = set(counted(numbers))
    kept += [made_in(registry, f"a{number}", 3) for number in range(names.SITES)]
    assert set(counted(numbers)) == before | {names.OTHER}


def test_counts_of_findings_never_go_back() -> None:
    found = [Finding("not_closed", "thread_pool", Site("one", "/rag/a.py", 1, base="/"), count=2)]
    numbers = Numbers(Registry(), {}, lambda: found)
    numbers.collect()
    assert dict(numbers.points(names.FINDINGS)) == {("not_closed", "thread_pool", "rag.a.one"): 2}
    found.clear()
    found += [Finding("not_closed", "thread_pool", Site(f"later{number}", "/a.py", 1), count=9) for number in range(100)]
    numbers.collect()
    points = dict(numbers.points(names.FINDINGS))
    assert points["not_closed", "thread_pool", "rag.a.one"] == 2
    assert points["not_closed", "thread_pool", names.OTHER] == 81 * 9
    assert len(points) == names.SITES + 1


def test_a_child_starts_at_zero() -> None:
    registry = Registry()
    kept = made_in(registry, "parent", 3)
    numbers = Numbers(registry, {}, list)
    numbers.collect()
    registry.forget()
    numbers.forget()
    numbers.collect()
    assert numbers.points(names.RESOURCE_CREATED) == []
    assert kept


@pytest.mark.parametrize(
    ("path", "function"),
    [
        ("/srv/shop/rag/chat.py", "rag.chat.answer"),
        ("/srv/shop/rag/__init__.py", "rag.answer"),
        ("/home/someone/other/tool.py", "tool.answer"),
        ("/usr/lib/python3/dist-packages/flask/app.py", "flask.app.answer"),
        ("<string>", "answer"),
        ("", "answer"),
    ],
)
def test_functions_have_their_module_and_no_folder_of_the_machine(path: str, function: str) -> None:
    assert qualified(Site("answer", path, 1, base="/srv/shop")) == function


def test_the_memory_of_the_process_is_sent_on_request_only() -> None:
    assert names.PROCESS_MEMORY not in Numbers(Registry(), {}, list).wanted()
    numbers = Numbers(Registry(), {}, list, memory=True)
    assert numbers.wanted() == list(names.METRICS)
    (((), taken),) = numbers.points(names.PROCESS_MEMORY)
    assert taken > 1e6
