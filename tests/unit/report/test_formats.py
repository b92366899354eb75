"""HTML, Markdown and GitHub annotations."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakagent.core.findings import NOT_CLOSED, Finding, Process, Report
from leakagent.core.records import THREAD
from leakagent.core.sites import UNKNOWN, Site
from leakagent.report import github, html, markdown

ALLOWED_TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "code", "br", "span", "ul", "li"}
ALLOWED_TAGS |= {"table", "thead", "tbody", "tr", "th", "td", "details", "summary", "dl", "dt", "dd"}
ALLOWED_TAGS |= {"svg", "path", "polyline", "rect", "text", "textarea", "button", "script"}
ALLOWED_ATTRIBUTES = {"viewbox", "role", "points", "d", "x", "y", "width", "height", "hidden", "readonly"}
ALLOWED_ATTRIBUTES |= {"lang", "charset", "http-equiv", "content", "name", "class", "colspan", "open", "max", "value"}
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Notes tags, attributes and text, and checks that the tags are nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.metas: dict[str, str] = {}
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        given = dict(attrs)
        if tag == "meta" and given.get("http-equiv"):
            self.metas[str(given["http-equiv"])] = str(given["content"])
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_shows_everything(report: Report) -> None:
    report.findings[0].pids = [4100, 4200]
    page = Page(html.render(report))
    for text in (
        "34 resources were still open when app.py ended (closed in 1.8 s, 1 process killed)",
        "rag/chat.py:88 stream_answer",
        "asyncio.create_task(self._stream(question))",
        "lost: only leakagent kept it alive",
        "pid 4122 killed after 3.0 s",
        "1c1e27e1" * 4,
        "LEAKAGENT_IGNORE=",
        "4100, 4200",
        "exit status kept: 0",
        "1.3 s of 2.0 s",
        "4069",
        "off: lancedb: version 9 is not known",
    ):
        assert text in page.text


def test_html_lets_nothing_load_and_names_its_style_by_hash(report: Report) -> None:
    text = html.render(report)
    policy = Page(text).metas["Content-Security-Policy"]
    hashes = []
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        hashes.append(base64.b64encode(hashlib.sha256(content.encode()).digest()).decode())
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"https?:|//|url\(|@import|style=", text)
    assert "prefers-color-scheme:dark" in text
    assert len(text) < 20_000


def test_html_shows_when_what_was_open(report: Report) -> None:
    report.timeline = [
        (1790000000.25 + second, second * 1024**2, {"asyncio.task": second % 4, "thread": 1}) for second in range(126)
    ]
    text = html.render(report)
    page = Page(text)
    assert "Live resources by kind and memory over 2 m 05 s" in page.text
    assert "asyncio task, at most 3" in page.text
    assert "memory, 0 to 125 MB, at most 125 MB" in page.text
    lines = re.findall(r'<polyline class="(\w+)" points="([^"]*)"', text)
    assert [name for name, _ in lines] == ["l0", "l1", "lm"]
    points = [tuple(map(float, point.split(","))) for point in lines[0][1].split()]
    assert len(points) == 126
    assert points[0][1] > points[1][1] > points[3][1]  # more is higher up
    assert points == sorted(points, key=lambda point: point[0])


def test_html_shows_the_clean_up_as_it_ran(report: Report) -> None:
    for stage, ended in zip(report.receipt, (0.4, 1.7, 1.9), strict=True):
        stage.ended = 1790000123.0 + ended
    text = html.render(report)
    bars = re.findall(r'<rect class="(\w+)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', text)
    assert [name for name, _, _ in bars] == ["done", "forced", "done"]  # a child was killed
    (first, second, third) = [(float(x), float(width)) for _, x, width in bars]
    assert second[0] == pytest.approx(first[0] + first[1], abs=0.2)
    assert third[0] > second[0] + second[1]  # a tenth of a second went by in between
    assert second[1] > first[1] > third[1]


def test_html_shows_the_processes_as_a_tree(report: Report) -> None:
    report.processes = [
        Process(4121, 4100, "process", "embed-1", place="jobs/embed.py:41 build_index"),
        Process(4130, 4121, "subprocess", "ffmpeg", runs=True),
        Process(4140, 99, "process", "starter unknown"),
        Process(4150, 4150, "process", "its own parent"),
    ]
    page = Page(html.render(report))
    tree = page.text[page.text.index("Processes") : page.text.index("Totals")]
    words = [line for line in tree.splitlines() if line.strip()]
    assert words == [
        "Processes",
        "app.py process 4100",
        "embed-1 process 4121 jobs/embed.py:41 build_index",
        "ffmpeg subprocess 4130 still runs",
        "starter unknown process 4140",
        "its own parent process 4150",
    ]
    assert page.tags.count("ul") == 3


def test_html_has_its_markdown_to_copy(report: Report) -> None:
    text = html.render(report)
    assert "<button hidden>" in text  # of no use without the script, which shows it
    assert markdown.render(report) in Page(text).text


def test_html_stays_small(report: Report) -> None:
    finding = report.findings[0]
    report.findings = []
    for number in range(300):
        site = Site(f"function_{number}", f"/app/module_{number}.py", number + 1, base="/app")
        report.findings.append(Finding(NOT_CLOSED, THREAD, site, names=["name"] * 10, evidence=["x" * 100], fix=finding.fix))
    report.timeline = [(1790000000.0 + number, 10**9, {f"kind {kind}": 10**6 for kind in range(20)}) for number in range(119)]
    report.processes = [Process(number, 4100, "process", f"worker {number}", place="app.py:1 main") for number in range(2000)]
    assert len(html.render(report).encode()) < 200_000


def test_html_of_a_clean_run_says_so() -> None:
    page = Page(html.render(Report("app.py", [], 1, 0)))
    assert "Nothing was left open." in page.text
    assert "Findings" not in page.text


def test_a_program_that_still_runs_is_not_said_to_have_ended(report: Report) -> None:
    report.running = True
    assert "when app.py was looked at; it still ran" in markdown.render(report)
    assert "when app.py was looked at; it still ran" in Page(html.render(report)).text
    report.findings = []
    assert markdown.render(report) == "**leakagent**: `app.py` has nothing open that leaks.\n"
    assert "Nothing is open that leaks." in Page(html.render(report)).text


def test_html_escapes_nasty_texts(nasty: Report) -> None:
    text = html.render(nasty)
    page = Page(text)
    assert set(page.tags) <= ALLOWED_TAGS
    assert page.attributes <= ALLOWED_ATTRIBUTES
    text.encode("utf-8")
    assert all(char == "\n" or char.isprintable() for char in text)


@given(st.text())
def test_html_escapes_any_text(value: str) -> None:
    report = Report(value, [value], 1, 0)
    found = Finding(NOT_CLOSED, value or "kind", Site(value, value, 1), names=[value], evidence=[value], fix=value)
    found.source = found.fingerprint = value or "x"
    report.findings = [found]
    page = Page(html.render(report))
    assert set(page.tags) <= ALLOWED_TAGS
    assert page.attributes <= ALLOWED_ATTRIBUTES


MARKDOWN = """\
**leakagent**: 34 resources were still open when app.py ended (closed in 1.8 s, 1 process killed)

