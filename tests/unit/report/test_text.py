from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakagent.core.findings import (
    ACTIONS,
    CLOSED,
    GROWING,
    KILLED,
    NONE,
    NOT_CLOSED,
    REASONS,
    STALLED,
    UNRETRIEVED_EXCEPTION,
    Finding,
    Report,
    StageReceipt,
)
from leakagent.core.records import KINDS, PROCESS, TASK, THREAD
from leakagent.core.sites import UNKNOWN, Site
from leakagent.report import json_report
from leakagent.report.text import render, style_of
from leakagent.report.words import action_text, duration, headline, kind_name, safe

WIDE = """\
leakagent: 34 resources were still open when app.py ended (closed in 1.8 s, 1 process killed)

  31 x asyncio task    lost: only leakagent kept it alive   yours    rag/chat.py:88 stream_answer
         > asyncio.create_task(self._stream(question))
         oldest 2 m 04 s · waiting in httpx receive · started by POST /chat · trace 1c1e27e1 · cancelled with its loop
         fix  keep the task: self._tasks.add(t); t.add_done_callback(self._tasks.discard)  (or a TaskGroup)
   2 x process         its starter is gone                  yours    jobs/embed.py:41 build_index
         > p = Process(target=embed, args=(shard,))
         pid 4121 ended on SIGTERM after 0.2 s · pid 4122 killed after 3.0 s
         killed by leakagent where SIGTERM did not help
         fix  p.join(), or `with Pool()`
   1 x chroma client   not closed                           library  rag/store.py:17 get_client
         age 2 m 10 s · /data/chroma · closed by leakagent
         fix  client.close(), or `with chromadb.PersistentClient(...) as client:`  (chromadb 1.5.2 or newer; older: keep
              one client for the whole program)

  exit status kept: 0     details: leakagent report .leakagent/run-7f3a.json     quiet: LEAKAGENT_REPORT=off
"""

NARROW = """\
leakagent: 34 resources were still open when app.py ended (closed in 1.8 s, 1
  process killed)

  31 x asyncio task    lost: only leakagent kept it alive
         yours    rag/chat.py:88 stream_answer
         > asyncio.create_task(self._stream(question))
         oldest 2 m 04 s; waiting in httpx receive; started by POST /chat
         trace 1c1e27e1; cancelled with its loop
         fix  keep the task: self._tasks.add(t);
              t.add_done_callback(self._tasks.discard)  (or a TaskGroup)
   2 x process         its starter is gone
         yours    jobs/embed.py:41 build_index
         > p = Process(target=embed, args=(shard,))
         pid 4121 ended on SIGTERM after 0.2 s; pid 4122 killed after 3.0 s
         killed by leakagent where SIGTERM did not help
         fix  p.join(), or `with Pool()`
   1 x chroma client   not closed
         library  rag/store.py:17 get_client
         age 2 m 10 s; /data/chroma; closed by leakagent
         fix  client.close(), or `with chromadb.PersistentClient(...) as
              client:`  (chromadb 1.5.2 or newer; older: keep one client for the
              whole program)

  exit status kept: 0     quiet: LEAKAGENT_REPORT=off
"""

COLOUR = re.compile("\x1b\\[[0-9]+m")


def one(**changes: object) -> Report:
    report = Report("app.py", ["app.py"], 1, 0)
    found = Finding(NOT_CLOSED, THREAD, Site("f", "/app/a.py", 3, base="/app"), action=CLOSED)
    for name, value in changes.items():
        setattr(found, name, value)
    report.findings = [found]
    return report


def test_the_whole_text_on_a_wide_terminal(report: Report) -> None:
    assert render(report, width=120, details=".leakagent/run-7f3a.json") == WIDE


def test_the_whole_text_at_an_unknown_width_in_ascii(report: Report) -> None:
    assert render(report, width=0, unicode=False) == NARROW


def test_a_program_that_still_runs_is_not_said_to_have_ended(report: Report) -> None:
    report.running, report.status = True, None
    lines = render(json_report.loads(json_report.dumps(report)), width=200).splitlines()
    assert lines[0] == "leakagent: 34 resources were still open when app.py was looked at; it still ran"
    assert lines[-1].strip().startswith("fix ")


def test_nothing_found_is_nothing_said(report: Report) -> None:
    report.findings = []
    assert render(report) == ""


