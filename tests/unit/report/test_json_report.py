from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from leakagent.core.findings import ACTIONS, REASONS, Finding, Process, Report
from leakagent.core.sites import UNKNOWN
from leakagent.report.json_report import dumps, from_dict, timestamp, to_dict, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def check() -> Callable[[object], None]:
    """Validates against the schema of the package."""
    schema = json.loads((resources.files("leakagent.report") / "schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema).validate


def test_the_report_fits_its_schema_and_has_the_fields_of_the_design(report: Report, check: Callable[[object], None]) -> None:
    data = to_dict(report)
    check(data)
    expected = "schema program argv pid parent_pid python leakagent started ended exit findings receipt totals agent"
    assert " ".join(data) == expected
    assert " ".join(data["findings"][0]) == (
        "fingerprint reason kind count owner site stack oldest_age_s names trace_id test_id evidence action fix"
    )
    assert data["findings"][0]["site"] == {
        "function": "stream_answer",
        "file": "rag/chat.py",
        "line": 88,
        "source": "asyncio.create_task(self._stream(question))",
    }
    assert data["started"] == "2026-09-21T14:13:20.250Z"
    assert data["exit"] == {"status": 0, "signal": None}
    assert [entry["count"] for entry in data["findings"]] == [31, 2, 1]


def test_an_empty_report_fits_the_schema(check: Callable[[object], None]) -> None:
    check(to_dict(Report("", [], 1, 0)))


def test_that_the_program_still_runs_is_there_only_if_it_does(report: Report, check: Callable[[object], None]) -> None:
    assert "running" not in to_dict(report)
    report.running = True
    data = to_dict(report)
    check(data)
    assert data["running"] is True
    assert from_dict(data).running


def test_pids_are_told_where_they_are_known(report: Report, check: Callable[[object], None]) -> None:
    report.findings[0].pids = [4100, 4101]
    data = to_dict(report)
    check(data)
    assert [entry.get("pids") for entry in data["findings"]] == [None, None, [4100, 4101]]


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("action", ACTIONS)
def test_the_schema_knows_every_reason_and_action(
    reason: str, action: str, report: Report, check: Callable[[object], None]
) -> None:
    report.findings = [Finding(reason, "plugin.kind", UNKNOWN, action=action)]
    check(to_dict(report))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.update(extra=1),
        lambda data: data["findings"][0].update(reason="new"),
        lambda data: data["findings"][0].update(evidence="text"),
        lambda data: data["findings"][0]["site"].update(path="/home/me"),
        lambda data: data["exit"].pop("signal"),
    ],
)
def test_the_schema_is_closed(spoil: Callable[[Any], object], report: Report, check: Callable[[object], None]) -> None:
    data = to_dict(report)
    spoil(data)
    with pytest.raises(jsonschema.ValidationError):
        check(data)


def test_a_report_reads_back_as_it_was_written(report: Report) -> None:
    report.findings[0].pids = [7]
    report.timeline = [(1790000000.25, 5_000_000, {"thread": 2}), (1790000001.25, 0, {})]
    report.processes = [Process(4121, 4100, "process", "embed", place="app.py:3 main", runs=True)]
    for stage, ended in zip(report.receipt, (0.4, 1.7, 1.8), strict=True):
        stage.ended = 1790000123.0 + ended
    data = json.loads(dumps(report))
    again = from_dict(data)
    assert to_dict(again) == data
    assert [one["after"] for one in data["receipt"]] == [0.0, 0.4, 1.7]
    assert again.findings[2].site.owner == "library"
    assert again.started == report.started


def test_timeline_and_processes_fit_the_schema(report: Report, check: Callable[[object], None]) -> None:
    report.timeline = [(1790000000.25, 5_000_000, {"thread": 2})]
    report.processes = [Process(4121, 4100, "process", "embed\udcff")]
    data = to_dict(report)
    check(data)
    assert data["timeline"] == [{"at": "2026-09-21T14:13:20.250Z", "memory": 5_000_000, "live": {"thread": 2}}]
    assert (data["processes"][0]["pid"], data["processes"][0]["runs"]) == (4121, False)


def test_the_growth_of_a_living_process_fits_the_schema(report: Report, check: Callable[[object], None]) -> None:
    place = {"function": "f", "file": "app.py", "line": 3, "source": "f()"}
    grows = {
        "kind": "thread",
        "owner": "yours",
        "site": place,
        "live": 9,
        "was": 2,
        "seconds": 60.0,
        "per_minute": 7.0,
        "growing": True,
    }
    data = {**to_dict(report), "growth": [grows]}
    check(data)
    assert to_dict(from_dict(data)) == to_dict(report)  # `leakagent report` renders a dump