| count | what | why | created at | evidence | fix |
| ---: | --- | --- | --- | --- | --- |
| 31 | asyncio task | lost: only leakagent kept it alive | `rag/chat.py:88 stream_answer` (yours)<br>\
`asyncio.create_task(self._stream(question))` | oldest 2 m 04 s<br>`waiting in httpx receive`<br>\
`started by POST /chat`<br>trace `1c1e27e11c1e27e11c1e27e11c1e27e1`<br>cancelled with its loop | \
`keep the task: self._tasks.add(t); t.add_done_callback(self._tasks.discard)  (or a TaskGroup)` |
| 2 | process | its starter is gone | `jobs/embed.py:41 build_index` (yours)<br>\
`p = Process(target=embed, args=(shard,))` | `pid 4121 ended on SIGTERM after 0.2 s`<br>`pid 4122 killed after 3.0 s`\
<br>killed by leakagent where SIGTERM did not help | `` p.join(), or `with Pool()` `` |
| 1 | chroma client | not closed | `rag/store.py:17 get_client` (library) | age 2 m 10 s<br>`/data/chroma`<br>\
closed by leakagent | ``client.close(), or `with chromadb.PersistentClient(...) as client:`  (chromadb 1.5.2 or newer; \
older: keep one client for the whole program)`` |

