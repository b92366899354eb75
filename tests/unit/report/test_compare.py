"""``leakagent report OLD NEW`` and ``leakagent baseline``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from leakagent.core.findings import LOST_TASK, NOT_SHUT_DOWN, Finding, Report
from leakagent.core.records import TASK, THREAD_POOL
from leakagent.core.sites import Site
from leakagent.report import baseline, compare, json_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def leak(function: str, count: int = 1, reason: str = NOT_SHUT_DOWN, kind: str = THREAD_POOL) -> Finding:
    return Finding(reason, kind, Site(function, "app.py", 7), count=count, oldest_age_s=3.0)


def report(*findings: Finding, program: str = "app.py") -> Report:
    made = Report(program, [program], 1, 0)
    made.findings = list(findings)
    return json_report.from_dict(json_report.to_dict(made))


OLD = (leak("gone"), leak("grown", 2), leak("shrunk", 5), leak("same", 3))
NEW = (leak("new"), leak("grown", 4), leak("shrunk", 1), leak("same", 3), leak("same", 3, LOST_TASK, TASK))


def test_what_has_changed() -> None:
    found = compare.Changes(report(*OLD), report(*NEW))
    assert sorted(one.site.function for one in found.new) == ["new", "same"]  # another reason is another leak
    assert [one.site.function for one in found.gone] == ["gone"]
    assert [(old.count, new.count) for old, new in found.grown] == [(2, 4)]
    assert [(old.count, new.count) for old, new in found.shrunk] == [(5, 1)]
    assert [one.site.function for one in found.same] == ["same"]
    assert found.worse


@pytest.mark.parametrize(
    ("older", "newer", "worse"),
    [
        ([], [], False),
        (OLD, OLD, False),
        (OLD, [], False),
        (OLD, OLD[1:], False),
        ([], OLD[:1], True),
        ([leak("f", 1)], [leak("f", 2)], True),
        ([leak("f", 2)], [leak("f", 1)], False),
    ],
)
def test_when_it_is_worse(older: Any, newer: Any, worse: bool) -> None:
    assert compare.Changes(report(*older), report(*newer)).worse is worse


def test_the_text() -> None:
    text = compare.Changes(report(*OLD), report(*NEW, program="\u00e4.py")).as_text()
    lines = text.splitlines()
    assert lines[0] == "leakagent: 2 new, 1 grown, 1 shrunk, 1 gone, 1 unchanged"
    assert lines[1] == "  (of different programs: app.py and \\xe4.py)"
    assert "  grown  2 -> 4 x thread pool   not shut down   yours  app.py:7 grown" in lines
    assert "  gone   1 x thread pool   not shut down   yours  app.py:7 gone" in lines
    assert compare.Changes(report(), report()).as_text() == "leakagent: no leaks in either report\n"


def test_the_command(python: Callable[..., Any], tmp_path: Path) -> None:
    for name, findings in (("old.json", OLD), ("new.json", NEW)):
        json_report.write(report(*findings), str(tmp_path / name))
    after = python("-m", "leakagent", "report", "old.json", "new.json", "--json")
    document = json.loads(after.stdout)
    assert after.returncode == 23, after
    assert {name: len(document[name]) for name in ("new", "grown", "shrunk", "gone", "same")} == {
        "new": 2,
        "grown": 1,
        "shrunk": 1,
        "gone": 1,
        "same": 1,
    }
    assert (document["schema"], document["grown"][0]["count_before"], document["grown"][0]["count"]) == (compare.SCHEMA, 2, 4)
    assert python("-m", "leakagent", "report", "new.json", "new.json").returncode == 0
    three = python("-m", "leakagent", "report", "old.json", "new.json", "old.json")
    assert three.returncode == 2, three
    assert three.stderr.startswith("leakagent: report takes one file, or two to compare: "), three


def test_a_baseline_accepts_what_it_was_made_of(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(baseline.dumps(report(*OLD).findings), encoding="utf-8")
    assert baseline.read(str(path)) == {one.fingerprint for one in report(*OLD).findings}
    # The same leaks make the same file, whatever their order and their counts.
    assert path.read_text(encoding="utf-8") == baseline.dumps(report(*OLD[::-1]).findings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "not a baseline of leakagent: expected schema"),
        ('{"schema": "leakagent.report/1"}', "not a baseline of leakagent: expected schema"),
        ('{"schema": "leakagent.baseline/1", "leaks": [{}]}', "each of its leaks needs a fingerprint"),
        ("{", "Expecting"),
    ],
)
def test_what_is_no_baseline(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        baseline.read(str(path))
