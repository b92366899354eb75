"""Makes the dashboards: for Grafana (grafana/dashboards/leakagent.json) and for VictoriaMetrics' own page (vmui/leakagent.json).

    python deploy/dashboards.py            write them; needs grafana-foundation-sdk
    python deploy/dashboards.py --check    status 1 if the files are not what this script makes

Every query selects a service in both ways in which stores name it: by the label ``service_name`` (VictoriaMetrics, and a Prometheus or
Collector that promotes resource attributes), or by ``job`` (Prometheus, by OTLP and by scraping).  What processes send at their end stays in
sight for the time that is looked at.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
GRAFANA = HERE / "grafana" / "dashboards" / "leakagent.json"
VMUI = HERE / "vmui" / "leakagent.json"

STAT, LINES, TABLE = "stat", "lines", "table"

#: Columns that a row has: Grafana's number; vmui has 12.
COLUMNS = 24

KIND = "leakagent_resource_kind"
REASON = "leakagent_finding_reason"
FUNCTION = "code_function_name"
STAGE = "leakagent_stage_name"
OUTCOME = "leakagent_stage_outcome"


def of(metric: str, *conditions: str) -> str:
    """Return a selector for the chosen services, with and without promoted resource attributes."""
    first, second = (", ".join([*conditions, f'{label}=~"$service"']) for label in ("service_name", "job"))
    return f"({metric}{{{first}}} or {metric}{{{second}}})"


def last_of(metric: str, *conditions: str) -> str:
    """Return the last values in the time that is looked at, for what a process sends at its end and never again."""
    first, second = (", ".join([*conditions, f'{label}=~"$service"']) for label in ("service_name", "job"))
    return f"(last_over_time({metric}{{{first}}}[$__range]) or last_over_time({metric}{{{second}}}[$__range]))"


COUNT = of("leakagent_resource_count", 'leakagent_resource_state="live"')
FINDINGS = last_of("leakagent_findings_total")
DURATION = "leakagent_stage_duration_seconds"


@dataclass(frozen=True)
class Panel:
    """One picture: what it shows, by which queries (text, and how a series is called), in which unit of Grafana's."""

    title: str
    about: str
    queries: tuple[tuple[str, str], ...]
    form: str = LINES
    unit: str = "short"
    width: int = 12


