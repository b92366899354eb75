"""The wheel is reproducible: built twice from the same sources, in different folders and at different times, it is the same file."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("leakagent", "sitecustomize_template", "pyproject.toml", "README.md", "LICENSE")


def build(folder: Path, stamp: int) -> Path:
    """Build the wheel from a copy of the sources whose files are as old as ``stamp`` says."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    for path in folder.rglob("*"):
        os.utime(path, (stamp, stamp))
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-qq", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", folder / "dist", folder], check=True)
    return next((folder / "dist").glob("leakagent-*.whl"))


def test_two_builds_are_the_same(tmp_path: Path) -> None:
    wheels = []
    for name, stamp in (("one", 1_600_000_000), ("another", 1_700_000_000)):
        folder = tmp_path / name
        folder.mkdir()
        wheels.append(build(folder, stamp))
    first, second = (hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels)
    assert first == second


def test_it_has_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    names = set(zipfile.ZipFile(build(tmp_path, 1_600_000_000)).namelist())
    outside = {name for name in names if not name.startswith(("leakagent/", "leakagent-"))}
    assert outside == {"leakagent.pth", "leakagent.start", "_leakagent_start.py"}
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "leakagent").rglob("*.py")}
    assert expected <= names