exit status kept: 0; Python 3.11.7, leakagent 0.1.0, process 4100
"""


def test_markdown_whole(report: Report) -> None:
    assert markdown.render(report) == MARKDOWN


def test_markdown_of_a_clean_run_is_one_line() -> None:
    assert markdown.render(Report("app.py", [], 1, 0)) == "**leakagent**: `app.py` left nothing open.\n"


def test_markdown_keeps_its_table_with_nasty_texts(nasty: Report) -> None:
    rows = [line for line in markdown.render(nasty).splitlines() if line.startswith("|")]
    assert rows
    assert all(row.count("|") == 7 for row in rows)


@given(st.text())
def test_markdown_code_is_closed_and_has_no_bar(value: str) -> None:
    shown = markdown.code(value)
    assert "|" not in shown
    assert "\n" not in shown
    if not shown.startswith("<code>") and shown:
        fence = re.match("`+", shown)
        assert fence
        inside = shown[len(fence[0]) : -len(fence[0])]
        assert fence[0] not in inside
        assert not inside.startswith("`")
        assert not inside.endswith("`")


@given(st.text())
def test_markdown_prose_has_no_signs(value: str) -> None:
    assert not set(re.sub("&#[0-9]+;", "", markdown.escaped(value))) & set("\\`*_[]<>#|~@&\n")


def test_github_marks_the_lines(report: Report) -> None:
    first, second, third = github.render(report, {}).splitlines()
    assert first == (
        "::warning file=rag/chat.py,line=88,"
        "title=leakagent%3A 31 x asyncio task%2C lost%3A only leakagent kept it alive::"
        "31 x asyncio task: lost: only leakagent kept it alive, created at rag/chat.py:88 stream_answer; "
        "oldest 2 m 04 s; waiting in httpx receive; started by POST /chat%0Afix: keep the task: self._tasks.add(t); "
        "t.add_done_callback(self._tasks.discard)  (or a TaskGroup)"
    )
    assert second.startswith("::warning file=jobs/embed.py,line=41,")
    # A library's file is not in the repository: an annotation there would be dropped.
    assert third.startswith("::warning title=")


def test_github_names_files_as_the_repository_does() -> None:
    report = Report("app.py", [], 1, 0)
    report.findings = [Finding(NOT_CLOSED, THREAD, Site("f", "/repo/sub/a.py", 3, base="/repo/sub"))]
    assert github.render(report, {"GITHUB_WORKSPACE": "/repo"}).startswith("::warning file=sub/a.py,line=3,")
    assert github.render(report, {"GITHUB_WORKSPACE": "/other"}).startswith("::warning file=a.py,line=3,")


@pytest.mark.parametrize("site", [UNKNOWN, Site("f", "<string>", 1)])
def test_github_without_a_file(site: Site) -> None:
    report = Report("app.py", [], 1, 0)
    report.findings = [Finding(NOT_CLOSED, THREAD, site)]
    assert github.render(report, {}).startswith("::warning title=")


def test_github_tells_how_many_more(report: Report) -> None:
    report.findings = [Finding(NOT_CLOSED, THREAD, Site("f", "/a.py", line)) for line in range(1, 15)]
    lines = github.render(report, {}).splitlines()
    assert len(lines) == 11
    assert lines[-1].startswith("::notice title=leakagent::14 resources were still open")
    assert lines[-1].endswith("; 4 more findings")


def test_github_nothing_found_is_nothing_said() -> None:
    assert github.render(Report("app.py", [], 1, 0), {}) == ""


def test_github_passes_on_no_other_command(nasty: Report) -> None:
    for line in github.render(nasty, {}).splitlines():
        command, properties, _ = re.fullmatch(r"::(\w+) (.*?)::(.*)", line).groups()  # type: ignore[union-attr]
        assert command == "warning"
        assert set(re.findall(r"(?:^|,)(\w+)=", properties)) == {"file", "line", "title"} - (
            set() if "file=" in properties else {"file", "line"}
        )
        assert line.isprintable()