#: Title of a row -> its panels.
ROWS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        Panel("Leaks found", "Resources that were told as leaks, each once.", ((f"sum({FINDINGS})", "leaks"),), STAT, width=6),
        Panel("Live resources", "Tasks, pools, threads, processes, clients.", ((f"sum({COUNT})", "live"),), STAT, width=6),
        Panel(
            "Oldest resource",
            "Age of the oldest that still exists.",
            ((f"max({of('leakagent_resource_age_max_seconds')})", "age"),),
            STAT,
            "s",
            6,
        ),
        Panel(
            "Parts of the agent that are off",
            "After an error of leakagent's own; please report it.",
            ((f"sum({of('leakagent_agent_part_disabled')}) or vector(0)", "parts"),),
            STAT,
            width=6,
        ),
    ),
    "Leaks": (
        Panel(
            "Leaks by place",
            "Function that created them, why they are told, and how many.",
            ((f"sum by ({FUNCTION}, {KIND}, {REASON}) ({FINDINGS})", f"{{{{{FUNCTION}}}}} {{{{{KIND}}}}} {{{{{REASON}}}}}"),),
            TABLE,
        ),
        Panel(
            "Leaks by reason", "A line that keeps rising is a leak.", ((f"sum by ({REASON}) ({FINDINGS})", f"{{{{{REASON}}}}}"),)
        ),
    ),
    "Resources": (
        Panel("Live by kind", "What exists now.", ((f"sum by ({KIND}) ({COUNT})", f"{{{{{KIND}}}}}"),)),
        Panel(
            "Live by place, the ten biggest",
            "Function that created them.",
            ((f"topk(10, sum by ({FUNCTION}, {KIND}) ({COUNT}))", f"{{{{{FUNCTION}}}}} {{{{{KIND}}}}}"),),
        ),
        Panel(
            "Created and ended",
            "Two lines that part are a leak.",
            (
                (f"sum by ({KIND}) ({of('leakagent_resource_created_total')})", f"{{{{{KIND}}}}} created"),
                (f"sum by ({KIND}) ({of('leakagent_resource_finished_total')})", f"{{{{{KIND}}}}} ended"),
            ),
        ),
        Panel(
            "Age of the oldest",
            "By kind.",
            ((f"max by ({KIND}) ({of('leakagent_resource_age_max_seconds')})", f"{{{{{KIND}}}}}"),),
            unit="s",
        ),
    ),
    "Ends of processes": (
        Panel(
            "Mean time of each stage",
            "How long the shutdown took.",
            (
                (
                    f"sum by ({STAGE}) ({last_of(DURATION + '_sum')}) / sum by ({STAGE}) ({last_of(DURATION + '_count')})",
                    f"{{{{{STAGE}}}}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            "Asked to end, by outcome",
            "What was forced did not end within its deadline.",
            (
                (
                    f"sum by ({STAGE}, {OUTCOME}) ({last_of('leakagent_stage_resources_total')})",
                    f"{{{{{STAGE}}}}} {{{{{OUTCOME}}}}}",
                ),
            ),
        ),
    ),
    "Cost": (
        Panel(
            "Time of the agent",
            "What it took to look, to close and to tell.",
            ((f"sum({last_of('leakagent_agent_time_seconds_total')})", "agent"),),
            unit="s",
            width=8,
        ),
        Panel(
            "Memory of the agent",
            "Its notes.",
            ((f"sum({of('leakagent_agent_memory_usage_bytes')})", "notes"),),
            unit="bytes",
            width=8,
        ),
        Panel(
            "Memory of the processes",
            "Sent with --otel-memory 1 only.",
            ((f"sum({of('process_memory_usage_bytes')})", "RSS"),),
            unit="bytes",
            width=8,
        ),
    ),
}

_NAMED = "leakagent_agent_memory_usage_bytes"
#: The services that send: by either label, shown as one.
SERVICES = (
    f'count by (service) (label_replace(label_replace({_NAMED}, "service", "$1", "job", "(.+)"), '
    '"service", "$1", "service_name", "(.+)"))'
)


def grafana() -> str:
    """Return Grafana's dashboard."""
    from grafana_foundation_sdk.builders import dashboard as builders
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models import dashboard as models

    made = (
        builders.Dashboard("leakagent")
        .uid("leakagent")
        .description("Leaked background work of Python programs. Made by deploy/dashboards.py: do not edit.")
        .tags(["leakagent", "python", "opentelemetry"])
        .time("now-30m", "now")
        .refresh("10s")
        .readonly()
        .with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(
            builders.QueryVariable("service")
            .label("Service")
            .datasource(models.DataSourceRef(type_val="prometheus", uid="${datasource}"))
            .query({"query": f"query_result({SERVICES})", "refId": "services"})
            .regex('/service="([^"]+)"/')
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            .all_value(".*")
            .multi(True)
        )
    )
    number = 0
    for title, panels in ROWS.items():
        number += 1
        made.with_row(builders.Row(title).id(number))
        for panel in panels:
            number += 1
            made.with_panel(_panel(panel).id(number))
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _panel(panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import common, prometheus, stat, table, timeseries
    from grafana_foundation_sdk.models import common as models
    from grafana_foundation_sdk.models import dashboard
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat

    forms: dict[str, Callable[[], Any]] = {STAT: stat.Panel, LINES: timeseries.Panel, TABLE: table.Panel}
    made = (
        forms[panel.form]()
        .title(panel.title)
        .description(panel.about)
        .unit(panel.unit)
        .span(panel.width)
        .height(4 if panel.form == STAT else 8)
        .datasource(dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}"))
    )
    if panel.form == LINES:
        legend = common.VizLegendOptions().display_mode(models.LegendDisplayMode.LIST).placement(models.LegendPlacement.BOTTOM)
        made.legend(legend.show_legend(True))
    for number, (text, name) in enumerate(panel.queries):
        query = prometheus.Dataquery().expr(text).legend_format(name).ref_id(chr(ord("A") + number))
        if panel.form == TABLE:
            query.instant().format(PromQueryFormat.TABLE)
        else:
            query.range()
        made.with_target(query)
    return made


def vmui() -> str:
    """Return the dashboard of VictoriaMetrics' own page, which has no variables: all services; and shows one row only until asked."""
    panels = [
        {
            "title": panel.title,
            "description": panel.about,
            "unit": {"s": "s", "bytes": "B"}.get(panel.unit, ""),
            "expr": [text.replace("$service", ".*").replace("$__range", "1h") for text, _ in panel.queries],
            "alias": [name for _, name in panel.queries],
            "showLegend": True,
            "width": panel.width * 12 // COLUMNS,
        }
        for row in ROWS.values()
        for panel in sorted(row, key=lambda panel: panel.form == STAT)
    ]
    return json.dumps({"title": "leakagent", "rows": [{"title": "leakagent", "panels": panels}]}, indent=2) + "\n"


def main(arguments: list[str]) -> int:
    """Write the files, or compare them."""
    files = {GRAFANA: grafana(), VMUI: vmui()}
    if arguments == ["--check"]:
        old = [path.name for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
        for name in old:
            print(f"{name} is not what deploy/dashboards.py makes: run it", file=sys.stderr)
        return 1 if old else 0
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(HERE))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
