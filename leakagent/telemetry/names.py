"""Every name that leaves the process by OpenTelemetry: a public interface, listed in docs/telemetry.md (`page`).

The rules of the semantic conventions that bind us: a third party's names begin with its own; counts carry singular units in
curly braces; an unsigned count of what is there now is singular, a counter of what has happened is plural; ``code.function.name`` and
its relatives are reused, other namespaces are not extended; file and line stand on spans only, since they have no bound; what took long is
a histogram; what failed carries ``error.type``, which is absent where nothing failed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SCOPE = "leakagent"
#: Where the reused names are defined.
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

KIND = "leakagent.resource.kind"
STATE = "leakagent.resource.state"
REASON = "leakagent.finding.reason"
FINGERPRINT = "leakagent.finding.fingerprint"
COUNT = "leakagent.finding.count"
ACTION = "leakagent.finding.action"
OWNER = "leakagent.finding.owner"
EVIDENCE = "leakagent.finding.evidence"
FIX = "leakagent.finding.fix"
STAGE = "leakagent.stage.name"
OUTCOME = "leakagent.stage.outcome"
PART = "leakagent.part.name"
LINK = "leakagent.link.type"
FUNCTION = "code.function.name"
FILE = "code.file.path"
LINE = "code.line.number"
STACK = "code.stacktrace"
PID = "process.pid"
EXIT_CODE = "process.exit.code"
ERROR = "error.type"

#: What stands for all sites that are not among the biggest.
OTHER = "_OTHER"
#: How many sites are named at a time, per metric.
SITES = 20
#: Spans for one place in the program; `FINDINGS` counts all.
SPANS_PER_PLACE = 10
#: Links of the span of a shutdown, and spans of what it had to force.
LINKS = 32

UP_DOWN = "UpDownCounter"
COUNTER = "Counter"
GAUGE = "Gauge"
HISTOGRAM = "Histogram"

#: Upper bounds of the buckets of a histogram, in seconds (the SDK's own are meant for milliseconds).
BOUNDS = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0)

RESOURCE_COUNT = "leakagent.resource.count"
RESOURCE_CREATED = "leakagent.resource.created"
RESOURCE_FINISHED = "leakagent.resource.finished"
RESOURCE_AGE = "leakagent.resource.age.max"
FINDINGS = "leakagent.findings"
STAGE_DURATION = "leakagent.stage.duration"
STAGE_RESOURCES = "leakagent.stage.resources"
AGENT_TIME = "leakagent.agent.time"
AGENT_MEMORY = "leakagent.agent.memory.usage"
AGENT_DISABLED = "leakagent.agent.part.disabled"
PROCESS_MEMORY = "process.memory.usage"

#: Name -> (instrument, unit, attributes, meaning).
METRICS = {
    RESOURCE_COUNT: (UP_DOWN, "{resource}", (KIND, STATE, FUNCTION), "Resources that are tracked and exist now."),
    RESOURCE_CREATED: (COUNTER, "{resource}", (KIND,), "Resources created since the process started."),
    RESOURCE_FINISHED: (COUNTER, "{resource}", (KIND,), "Resources that have ended since the process started."),
    RESOURCE_AGE: (GAUGE, "s", (KIND,), "Age of the oldest resource that exists now."),
    FINDINGS: (COUNTER, "{finding}", (REASON, KIND, FUNCTION), "Leaks found, each resource once."),
    STAGE_DURATION: (HISTOGRAM, "s", (STAGE, ERROR), "How long each stage of the shutdown took, once per process."),
    STAGE_RESOURCES: (
        COUNTER,
        "{resource}",
        (STAGE, OUTCOME, ERROR),
        "Resources that were asked to end in each stage of the shutdown.",
    ),
    AGENT_TIME: (COUNTER, "s", (), "Time that the agent itself took to look, to close and to tell."),
    AGENT_MEMORY: (UP_DOWN, "By", (), "Memory that the agent's own notes take, about."),
    AGENT_DISABLED: (UP_DOWN, "{part}", (PART,), "Parts of the agent that are off after an error of its own."),
    PROCESS_MEMORY: (
        UP_DOWN,
        "By",
        (),
        "Physical memory of the process; with `--otel-memory 1` only: other instrumentations send it too.",
    ),
}
#: Sent only where they are asked for.
ON_REQUEST = {PROCESS_MEMORY}

LIVE = "live"
DROPPED = "dropped"
ENDED = "ended"
FORCED = "forced"
#: Value of `ERROR` where something did not end within its deadline.
TIMEOUT = "timeout"

#: Attribute -> meaning.
ATTRIBUTES = {
    KIND: "Kind of resource, as in the report: `asyncio.task`, `thread_pool`, ...",
    STATE: "`live`, or `dropped`: collected without having been closed.",
    REASON: "Why it is told, as in the report: `lost_task`, `not_closed`, ...",
    FINGERPRINT: "Identity of the place, as in the report.",
    COUNT: "Resources that this finding stands for.",
    ACTION: "What was done about it, as in the report.",
    OWNER: "`yours` or `library`.",
    EVIDENCE: "How the agent knows, as in the report: where it waits, what held it.",
    FIX: "What to write there, as in the report.",
    STAGE: "Stage of the shutdown, as on the report's receipt.",
    OUTCOME: "`ended` in time, or `forced`.",
    PART: "Part of the agent.",
    LINK: "On a link: `created_by`, or `finding`.",
    FUNCTION: f"Function that created it, with its module: `rag.chat.stream_answer`. On metrics the {SITES} biggest, `{OTHER}` for the rest.",
    FILE: "Its file, relative to the working folder or starting at the package.",
    LINE: "Its line.",
    STACK: "The creation stack, with `--level stack`.",
    PID: "The process.",
    EXIT_CODE: "The exit status, if it is known.",
    ERROR: f"On what failed only: `{TIMEOUT}` where something had to be forced; on a leak its reason.",
}

FINDING_SPAN = "leak"
SHUTDOWN_SPAN = "leakagent.shutdown"
STAGE_SPAN = "leakagent.stage"
FORCED_SPAN = "leakagent.forced"

_CREATOR = "Child of the span that was current at the creation, and linked to it"

#: Name -> (attributes, meaning).
SPANS = {
    f"{FINDING_SPAN} {{kind}}": (
        (REASON, KIND, FINGERPRINT, COUNT, ACTION, OWNER, EVIDENCE, FIX, FUNCTION, FILE, LINE, STACK, PID, ERROR),
        f"A finding, from the creation of the resource until it was found. {_CREATOR}; at most {SPANS_PER_PLACE} for one place.",
    ),
    SHUTDOWN_SPAN: (
        (PID, EXIT_CODE),
        f"The end of the process, with links to the findings (at most {LINKS}).",
    ),
    f"{STAGE_SPAN} {{stage}}": ((STAGE, ERROR), "One stage of it; an error if something had to be forced."),
    f"{FORCED_SPAN} {{kind}}": (
        (KIND, ACTION, COUNT, FUNCTION, FILE, LINE, ERROR),
        f"What did not end in its stage and was forced, with a link to its finding; child of the stage (at most {LINKS}).",
    ),
}

FINDING_EVENT = "leakagent.finding"
SHUTDOWN_EVENT = "leakagent.shutdown"
DISABLED_EVENT = "leakagent.part.disabled"

#: Name -> (severity, attributes, meaning).
EVENTS = {
    FINDING_EVENT: (
        "WARN",
        (REASON, KIND, FINGERPRINT, COUNT, ACTION, OWNER, EVIDENCE, FIX, FUNCTION, FILE, LINE, STACK, PID),
        f"A finding; the body says it in one line. In the trace and span that created it; at most {SPANS_PER_PLACE} for one place.",
    ),
    SHUTDOWN_EVENT: (
        "INFO, WARN if something was forced",
        (PID, EXIT_CODE),
        "The end of the process; the body counts what was found.",
    ),
    DISABLED_EVENT: ("WARN", (PART,), "A part of the agent is off after an error of its own, which is the body."),
}


def page() -> str:
    """Return docs/telemetry.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from (
        "# What leakagent sends by OpenTelemetry",
        "",
        "Written from `leakagent/telemetry/names.py` by `python -m leakagent.telemetry.names`; do not edit. Names are a public interface.",
        f"Instrumentation scope `{SCOPE}`, its version is leakagent's, its schema {SCHEMA_URL}.",
        "",
        "## Metrics",
        "",
        "| name | instrument | unit | attributes | meaning |",
        "|---|---|---|---|---|",
    )
    for name, (instrument, unit, attributes, meaning) in METRICS.items():
        yield f"| `{name}` | {instrument} | `{unit}` | {_listed(attributes)} | {meaning} |"
    yield from ("", "## Spans", "", "| name | attributes | meaning |", "|---|---|---|")
    for name, (attributes, meaning) in SPANS.items():
        yield f"| `{name}` | {_listed(attributes)} | {meaning} |"
    yield from (
        "",
        "## Events",
        "",
        "Log records with an event name; sent only with `OTEL_LOGS_EXPORTER` (`otlp` or `console`).",
        "",
        "| name | severity | attributes | meaning |",
        "|---|---|---|---|",
    )
    for name, (severity, attributes, meaning) in EVENTS.items():
        yield f"| `{name}` | {severity} | {_listed(attributes)} | {meaning} |"
    yield from ("", "## Attributes", "", "| name | meaning |", "|---|---|")
    for name, meaning in ATTRIBUTES.items():
        yield f"| `{name}` | {meaning} |"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


if __name__ == "__main__":
    import sys

    sys.stdout.write(page())
