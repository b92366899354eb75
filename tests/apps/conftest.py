"""What application tests share: the same program bare and under the agent."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

#: ``# leak: REASON KIND`` at the end of a line: exactly these are told, with this line.
_PLANTED = re.compile(r"# leak: (\w+) ([\w.]+)$")

#: A planted leak or a finding: reason, kind, owner, file and line.
Leak = tuple[str, str, str, str, int]


def planted(text: str, name: str = "app.py") -> list[Leak]:
    """Return the leaks that are marked in a program's text."""
    found = ((number, _PLANTED.search(line)) for number, line in enumerate(text.splitlines(), 1))
    return sorted((match[1], match[2], "yours", name, number) for number, match in found if match)


def told(report: dict[str, Any]) -> list[Leak]:
    """Return the findings of a JSON report in the same form."""
    found = report["findings"]
    return sorted((one["reason"], one["kind"], one["owner"], one["site"]["file"], one["site"]["line"]) for one in found)


class Compared:
    """A program that ran bare, under ``python -m leakagent`` and with ``LEAKAGENT=1``."""

    def __init__(self, bare: Any, agents: dict[str, tuple[Any, dict[str, Any]]], text: str) -> None:
        """Keep what they left."""
        self.bare = bare
        self.agents = agents
        self.text = text

    @property
    def reports(self) -> list[dict[str, Any]]:
        """The JSON reports."""
        return [report for _, report in self.agents.values()]

    def check(self, status: int = 0, library: Sequence[tuple[str, str, str]] = ()) -> None:
        """Assert that nothing differs from bare, and that exactly the planted leaks are told.

        Args:
            status: The status that the program ends with.
            library: Findings in an installed package: reason, kind, file.

        """
        assert self.bare.returncode == status, self.bare
        for ran, report in self.agents.values():
            assert (ran.returncode, ran.stdout) == (self.bare.returncode, self.bare.stdout), (ran, self.bare)
            assert ran.stderr.count("Traceback") == self.bare.stderr.count("Traceback"), (ran, self.bare)
            mine = [leak for leak in told(report) if leak[2] == "yours"]
            assert mine == planted(self.text), (report["findings"], ran)
            others = [(leak[0], leak[1], leak[3]) for leak in told(report) if leak[2] == "library"]
            assert others == sorted(library), (report["findings"], ran)
            assert report["agent"]["disabled"] == [], report["agent"]


@pytest.fixture
def compare(run: Callable[..., Any], tmp_path: Path) -> Callable[..., Compared]:
    """Run a program's text bare and under the agent, each in a folder of its own."""

    def compare_runs(text: str, *arguments: str, modules: Mapping[str, str] | None = None) -> Compared:
        def ran(how: str, *front: str, env: Mapping[str, str] | None = None) -> Any:
            folder = tmp_path / how
            folder.mkdir()
            for name, code in {"app": text, **(modules or {})}.items():
                (folder / f"{name}.py").write_text(code, encoding="utf-8")
            return run([sys.executable, *front, "app.py", *arguments], cwd=folder, env=env, timeout=240.0)

        bare = ran("bare")
        by_module = ran("module", "-m", "leakagent", "--report", "json:report.json")
        by_variable = ran("variable", env={"LEAKAGENT": "1", "LEAKAGENT_REPORT": "json:report.json"})
        agents = {}
        for how, one in (("module", by_module), ("variable", by_variable)):
            report = tmp_path / how / "report.json"
            assert report.exists(), one
            agents[how] = (one, json.loads(report.read_text(encoding="utf-8")))
        return Compared(bare, agents, text)

    return compare_runs


@pytest.fixture
def browser() -> Callable[..., Any]:
    """Do what a browser does: open a session of a streamlit app, and have its script run."""

    def session(port: int) -> Any:
        import websocket
        from streamlit.proto.BackMsg_pb2 import BackMsg

        opened = websocket.create_connection(
            f"ws://127.0.0.1:{port}/_stcore/stream", subprotocols=["streamlit"], timeout=60, http_no_proxy=["127.0.0.1"]
        )
        message = BackMsg()
        message.rerun_script.query_string = ""
        opened.send(message.SerializeToString(), opcode=websocket.ABNF.OPCODE_BINARY)
        return opened

    return session
