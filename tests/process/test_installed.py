"""Installing as users do: an editable install has the start-up hook, and nothing is left when the package is removed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).parents[2]
ACTIVE = "import leakagent; print(leakagent.is_active(), leakagent.__file__)"


@pytest.fixture
def installed(tmp_path: Path, run: Callable[..., object]) -> Callable[..., Path]:
    """Install a copy of the checkout into a new environment and return its interpreter."""

    def install(*options: str) -> Path:
        copy = tmp_path / "checkout"
        for name in ("leakagent", "sitecustomize_template"):
            shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(CHECKOUT / name, copy)
        python = tmp_path / "env" / "bin" / "python"
        assert run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"]).returncode == 0
        # The agent itself needs none of its dependencies before a library arrives that does.
        command = [sys.executable, "-m", "pip", "--python", python, "install", "-qq", "--no-deps", *options, copy]
        ran = run(command, timeout=600.0)
        assert ran.returncode == 0, ran
        return python

    return install


def test_an_editable_install_starts_the_agent(installed: Callable[..., Path], run: Callable[..., object], tmp_path: Path) -> None:
    python = installed("-e")
    ran = run([python, "-c", ACTIVE], env={"LEAKAGENT": "1"}, cwd=tmp_path / "env")
    assert ran.stdout == f"True {tmp_path / 'checkout' / 'leakagent' / '__init__.py'}\n", ran
    assert run([python, "-c", "import sys; print('leakagent' in sys.modules)"], cwd=tmp_path / "env").stdout == "False\n"


def test_uninstalling_leaves_no_hook(installed: Callable[..., Path], run: Callable[..., object], tmp_path: Path) -> None:
    python = installed()
    assert run([python, "-c", ACTIVE], env={"LEAKAGENT": "1"}, cwd=tmp_path).stdout.startswith("True ")
    assert run([sys.executable, "-m", "pip", "--python", python, "uninstall", "-qq", "-y", "leakagent"]).returncode == 0
    left = [path.name for path in (tmp_path / "env").rglob("*leakagent*")]
    assert left == []
    ran = run([python, "-c", "print('fine')"], env={"LEAKAGENT": "1"}, cwd=tmp_path)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("fine\n", "", 0)
