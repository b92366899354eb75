"""Starting without a hook in site-packages, and beside `opentelemetry-instrument`, the real one."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SITE_PACKAGES = Path(sysconfig.get_paths()["purelib"])
TEMPLATE = Path(__file__).parents[2] / "sitecustomize_template"
LAUNCHER = Path(sys.executable).parent / "opentelemetry-instrument"

#: Its instrumentation is configured, and sends nothing anywhere.
OTEL = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}

# Tells for itself and for a child: agent, OpenTelemetry's provider, the first entry of PYTHONPATH.
APP = """\
import os, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from opentelemetry import trace

agent = sys.modules.get("leakagent.agent")
first = os.environ.get("PYTHONPATH", "").split(os.pathsep)[0]
print(bool(agent and agent.is_active()), type(trace.get_tracer_provider()).__name__, os.path.basename(first), flush=True)
if len(sys.argv) == 1:
    subprocess.run([sys.executable, __file__, "child"], check=True)
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
"""


@pytest.fixture
def bare_python(tmp_path: Path, run: Callable[..., object]) -> Path:
    """Return an interpreter whose site-packages is empty and runs no hook; PYTHONPATH brings packages, but never their hooks."""
    assert run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"]).returncode == 0
    return tmp_path / "bare" / "bin" / "python"


def found(report: Path) -> list[tuple[str, str, int]]:
    loaded = json.loads(report.read_text(encoding="utf-8"))
    return [(one["reason"], one["site"]["file"], one["site"]["line"]) for one in loaded["findings"]]


def test_opentelemetry_instrument_and_the_installed_hook(
    run: Callable[..., object], program: Callable[..., Path], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    env = {**OTEL, "LEAKAGENT": "1", "LEAKAGENT_REPORT": f"json:{report}"}
    ran = run([LAUNCHER, sys.executable, program(APP)], env=env, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (0, "True TracerProvider auto_instrumentation\n" * 2), ran
    assert found(report) == [("not_shut_down", "app.py", 10)]


@pytest.mark.parametrize("order", ["template first", "template last"])
def test_opentelemetry_instrument_and_the_template(
    order: str, run: Callable[..., object], program: Callable[..., Path], bare_python: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    folders = [TEMPLATE, SITE_PACKAGES] if order == "template first" else [SITE_PACKAGES, TEMPLATE]
    path = os.pathsep.join(map(str, folders))
    env = {**OTEL, "PYTHONPATH": path, "LEAKAGENT": "1", "LEAKAGENT_REPORT": f"json:{report}"}
    ran = run([bare_python, LAUNCHER, bare_python, program(APP)], env=env, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (0, f"True TracerProvider {TEMPLATE.name}\n" * 2), ran
    assert found(report) == [("not_shut_down", "app.py", 10)]


def test_with_leakagent_unset_opentelemetry_instrument_is_left_alone(
    run: Callable[..., object], program: Callable[..., Path], bare_python: Path, tmp_path: Path
) -> None:
    app = program(APP)
    expected = "False TracerProvider auto_instrumentation\n" * 2
    ran = run([LAUNCHER, sys.executable, app], env=OTEL, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (0, expected), ran
    path = os.pathsep.join(map(str, (TEMPLATE, SITE_PACKAGES)))
    ran = run([bare_python, LAUNCHER, bare_python, app], env={**OTEL, "PYTHONPATH": path}, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (0, expected), ran


def test_the_template_alone(run: Callable[..., object], program: Callable[..., Path], bare_python: Path, tmp_path: Path) -> None:
    # It is not the first: who wrote PYTHONPATH like that has it like that.
    path = os.pathsep.join(map(str, (SITE_PACKAGES, TEMPLATE)))
    for variables, active in (({"LEAKAGENT": "1", "LEAKAGENT_REPORT": "off"}, True), ({}, False)):
        ran = run([bare_python, program(APP)], env={"PYTHONPATH": path, **variables}, cwd=tmp_path)
        assert (ran.returncode, ran.stdout) == (0, f"{active} ProxyTracerProvider site-packages\n" * 2), ran


def test_the_template_touches_exec_in_the_launcher_only(run: Callable[..., object], bare_python: Path) -> None:
    path = os.pathsep.join(map(str, (TEMPLATE, SITE_PACKAGES)))
    code = "import os, sys; print(os.execv is sys.modules['posix'].execv)"
    ran = run([bare_python, "-c", code, "opentelemetry-instrument"], env={"PYTHONPATH": path, "LEAKAGENT": "1"})
    assert (ran.returncode, ran.stdout) == (0, "True\n"), ran
