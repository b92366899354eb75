"""Instrumentations of other packages: found without importing them, used when their module arrives, and harmless when broken."""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIBRARY = """\
class Client:
    def __init__(self, name):
        self.name = name
        self.closed = False
    def close(self):
        self.closed = True
        print("closed", self.name, flush=True)
"""

PLUGIN = """\
from leakagent.plugin import Closables
print("the plug-in was imported", flush=True)
class Clients(Closables):
    kinds = {"acme.client": "client.close(), says the plug-in"}
    def arrived(self, module, patches):
        self.watch(patches, module.Client, "acme.client")
    def name(self, resource):
        return resource.name
    def is_open(self, resource):
        return not resource.closed
    def has_consequence(self, resource, record):
        record.detail["evidence"] = ["the plug-in knows why"]
        return True
"""

APP = """\
import acme.core
one = acme.core.Client("one")  # line 2
two = acme.core.Client("two")
two.close()
print("end", flush=True)
"""

ENTRY = """\
[console_scripts]
acme = acme:main

[leakagent.instrumentation]
# of acme
acme.core = acme_plugin:Clients
[other]
x = y:z
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Make a folder with an installed library, and a plug-in for it."""
    folder = tmp_path / "site"
    for name, text in {
        "acme/__init__.py": "",
        "acme/core.py": LIBRARY,
        "acme_plugin.py": PLUGIN,
        "acme_plugin-1.0.dist-info/entry_points.txt": ENTRY,
        "no_entries-2.0.dist-info/METADATA": "",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def agent(python: Callable[..., Any], program: Callable[..., Path], packages: Path, tmp_path: Path) -> Callable[..., Any]:
    """Run a program under the agent, with these packages installed, and return what it left and its report."""

    def run(text: str, *, how: str = "variable") -> tuple[Any, dict[str, Any]]:
        path = program(text)
        report = tmp_path / "report.json"
        env = {"PYTHONPATH": str(packages), "LEAKAGENT_REPORT": f"json:{report}"}
        if how == "variable":
            env["LEAKAGENT"] = "1"
        return python(*(["-m", "leakagent"] if how == "module" else []), path, env=env), json.loads(report.read_text("utf-8"))

    return run


@pytest.mark.parametrize("how", ["variable", "module", "code"])
def test_a_plug_in_finds_and_closes(agent: Callable[..., Any], how: str) -> None:
    text = ("import leakagent; leakagent.install(); " if how == "code" else "") + APP
    ran, report = agent(text, how=how)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "the plug-in was imported\nclosed two\nend\nclosed one\n"
    (found,) = report["findings"]
    assert (found["kind"], found["reason"], found["site"]["line"], found["action"]) == ("acme.client", "not_closed", 2, "closed")
    assert (found["names"], found["evidence"]) == (["one"], ["the plug-in knows why"])
    assert found["fix"] == "client.close(), says the plug-in"
    jsonschema.validate(report, json.loads((files("leakagent") / "report" / "schema.json").read_text("utf-8")))
    assert report["totals"]["acme.client"] == {"created": 2, "finished": 2, "live": 0, "peak": 2}
    assert report["agent"]["disabled"] == []


def test_install_after_the_library_was_imported(agent: Callable[..., Any]) -> None:
    _, report = agent("import acme.core, leakagent\nleakagent.install()\n" + APP, how="code")
    assert [one["kind"] for one in report["findings"]] == ["acme.client"]


def test_uninstall_gives_the_identical_methods_back(agent: Callable[..., Any]) -> None:
    text = """\
import acme.core as core, leakagent
before = dict(vars(core.Client))
leakagent.install()
print(vars(core.Client)["close"] is before["close"])
leakagent.uninstall()
print(dict(vars(core.Client)) == before)
leakagent.install()
"""
    ran, _ = agent(text, how="code")
    assert ran.stdout.splitlines()[-2:] == ["False", "True"]


@pytest.mark.parametrize("text", ["import json, asyncio\n", "import acme\n"], ids=["standard library", "another module"])
def test_nothing_is_imported_for_a_program_that_does_not_use_it(agent: Callable[..., Any], text: str) -> None:
    program = (
        text
        + "import sys\nprint([name for name in ('acme_plugin', 'leakagent.plugin', 'importlib.metadata') if name in sys.modules])\n"
    )
    ran, _ = agent(program)
    assert ran.stdout == "[]\n"


def test_the_kinds_of_a_plug_in_belong_to_a_scope(agent: Callable[..., Any]) -> None:
    text = """\
import acme.core, leakagent
with leakagent.scope("one", on_leak="cancel"):
    kept = acme.core.Client("kept")
    acme.core.Client("dropped")
print("after the scope", flush=True)
"""
    ran, report = agent(text)
    assert ran.stdout.splitlines()[1:] == ["closed kept", "after the scope"]
    assert [(one["reason"], one["kind"], one["action"], one["fix"]) for one in report["findings"]] == [
        ("outlived_scope", "acme.client", "closed", "client.close(), says the plug-in")
    ]


BROKEN = {
    "it can't be imported": ("import nowhere_to_be_found", "could not be imported (ModuleNotFoundError: "),
    "it ends the program": ("raise SystemExit(7)", "could not be imported (SystemExit: 7)"),
    "it has no such class": ("", "could not be imported (AttributeError: "),
    "no instrumentation": ("class Clients: pass", "no subclass of leakagent.plugin.Instrumentation"),
    "no kind": ("from leakagent.plugin import Closables as Clients", "it names no kind"),
    "a kind of ours": (
        "from leakagent.plugin import Closables\nclass Clients(Closables):\n    kinds = {'thread': ''}",
        "the kind thread is leakagent's own",
    ),
    "it raises": (PLUGIN.replace("self.watch", "1 / 0 #"), "ZeroDivisionError: division by zero"),
    "it patches nothing": (
        "from leakagent.plugin import Closables\nclass Clients(Closables):\n    kinds = {'acme.client': ''}",
        "NotImplementedError",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plug_in_is_one_line(agent: Callable[..., Any], packages: Path, what: str) -> None:
    text, cause = BROKEN[what]
    (packages / "acme_plugin.py").write_text(text, encoding="utf-8")
    ran, report = agent(APP + "import concurrent.futures\npool = concurrent.futures.ThreadPoolExecutor()\n")
    assert ran.returncode == 0
    assert ran.stdout.replace("the plug-in was imported\n", "") == "closed two\nend\n"
    (line,) = ran.stderr.splitlines()
    assert line.startswith("leakagent: plug-in acme_plugin:Clients of acme_plugin 1.0 switched off after an error: ")
    assert cause in line
    (disabled,) = report["agent"]["disabled"]
    assert "plug-in acme_plugin:Clients" in disabled
    assert [one["kind"] for one in report["findings"]] == ["thread_pool"]


def test_a_plug_in_that_fails_at_the_end(agent: Callable[..., Any], packages: Path) -> None:
    (packages / "acme_plugin.py").write_text(PLUGIN.replace("return not resource.closed", "return 1 / 0"), encoding="utf-8")
    ran, report = agent(APP)
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "end")
    assert len(ran.stderr.splitlines()) == 1
    assert "ZeroDivisionError" in report["agent"]["disabled"][0]
    assert report["findings"] == []


def test_a_plug_in_whose_close_raises(agent: Callable[..., Any], packages: Path) -> None:
    (packages / "acme" / "core.py").write_text(LIBRARY.replace("print(", "raise OSError  # "), encoding="utf-8")
    ran, report = agent(APP.replace("two.close()", ""))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [one["evidence"] for one in report["findings"]] == [["the plug-in knows why", "closing it raised OSError"]] * 2


@pytest.mark.parametrize("broken", [False, True])
def test_doctor_shows_plug_ins(python: Callable[..., Any], packages: Path, broken: bool) -> None:
    if broken:
        (packages / "acme_plugin.py").write_text("import nowhere_to_be_found\n", encoding="utf-8")
    env = {"PYTHONPATH": str(packages)}
    ran = python("-m", "leakagent", "doctor", env=env)
    (found,) = json.loads(python("-m", "leakagent", "doctor", "--json", env=env).stdout)["plugins"]
    assert (found["target"], found["plugin"], found["package"]) == ("acme.core", "acme_plugin:Clients", "acme_plugin 1.0")
    if broken:
        assert ran.returncode == 1
        assert (
            "BROKEN PLUG-IN       acme_plugin:Clients of acme_plugin 1.0, for acme.core: it could not be imported" in ran.stdout
        )
    else:
        assert (ran.returncode, found["kinds"]) == (0, ["acme.client"]), ran
        assert "plug-in              acme_plugin:Clients of acme_plugin 1.0, for acme.core: acme.client" in ran.stdout


def test_many_dropped_ones_are_one_record(agent: Callable[..., Any]) -> None:
    text = APP + "for n in range(300):\n    acme.core.Client('dropped')  # line 7\n"
    ran, report = agent(text)
    assert ran.stdout.endswith("end\nclosed one\n")
    dropped = next(one for one in report["findings"] if one["site"]["line"] == 7)
    assert (dropped["count"], dropped["action"]) == (300, "none")
    assert dropped["evidence"] == ["dropped without close()"]


if sys.platform == "linux":

    def test_a_forked_child_leaves_them_alone(agent: Callable[..., Any]) -> None:
        text = APP + "import os, sys\nif os.fork() == 0:\n    sys.exit(0)\nos.wait()\n"
        ran, report = agent(text)
        assert ran.stdout.count("closed one") == 1
        assert sum(one["count"] for one in report["findings"]) == 1
