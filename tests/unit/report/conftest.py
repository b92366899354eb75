"""A report with something of everything."""

from __future__ import annotations

import pytest

from leakagent.core.findings import (
    CANCELLED,
    CLOSED,
    KILLED,
    LOST_TASK,
    NOT_CLOSED,
    ORPHANED,
    Finding,
    Report,
    StageReceipt,
)
from leakagent.core.records import CHROMADB_CLIENT, PROCESS, TASK
from leakagent.core.sites import LIBRARY, Site


@pytest.fixture
def report() -> Report:
    """The example of the design, with the fields that the text does not show."""
    report = Report("app.py", ["app.py", "--port", "8000"], 4100, 1)
    report.python, report.leakagent = "3.11.7", "0.1.0"
    report.started, report.ended, report.status = 1790000000.25, 1790000125.5, 0
    tasks = Finding(
        LOST_TASK,
        TASK,
        Site("stream_answer", "/app/rag/chat.py", 88, base="/app"),
        count=31,
        oldest_age_s=124.2,
        evidence=["waiting in httpx receive", "started by POST /chat"],
        trace_id="1c1e27e1" * 4,
        action=CANCELLED,
    )
    tasks.source = "asyncio.create_task(self._stream(question))"
    processes = Finding(
        ORPHANED,
        PROCESS,
        Site("build_index", "/app/jobs/embed.py", 41, base="/app"),
        count=2,
        evidence=["pid 4121 ended on SIGTERM after 0.2 s", "pid 4122 killed after 3.0 s"],
        action=KILLED,
    )
    processes.source = "p = Process(target=embed, args=(shard,))"
    site = Site("get_client", "/app/rag/store.py", 17, base="/app")
    site.owner = LIBRARY
    client = Finding(NOT_CLOSED, CHROMADB_CLIENT, site, oldest_age_s=130, names=["/data/chroma"], action=CLOSED)
    report.findings = [client, processes, tasks]
    report.receipt = [
        StageReceipt("loops", 0.4, 31, 0, 3.0),
        StageReceipt("children", 1.3, 2, 1, 2.0),
        StageReceipt("clients", 0.1, 1, 0, 1.0),
    ]
    report.totals = {TASK: {"created": 4100, "finished": 4069, "live": 31, "peak": 44}}
    report.agent = {"seconds": 0.031, "bytes": 18400, "disabled": ["lancedb: version 9 is not known"]}
    return report


#: Texts that a program can give its resources, and that no format may pass on as they are.
NASTY = [
    "\x1b[31mred\x1b[0m \x9b2J \x07 \r\n next",
    "<script>alert(1)</script>\" onmouseover='x' &amp;",
    "a|b `code` ``more`` @someone #1 [link](http://x) *bold*",
    "100%0A::error::hi, there:\n::error::bye",
    "\udcff\udc80 surrogates",
    "\u202egnp.exe\u2066 \u2028\u2029\u200b",
    "x" * 100_000,
    "\0",
    "",
]


@pytest.fixture(params=range(len(NASTY)))
def nasty(request: pytest.FixtureRequest, report: Report) -> Report:
    """The example with one nasty text at every place that takes one."""
    text = NASTY[request.param]
    report.program = text
    report.argv = [text]
    for finding in report.findings:
        finding.site = Site(text, "/app/" + text, 3, base="/app")
        finding.source = text.strip()
        finding.names, finding.evidence, finding.stack = [text], [text], [text, text]
        finding.test_id, finding.fix = text, text
    report.totals[text or "kind"] = {}
    report.agent["disabled"] = [text]
    return report
