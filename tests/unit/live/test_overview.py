"""What `leakagent top` shows: the order of its lines, what has grown since it was opened, the filter, and the details of a line."""

from __future__ import annotations

from typing import Any

import pytest

from leakagent.live.overview import ORDERS, View, details, places

SITE = {"function": "make", "file": "app.py", "line": 7, "source": "pool = make()"}


def process(pid: int, program: str, *, growth: tuple[dict[str, Any], ...] = (), **kinds: tuple[int, int]) -> dict[str, Any]:
    """Return a process with a live count and a number of leaks of each kind."""
    counts = {
        kind: {"live": live, "created": live, "finished": 0, "peak": live, "findings": leaks}
        for kind, (live, leaks) in kinds.items()
    }
    return {"pid": pid, "state": "running", "program": program, "kinds": counts, "findings": [], "growth": list(growth)}


def grows(kind: str, per_minute: float, *, growing: bool = False) -> dict[str, Any]:
    counts = {"was": 4, "live": 40, "seconds": 60.0, "per_minute": per_minute, "growing": growing}
    return {"kind": kind, "owner": "yours", "site": SITE, **counts}


PROCESSES = [
    process(30, "quiet.py", thread=(2, 0)),
    process(10, "leaks.py", thread_pool=(3, 3), thread=(9, 0)),
    process(20, "feed.py", growth=(grows("task", 6.0, growing=True), grows("thread", 90.0)), task=(40, 0), thread=(5, 0)),
    process(40, "empty.py"),
]


def shown(order: str, word: str = "") -> list[str]:
    return [f"{row.process['pid']} {row.kind}" for row in View().rows(PROCESSES, order=order, word=word)]


@pytest.mark.parametrize(
    ("order", "lines"),
    [
        ("leaks", ["10 thread_pool", "20 task", "10 thread", "20 thread", "30 thread", "40 "]),
        ("live", ["20 task", "10 thread", "20 thread", "10 thread_pool", "30 thread", "40 "]),
        # What is told as growing comes before what grows faster, and may be a wave.
        ("growth", ["20 task", "20 thread", "30 thread", "10 thread_pool", "10 thread", "40 "]),
        ("pid", ["10 thread", "10 thread_pool", "20 task", "20 thread", "30 thread", "40 "]),
    ],
)
def test_the_orders(order: str, lines: list[str]) -> None:
    assert shown(order) == lines


def test_there_is_no_other_order() -> None:
    assert list(ORDERS) == ["leaks", "live", "growth", "pid"]


@pytest.mark.parametrize(
    ("word", "lines"), [("FEED", ["20 task", "20 thread"]), ("pool", ["10 thread_pool"]), ("40", ["40 "]), ("nobody", [])]
)
def test_the_filter_looks_at_program_kind_and_pid(word: str, lines: list[str]) -> None:
    assert shown("leaks", word) == lines


def test_growth_since_the_view_was_opened() -> None:
    view = View()
    assert [row.growth for row in view.rows([process(1, "a.py", task=(5, 0))])] == [0]
    assert [row.growth for row in view.rows([process(1, "a.py", task=(8, 0)), process(2, "b.py", task=(3, 0))])] == [3, 0]
    assert [row.growth for row in view.rows([process(1, "a.py", task=(4, 0))])] == [-1]


def test_the_details_of_a_line() -> None:
    one = process(1, "a.py", growth=(grows("thread_pool", 1.5),), thread_pool=(3, 3))
    one["findings"] = [
        {
            "kind": "thread_pool",
            "reason": "not_shut_down",
            "count": 3,
            "owner": "yours",
            "site": SITE,
            "fix": "shut it down",
            "names": ["pool-1", "pool-2"],
            "evidence": ["dropped"],
            "stack": ["app.py:7 make", "app.py:20 main"],
        },
        {"kind": "thread", "reason": "blocks_exit"},
    ]
    (row,) = View().rows([one])
    assert details(row) == [
        "3 x not_shut_down  yours  app.py:7 make",
        "  > pool = make()",
        "  pool-1, pool-2",
        "  dropped",
        "  called from app.py:20 main",
        "  fix  shut it down",
        "has grown  yours  app.py:7 make",
        "  from 4 to 40 in 60 s, 1.5 a minute",
    ]


def test_where_the_resources_of_a_line_were_made_and_are() -> None:
    (row,) = View().rows([process(1, "a.py", task=(2, 0))])
    entry = {
        "kind": "task",
        "count": 2,
        "owner": "yours",
        "site": SITE,
        "source": SITE["source"],
        "names": ["t1"],
        "oldest_age_s": 3.0,
    }
    entry |= {"now": ["app.py:9 wait", "app.py:8 work"], "stack": ["app.py:7 make", "app.py:20 main"]}
    other = {**entry, "kind": "thread"}
    assert places(row, [entry, other]) == [
        "2 open  yours  app.py:7 make  oldest 3.0 s",
        "  > pool = make()",
        "  t1",
        "  now in app.py:9 wait",
        "         app.py:8 work",
        "  called from app.py:20 main",
    ]


def test_one_that_does_not_answer_is_said_to() -> None:
    (row,) = View().rows([{"pid": 1, "state": "silent", "program": "a.py", "kinds": {}, "findings": [], "growth": []}])
    (line,) = details(row)
    assert line.startswith("does not answer")
