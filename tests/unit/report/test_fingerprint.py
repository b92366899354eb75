from __future__ import annotations

import linecache
import os
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakagent.core.findings import (
    ACTIONS,
    CLOSED,
    DRAINED,
    KILLED,
    LOST_TASK,
    NONE,
    NOT_CLOSED,
    NOT_SHUT_DOWN,
    TERMINATED,
    Finding,
)
from leakagent.core.records import TASK, THREAD_POOL
from leakagent.core.sites import UNKNOWN, Site
from leakagent.report.fingerprint import complete, merge
from leakagent.report.fixes import fix_for

if TYPE_CHECKING:
    from pathlib import Path


def finding(file: Path | str, line: int, function: str = "f", reason: str = NOT_SHUT_DOWN, **more: object) -> Finding:
    found = Finding(reason, THREAD_POOL, Site(function, str(file), line), **more)  # type: ignore[arg-type]
    complete(found)
    return found


def source(folder: Path, text: str, name: str = "app.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_the_source_line_is_read_stripped_and_bounded(tmp_path: Path) -> None:
    file = source(tmp_path, "import x\n    pool = x.Pool()   \n" + "y" * 500 + "\n")
    assert finding(file, 2).source == "pool = x.Pool()"
    assert finding(file, 3).source == "y" * 200


def test_a_fingerprint_has_twelve_hex_digits(tmp_path: Path) -> None:
    fingerprint = finding(source(tmp_path, "a\n"), 1).fingerprint
    assert len(fingerprint) == 12
    assert set(fingerprint) <= set("0123456789abcdef")


def test_a_fingerprint_is_the_same_in_every_release() -> None:
    # Baselines and ignore lists hold it: a change breaks them, and needs a new version of the report.
    lost = Finding(LOST_TASK, TASK, Site("f", "/app/app.py", 7, base="/app"))
    lost.source = "asyncio.create_task(g())"
    complete(lost)
    assert lost.fingerprint == "f591caadee61"


def test_a_fingerprint_survives_lines_that_move(tmp_path: Path) -> None:
    file = source(tmp_path, "pool = Pool()\n")
    before = finding(file, 1).fingerprint
    source(tmp_path, "# one\n# two\nif x:\n    pool = Pool()\n")
    linecache.checkcache(str(file))
    assert finding(file, 4).fingerprint == before


@pytest.mark.parametrize("change", ["reason", "kind", "file", "function", "source"])
def test_a_fingerprint_tells_apart(change: str) -> None:
    def made(changed: str) -> str:
        found = Finding(
            NOT_CLOSED if changed == "reason" else NOT_SHUT_DOWN,
            TASK if changed == "kind" else THREAD_POOL,
            Site("g" if changed == "function" else "f", "/b.py" if changed == "file" else "/a.py", 1),
        )
        found.source = "other" if changed == "source" else "same"
        complete(found)
        return found.fingerprint

    assert made(change) != made("")


def test_the_line_number_takes_the_place_of_a_source_that_is_missing() -> None:
    one, two, again = (finding("/nowhere/app.py", line) for line in (1, 2, 1))
    assert one.source == ""
    assert one.fingerprint == again.fingerprint != two.fingerprint


@pytest.mark.parametrize("path", ["", "<string>", "<stdin>", "/nowhere", "a\0b", "\udcff.py", "/", "x" * 10_000])
def test_a_place_that_is_no_file_has_no_source(path: str) -> None:
    found = finding(path, 1)
    assert (found.source, len(found.fingerprint)) == ("", 12)


def test_bytes_that_are_no_text_are_no_source(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_bytes(b"\xff\xfe\n")
    assert finding(file, 1).source == ""


def test_an_unknown_site_is_completed() -> None:
    found = Finding(NOT_CLOSED, TASK, UNKNOWN)
    complete(found)
    assert len(found.fingerprint) == 12


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes in the file system there")
def test_a_pipe_is_never_opened_for_its_source(tmp_path: Path) -> None:
    # `python <(generate)`: opening the pipe again would wait for a writer for ever.
    pipe = tmp_path / "pipe.py"
    os.mkfifo(pipe)
    assert finding(pipe, 1).source == ""


def test_what_another_process_completed_is_kept(tmp_path: Path) -> None:
    file = source(tmp_path, "mine\n")
    found = Finding(NOT_CLOSED, TASK, Site("f", str(file), 1))
    found.source, found.fingerprint = "theirs", "0123456789ab"
    complete(found)
    assert (found.source, found.fingerprint) == ("theirs", "0123456789ab")


def test_a_missing_fix_is_filled_in_and_a_given_one_is_kept() -> None:
    assert finding("/a.py", 1).fix == fix_for(NOT_SHUT_DOWN, THREAD_POOL)
    assert finding("/a.py", 1, fix="do this").fix == "do this"


def test_equal_findings_become_one() -> None:
    first = finding("/a.py", 1, count=2, oldest_age_s=1.0, names=["a", "b"], evidence=["e1"], pids=[1])
    second = finding("/a.py", 1, count=3, oldest_age_s=9.0, names=["b", "c"], evidence=["e2", "e1"], pids=[2, 1])
    second.trace_id, second.test_id, second.stack = "ab", "t", ["frame"]
    (merged,) = merge([first, second])
    assert (merged.count, merged.oldest_age_s) == (5, 9.0)
    assert (merged.names, merged.evidence, merged.pids) == (["a", "b", "c"], ["e1", "e2"], [1, 2])
    assert (merged.trace_id, merged.test_id, merged.stack) == ("ab", "t", ["frame"])
    assert (first.count, first.names, second.names) == (2, ["a", "b"], ["b", "c"])


def test_lists_are_bounded_also_for_a_single_finding() -> None:
    many = finding("/a.py", 1, names=[str(n) for n in range(50)], pids=list(range(50)))
    (merged,) = merge([many])
    assert (len(merged.names), len(merged.pids)) == (10, 10)
    assert len(merge([many, finding("/a.py", 1, names=["x"])])[0].names) == 10


@pytest.mark.parametrize("action", ACTIONS)
def test_the_strongest_action_wins(action: str) -> None:
    def strongest(*actions: str) -> str:
        return merge([finding("/a.py", 1, action=each) for each in actions])[0].action

    assert strongest(action, KILLED) == strongest(KILLED, action) == KILLED
    assert strongest(action, NONE) == strongest(NONE, action) == action
    assert strongest(DRAINED, CLOSED, TERMINATED, CLOSED) == TERMINATED


def test_the_order_is_biggest_then_oldest_then_as_given() -> None:
    found = [
        finding("/a.py", 1, count=1, oldest_age_s=5.0),
        finding("/a.py", 2, count=7),
        finding("/a.py", 3, count=1, oldest_age_s=9.0),
        finding("/a.py", 4, count=1, oldest_age_s=5.0),
    ]
    assert [each.site.line for each in merge(found)] == [2, 3, 1, 4]


def test_merging_twice_changes_nothing() -> None:
    once = merge([finding("/a.py", 1), finding("/a.py", 1), finding("/a.py", 2)])
    assert [(each.fingerprint, each.count) for each in merge(once)] == [(each.fingerprint, each.count) for each in once]


SOME = st.lists(
    st.builds(
        Finding,
        st.sampled_from([NOT_CLOSED, NOT_SHUT_DOWN]),
        st.sampled_from([TASK, THREAD_POOL]),
        st.builds(Site, st.text(max_size=5), st.text("/ab.py\0\ud800", max_size=8), st.integers(-1, 3)),
        count=st.integers(1, 1000),
        oldest_age_s=st.floats(0, 1e6),
        names=st.lists(st.text(max_size=3), max_size=15),
        action=st.sampled_from(ACTIONS),
        pids=st.lists(st.integers(2, 30), max_size=15),
    ),
    max_size=12,
)


@settings(max_examples=50)
@given(SOME, st.randoms())
def test_whatever_is_merged(findings: list[Finding], chance: Any) -> None:
    merged = merge(findings)
    assert sum(one.count for one in merged) == sum(one.count for one in findings)
    assert len({one.fingerprint for one in merged}) == len(merged)
    assert all(re.fullmatch("[0-9a-f]{12}", one.fingerprint) and one.fix for one in merged)
    assert [one.count for one in merged] == sorted((one.count for one in merged), reverse=True)
    # Neither once more nor another order changes who is there, how often, how old, and what was done.
    shuffled = list(findings)
    chance.shuffle(shuffled)
    for again in (merge(merged), merge(shuffled)):
        assert facts(again) == facts(merged)


def facts(findings: list[Finding]) -> dict[str, tuple[object, ...]]:
    return {
        one.fingerprint: (one.count, one.oldest_age_s, one.action, one.site.file, len(one.names), len(one.pids))
        for one in findings
    }


@given(st.text(min_size=1, max_size=60), st.integers(1, 10_000), st.integers(1, 10_000))
def test_where_the_line_is_does_not_count_if_it_can_be_read(source: str, line: int, other: int) -> None:
    def made(number: int) -> str:
        found = Finding(NOT_CLOSED, TASK, Site("f", "/a.py", number))
        found.source = source
        complete(found)
        return found.fingerprint

    assert made(line) == made(other)
