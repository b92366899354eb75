"""What stands in deploy/: dashboards and alerts are asked of a real store, filled by the real demo through a real Collector."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from leakagent.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEPLOY = Path(__file__).parents[2] / "deploy"

#: What the demo has none of: something that is forced, and a part of the agent that is off.
FORCED = """
import asyncio
from leakagent import guard
from pieces import stubborn

async def main():
    kept.append(asyncio.create_task(stubborn()))
    await asyncio.sleep(0)

kept = []
asyncio.run(main())
guard.failed("planted", ValueError("on purpose"))
"""
PIECES = Path(__file__).parent / "programs" / "pieces.py"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DEPLOY))
    spec = importlib.util.spec_from_file_location(name, DEPLOY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        yield load("demo", patch)


@pytest.fixture(scope="module")
def filled(demo: Any, free_ports: Callable[[int], list[int]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a store that the demo has filled."""
    folder = tmp_path_factory.mktemp("stack")
    with demo.stack(folder, *free_ports(3)) as running:
        demo.run_app(running, quiet=True)
        demo.leaks(running)
        yield running


@pytest.fixture(scope="module")
def also_forced(
    filled: Any, demo: Any, tmp_path_factory: pytest.TempPathFactory, environment: Callable[..., dict[str, str]]
) -> Any:
    """Return the same, with what the demo has none of."""
    app = tmp_path_factory.mktemp("forced") / "stubborn.py"
    app.write_text(FORCED, encoding="utf-8")
    (app.parent / PIECES.name).write_bytes(PIECES.read_bytes())
    env = environment(filled.variables("stubborn", "grpc"))
    command = [sys.executable, "-m", "leakagent", "--grace", "0.2", app]
    subprocess.run(command, env=env, cwd=app.parent, check=True, stderr=subprocess.DEVNULL, timeout=120)
    demo.wait_for(lambda: filled.query('last_over_time(leakagent_stage_resources_total{service_name="stubborn"}[1h])'), "its end")
    return filled


def asked(running: Any, demo: Any, text: str) -> list[dict[str, Any]]:
    """Return what the store answers, as soon as it is something."""
    return list(demo.wait_for(lambda: running.query(text), text))


def dashboard() -> dict[str, Any]:
    return dict(json.loads((DEPLOY / "grafana" / "dashboards" / "leakagent.json").read_text(encoding="utf-8")))


def grafana_queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def vmui_queries() -> list[str]:
    found = json.loads((DEPLOY / "vmui" / "leakagent.json").read_text(encoding="utf-8"))
    return [text for row in found["rows"] for panel in row["panels"] for text in panel["expr"]]


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


def test_the_dashboards_are_those_that_the_script_makes(run: Callable[..., Any]) -> None:
    ran = run([sys.executable, DEPLOY / "dashboards.py", "--check"])
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), ran


def test_the_store_names_the_leaks_of_the_demo(filled: Any, demo: Any) -> None:
    assert demo.leaks(filled) == [
        (3, "lost_task", "asyncio.task", "chatlog._Entry.__init__"),
        (1, "blocks_exit", "process", "indexer.start_indexing"),
        (1, "not_closed", "chromadb.client", "stores.Stores.__init__"),
        (1, "not_closed", "lancedb.connection", "stores.Stores.open"),
        (1, "not_shut_down", "thread_pool", "ingest.Ingestion.__init__"),
        (1, "outlived_scope", "asyncio.task", "session._converse"),
    ]


@pytest.mark.parametrize("text", [*grafana_queries(), *vmui_queries()])
def test_every_query_of_the_dashboards_has_an_answer(text: str, also_forced: Any, demo: Any) -> None:
    for service in (".*", f"{demo.SERVICE}"):
        assert asked(also_forced, demo, in_the_last(text, service)), text


def in_the_last(text: str, service: str, time: str = "30m") -> str:
    """Return a query as of any moment of the last half an hour: the programs that sent have ended."""
    query = text.replace("$service", service).replace("$__range", time)
    return f"max_over_time(({query})[{time}:1s])"


def test_the_services_can_be_chosen(also_forced: Any, demo: Any) -> None:
    (variable,) = [one for one in dashboard()["templating"]["list"] if one["name"] == "service"]
    text = variable["query"]["query"].removeprefix("query_result(").removesuffix(")")
    found = asked(also_forced, demo, f"last_over_time(({text})[30m:1s])")
    shown = [f"service={json.dumps(one['metric']['service'])}" for one in found]
    pattern = re.compile(variable["regex"].strip("/"))
    assert {pattern.search(line)[1] for line in shown} >= {demo.SERVICE, "stubborn"}  # type: ignore[index]


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_looks_at_something(alert: dict[str, Any], also_forced: Any, demo: Any) -> None:
    also_forced.query(alert["expr"])
    text, _, limit = alert["expr"].rpartition(" > ")
    found = asked(also_forced, demo, f"max_over_time(({text})[30m:1s])")
    labels = {name for one in found for name in one["metric"]}
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(alert["annotations"].values()))) - {"job"}
    assert used <= labels
    if limit == "0":
        assert any(float(one["value"][1]) > 0 for one in found)


