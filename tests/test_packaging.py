"""What users install: the wheel's content, its hook files and its metadata."""

from __future__ import annotations

import importlib.metadata
import re
import sysconfig
from pathlib import Path

import leakagent

SITE_PACKAGES = Path(sysconfig.get_paths()["purelib"])

HOOK = (
    'import os; os.environ.get("LEAKAGENT") and exec("try:\\n from leakagent.bootstrap import start\\nexcept ImportError:'
    '\\n pass\\nelse:\\n start()")\n'
)


def files() -> set[str]:
    return {str(path) for path in importlib.metadata.files("leakagent") or ()}


def test_the_installed_package_is_tested_and_not_the_checkout() -> None:
    assert Path(leakagent.__file__).parent.parent.samefile(SITE_PACKAGES)


def test_the_hook_files_stand_in_site_packages() -> None:
    assert {"leakagent.pth", "leakagent.start", "_leakagent_start.py"} <= files()
    # One line, pinned: it runs in every Python of the environment.
    assert (SITE_PACKAGES / "leakagent.pth").read_text(encoding="utf-8") == HOOK
    assert (SITE_PACKAGES / "leakagent.start").read_text(encoding="utf-8") == "_leakagent_start:start\n"


def test_types_and_schema_are_part_of_the_package() -> None:
    assert {"leakagent/py.typed", "leakagent/report/schema.json"} <= files()


def test_there_are_four_dependencies() -> None:
    required = [line for line in importlib.metadata.requires("leakagent") or () if "extra ==" not in line]
    names = {re.split(r"[^A-Za-z0-9-]", line)[0] for line in required}
    assert names == {"wrapt", "psutil", "opentelemetry-api", "opentelemetry-sdk"}


def test_the_extras_are_there() -> None:
    extras = set(importlib.metadata.metadata("leakagent").get_all("Provides-Extra") or ())
    assert {"otlp", "prometheus", "tui", "report", "dev", "demo"} <= extras


def test_one_version() -> None:
    assert importlib.metadata.version("leakagent") == leakagent.__version__


def test_the_command_is_installed() -> None:
    scripts = importlib.metadata.entry_points(group="console_scripts", name="leakagent")
    assert [script.value for script in scripts] == ["leakagent.cli:main"]