def test_colour_changes_nothing_but_the_colour(report: Report) -> None:
    coloured = render(report, width=120, color=True, details=".leakagent/run-7f3a.json")
    assert coloured != WIDE
    assert COLOUR.sub("", coloured) == WIDE
    assert all(line.count("\x1b[0m") * 2 == line.count("\x1b[") for line in coloured.splitlines())


@pytest.mark.parametrize("width", [1, 40, 60, 80, 100, 200])
def test_lines_fit_the_width_where_words_allow_it(report: Report, width: int) -> None:
    for line in render(report, width=width).splitlines():
        # A place stays whole, to be clicked or copied.
        longest = max(map(len, line.split()), default=0)
        assert len(line) <= max(width, 40) or longest > max(width, 40) - 14 or ".py:" in line, line


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("color", [True, False])
def test_nasty_texts_are_made_harmless(nasty: Report, unicode: bool, color: bool) -> None:
    text = render(nasty, width=80, color=color, unicode=unicode, details="\x1b]0;title\x07|;rm -rf")
    plain = COLOUR.sub("", text) if color else text
    assert all(char == "\n" or char.isprintable() for char in plain)
    assert unicode or plain.isascii()
    assert not any(line.lstrip().startswith("::") for line in plain.splitlines())
    assert len(text) < 20_000


@given(st.text(), st.integers(min_value=4, max_value=50), st.booleans())
def test_safe_is_one_printable_line(value: str, limit: int, unicode: bool) -> None:
    text = safe(value, limit, unicode=unicode)
    assert text.isprintable()
    assert unicode or text.isascii()
    assert "##[" not in text
    assert safe(text, 10_000, unicode=unicode) == text


def test_safe_takes_what_is_no_text() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    assert safe(Broken()) == "<Broken>"
    assert safe(7) == "7"


def test_ten_entries_and_then_how_many_more(report: Report) -> None:
    report.findings = [Finding(NOT_CLOSED, THREAD, Site("f", "/a.py", line)) for line in range(1, 15)]
    text = render(report)
    assert text.count(" x thread") == 10
    assert "  ... and 4 more (details: LEAKAGENT_REPORT=text,json:PATH)\n" in text
    assert "  ... and 4 more (details: leakagent report r.json)\n" in render(report, details="r.json")
    report.findings = report.findings[:10]
    assert "more" not in render(report)


def test_a_path_with_blanks_can_be_pasted_into_a_shell() -> None:
    assert "leakagent report 'my runs/it'\\''s.json'" in render(one(), details="my runs/it's.json")


@pytest.mark.parametrize(
    ("status", "signal", "shown"),
    [
        (0, None, "exit status kept: 0 "),
        (3, None, "exit status kept: 3 "),
        (None, 15, "exit status kept: SIGTERM (-15) "),
        (None, 250, "exit status kept: signal 250 (-250) "),
    ],
)
def test_the_footer_says_how_the_program_ends(status: int | None, signal: int | None, shown: str) -> None:
    report = one()
    report.status, report.signal = status, signal
    assert shown in render(report)


def test_an_unknown_status_is_not_spoken_of() -> None:
    assert "exit status" not in render(one())


def test_an_unknown_place_is_called_so() -> None:
    assert "(created at an unknown place)" in render(one(site=UNKNOWN))
    assert "a.py f\n" in render(one(site=Site("f", "/app/a.py", 0, base="/app")))


def test_everything_that_is_known_is_shown() -> None:
    report = one(
        names=["a", "b", "c", "d", "e"],
        test_id="tests/test_a.py::test_b",
        trace_id="0123456789abcdef",
        pids=[1, 7, 8],
        stack=["a.py:3 f", "b.py:9 g", "c.py:1 <module>"],
    )
    text = render(report, width=200)
    assert "a, b, c and 2 more · made by test tests/test_a.py::test_b · trace 01234567 · in processes 7, 8 · " in text
    assert "         called from  b.py:9 g\n                      c.py:1 <module>\n" in text


@pytest.mark.parametrize("reason", [*REASONS, "of a plug-in"])
@pytest.mark.parametrize("action", [*ACTIONS, "of a plug-in"])
def test_every_reason_and_action_has_its_words(reason: str, action: str) -> None:
    for count in (1, 2):
        report = one(reason=reason, action=action, count=count)
        assert REASONS.get(reason, reason) in render(report)
        silent = action == NONE and reason in (UNRETRIEVED_EXCEPTION, GROWING)
        assert bool(action_text(report.findings[0])) is not silent