def test_a_report_of_an_older_version_has_its_stages_one_after_the_other(report: Report) -> None:
    data = json.loads(dumps(report))
    for stage in data["receipt"]:
        del stage["after"]
    again = to_dict(from_dict(data))["receipt"]
    assert [one["after"] for one in again] == [0.0, 0.4, 1.7]


def test_nasty_texts_give_plain_ascii_that_reads_back(nasty: Report, check: Callable[[object], None]) -> None:
    text = dumps(nasty)
    assert text.isascii()
    assert "\x1b" not in text
    data = json.loads(text)
    check(data)
    json.dumps(data, ensure_ascii=False).encode("utf-8")
    assert to_dict(from_dict(data)) == data


def test_numbers_that_json_does_not_know_become_zero(report: Report, check: Callable[[object], None]) -> None:
    report.started, report.ended = float("nan"), 1e300
    report.findings[0].oldest_age_s = float("inf")
    report.receipt[0].seconds = -1.0
    report.agent = {"seconds": float("nan")}
    data = json.loads(dumps(report))
    check(data)
    assert data["started"] == data["ended"] == "1970-01-01T00:00:00.000Z"
    assert data["receipt"][0]["seconds"] == 0


@pytest.mark.parametrize("disabled", [{"lancedb": "too old"}, [("lancedb", "too old")], ["lancedb: too old"], "lancedb: too old"])
def test_disabled_parts_may_come_in_several_shapes(disabled: object, report: Report) -> None:
    report.agent["disabled"] = disabled
    assert to_dict(report)["agent"]["disabled"] == ["lancedb: too old"]


def test_a_trace_id_that_is_none_is_left_out(report: Report) -> None:
    for given, told in (("ABC", "abc"), ("xyz", None), ("", None), ("a" * 33, None)):
        report.findings[0].trace_id = given
        assert to_dict(report)["findings"][2]["trace_id"] == told


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1.9996, "1970-01-01T00:00:02.000Z"),
        (951_782_400.123, "2000-02-29T00:00:00.123Z"),
    ],
)
def test_times_are_rfc_3339_in_utc(seconds: float, text: str) -> None:
    assert timestamp(seconds) == text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda _: [], r"the report: expected an object, found \[\]"),
        (lambda _: {}, "the report: field 'schema' is missing"),
        (lambda data: {**data, "schema": "other/2"}, "schema is 'other/2', expected 'leakagent.report/1'"),
        (lambda data: {**data, "pid": "12"}, "pid: expected a whole number, found '12'"),
        (lambda data: {**data, "pid": True}, "pid: expected a whole number, found True"),
        (lambda data: {**data, "argv": [1]}, r"argv: expected a list of texts, found \[1\]"),
        (lambda data: {**data, "argv": "x" * 999}, "argv: expected a list, found 'xxx.*\\.\\.\\.$"),
        (lambda data: {**data, "started": "soon"}, "started: expected a time like"),
        (lambda data: {**data, "started": "2026-01-01T00:00:00"}, "started: expected a time like"),
        (lambda data: {**data, "exit": None}, "exit: expected an object, found None"),
        (lambda data: {**data, "findings": [3]}, r"findings\[0\]: expected an object, found 3"),
        (lambda data: {**data, "findings": [{}]}, r"findings\[0\]: field 'site' is missing"),
        (
            lambda data: {**data, "findings": [{**data["findings"][0], "reason": "new"}]},
            r"findings\[0\].reason: expected one of lost_task, .*, found 'new'",
        ),
        (
            lambda data: {**data, "findings": [{**data["findings"][0], "fingerprint": ""}]},
            r"findings\[0\].fingerprint: expected a text that is not empty",
        ),
        (lambda data: {**data, "receipt": [{"stage": 1}]}, r"receipt\[0\].stage: expected a text, found 1"),
        (lambda data: {**data, "totals": {"thread": {}}}, "totals.thread: field 'created' is missing"),
        (lambda data: {**data, "agent": {"seconds": "1"}}, "agent.seconds: expected a number, found '1'"),
    ],
)
def test_what_is_no_report_is_refused_with_the_field_named(
    spoil: Callable[[dict[str, Any]], object], message: str, report: Report
) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(spoil(to_dict(report)))


def test_fields_of_a_later_version_are_passed_over(report: Report) -> None:
    data = to_dict(report)
    assert to_dict(from_dict({**data, "later": 1})) == data


def test_a_report_is_written_and_its_folders_made(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "r.json"
    write(report, str(path))
    assert json.loads(path.read_text()) == to_dict(report)