def test_the_dashboard_shows_every_metric_of_the_page() -> None:
    everything = " ".join(grafana_queries())
    missing = [name for name in names.METRICS if name.replace(".", "_") not in everything]
    assert missing == []


def test_panels_have_ids_of_their_own_and_the_data_source_that_is_chosen() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    sources = {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"}
    assert sources == {"${datasource}"}
    assert [one["name"] for one in dashboard()["templating"]["list"]] == ["datasource", "service"]


def test_every_alert_has_a_test() -> None:
    tested = yaml.safe_load((DEPLOY / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    assert {alert["alert"] for alert in alerts()} == {case["alertname"] for test in tested for case in test["alert_rule_test"]}


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8")))


def mounts() -> dict[str, Path]:
    """Return where containers find what is mounted from here, and what that is."""
    entries = [entry.split(":") for one in compose()["services"].values() for entry in one.get("volumes", ())]
    return {inside: DEPLOY / outside for outside, inside, *_ in entries if outside.startswith(".")}


def test_the_compose_file_is_one(run: Callable[..., Any], tmp_path: Path) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    ran = run([*check, DEPLOY / "compose.yaml"])
    assert ran.returncode == 0, ran
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text(encoding="utf-8").replace("depends_on", "depends"), encoding="utf-8")
    assert run([*check, wrong]).returncode != 0


def test_the_files_that_compose_mounts_are_there() -> None:
    assert mounts()
    assert [path for path in mounts().values() if not path.exists()] == []
    ports = [port for one in compose()["services"].values() for port in one.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_grafana_finds_what_compose_gives_it() -> None:
    there, provisioning = mounts(), DEPLOY / "grafana" / "provisioning"
    assert there["/etc/grafana/provisioning"].resolve() == provisioning
    (dashboards,) = yaml.safe_load((provisioning / "dashboards" / "leakagent.yaml").read_text(encoding="utf-8"))["providers"]
    assert there[dashboards["options"]["path"]].resolve() == DEPLOY / "grafana" / "dashboards"
    (source,) = yaml.safe_load((provisioning / "datasources" / "store.yaml").read_text(encoding="utf-8"))["datasources"]
    assert source["type"] == "prometheus"
    assert source["url"] == compose()["services"]["collector"]["environment"]["LEAKAGENT_STORE"].removesuffix("/opentelemetry")


def test_the_collector_takes_its_configuration(run: Callable[..., Any]) -> None:
    binary = shutil.which("otelcol")
    assert binary, "there is no otelcol on the PATH"
    for env in ({}, compose()["services"]["collector"]["environment"]):
        ran = run([binary, "validate", "--config", DEPLOY / "collector.yaml"], env=env)
        assert ran.returncode == 0, ran


def test_the_store_has_the_flags_that_compose_gives_it(run: Callable[..., Any]) -> None:
    binary = shutil.which("victoria-metrics")
    assert binary, "there is no victoria-metrics on the PATH"
    ran = run([binary, "-help"])
    known = set(re.findall(r"^  -(\S+)", ran.stdout + ran.stderr, re.MULTILINE))
    given = {flag.lstrip("-").partition("=")[0] for flag in compose()["services"]["store"]["command"]}
    assert given <= known


def test_the_page_in_front_of_a_store_that_has_none(filled: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = load("page", monkeypatch)
    (tmp_path / "index.html").write_text("the page", encoding="utf-8")

    def got(path: str, body: bytes | None = None) -> str:
        with urllib.request.urlopen(address + path, body, timeout=60) as answer:
            return str(answer.read().decode())

    with page.served(tmp_path, filled.store) as address:
        assert got("/vmui/?g0.expr=1#/dashboards") == "the page"
        # The store answers for itself, and knows our dashboard.
        (shown,) = json.loads(got("/vmui/custom-dashboards"))["dashboardsSettings"]
        assert shown["title"] == "leakagent"
        assert json.loads(got("/api/v1/query", b"query=vector(7)"))["data"]["result"][0]["value"][1] == "7"
        with pytest.raises(urllib.error.HTTPError, match=r"400|422"):
            got("/api/v1/query", b"query=sum(")


def test_a_port_in_use_is_one_line(demo: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_accepts", lambda _port: True)
    assert demo.main(["--once"]) == 2
    assert capsys.readouterr().err == "demo.py: port 8428 is in use\n"