def test_every_kind_has_its_name() -> None:
    assert all("." not in kind_name(kind) and "_" not in kind_name(kind) for kind in KINDS)
    assert kind_name("redis.client_pool") == "redis client pool"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.00 s"),
        (0.02, "0.02 s"),
        (0.994, "0.99 s"),
        (0.996, "1.0 s"),
        (1.84, "1.8 s"),
        (59.94, "59.9 s"),
        (59.96, "1 m 00 s"),
        (124.2, "2 m 04 s"),
        (3599.6, "1 h 00 m"),
        (11_234, "3 h 07 m"),
        (176_400, "2 d 01 h"),
        (-1, "0.00 s"),
        (float("nan"), "0.00 s"),
        (float("inf"), "0.00 s"),
    ],
)
def test_durations_read_like_people_say_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def head(*findings: Finding, receipt: tuple[StageReceipt, ...] = ()) -> str:
    report = Report("app.py", [], 1, 0)
    report.receipt = list(receipt)
    return headline(report, list(findings))


CHILDREN = StageReceipt("children", 2.0, 3, 2, 2.0)


@pytest.mark.parametrize(
    ("findings", "receipt", "expected"),
    [
        ([Finding(NOT_CLOSED, THREAD)], (), "1 resource was still open when app.py ended"),
        ([Finding(NOT_CLOSED, THREAD, action=CLOSED)], (), "1 resource was still open when app.py ended"),
        (
            [Finding(NOT_CLOSED, THREAD, action=CLOSED)],
            (StageReceipt("clients", 0.5, 1, 0, 1.0),),
            "1 resource was still open when app.py ended (closed in 0.50 s)",
        ),
        (
            [Finding(NOT_CLOSED, THREAD, action=CLOSED), Finding(STALLED, TASK)],
            (StageReceipt("clients", 0.5, 1, 0, 1.0),),
            "2 resources were still open when app.py ended (clean-up took 0.50 s)",
        ),
        (
            [Finding(STALLED, TASK)],
            (StageReceipt("clients", 0.5, 0, 0, 1.0),),
            "1 resource was still open when app.py ended",
        ),
        (
            [Finding(NOT_CLOSED, PROCESS, action=KILLED, count=3)],
            (CHILDREN,),
            "3 resources were still open when app.py ended (closed in 2.0 s, 2 processes killed)",
        ),
        (
            [Finding(NOT_CLOSED, PROCESS, action=KILLED, count=3)],
            (),
            "3 resources were still open when app.py ended (at least 1 process killed)",
        ),
        (
            [Finding(NOT_CLOSED, PROCESS, action=KILLED), Finding(NOT_CLOSED, PROCESS, action=KILLED)],
            (),
            "2 resources were still open when app.py ended (2 processes killed)",
        ),
        ([Finding(UNRETRIEVED_EXCEPTION, TASK)], (), "1 exception was never looked at when app.py ended"),
        (
            [Finding(STALLED, TASK), Finding(UNRETRIEVED_EXCEPTION, TASK, count=2), Finding(GROWING, TASK, count=90)],
            (),
            "1 resource was still open, 2 exceptions were never looked at and 1 place kept growing when app.py ended",
        ),
    ],
)
def test_the_headline_is_true(findings: list[Finding], receipt: tuple[StageReceipt, ...], expected: str) -> None:
    assert head(*findings, receipt=receipt) == expected


class Terminal(io.StringIO):
    encoding = "UTF-8"

    def isatty(self) -> bool:
        return True


def test_colour_needs_a_terminal_that_wants_it() -> None:
    assert style_of(Terminal(), {"TERM": "xterm"}) == (80, True, True)
    assert style_of(Terminal(), {"TERM": "dumb"})[1] is False
    assert style_of(Terminal(), {})[1] is False
    assert style_of(Terminal(), {"TERM": "xterm", "NO_COLOR": "1"})[1] is False
    assert style_of(io.StringIO(), {"TERM": "xterm"}) == (80, False, False)


@pytest.mark.parametrize(("columns", "width"), [("132", 132), ("0", 80), ("-5", 80), ("wide", 80), ("99999", 80), ("²", 80)])
def test_the_width_is_taken_from_columns(columns: str, width: int) -> None:
    assert style_of(io.StringIO(), {"COLUMNS": columns})[0] == width


def test_a_stream_that_is_closed_or_missing_has_a_style() -> None:
    closed = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    closed.close()
    assert style_of(closed, {}) == (80, False, False)
    assert style_of(None, {}) == (80, False, False)
