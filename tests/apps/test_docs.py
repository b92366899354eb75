"""The documentation: it builds without a warning, and every block of code in it is run.

A ``python`` block with a title is a file; the others of a page are run one after the other in one interpreter, as in a notebook (with
``await``).  A ``console`` block is one shell script: what stands behind ``$`` is run, and the other lines must come out in this order (``...``
stands for anything, times and pids for any of their kind).  A block that can't be run here has a comment in front that says why.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]

_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^\n]+) -->\n)?^```(?P<language>python|console)(?P<more>[^\n]*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)

#: What a notebook is, for the blocks without a title.
_NOTEBOOK = """\
import ast, asyncio, inspect, sys
names = {"__name__": "__main__"}
async def run():
    for text in BLOCKS:
        code = compile(text, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        done = eval(code, names)
        if inspect.iscoroutine(done):
            await done
asyncio.run(run())
"""


class Block(NamedTuple):
    """A block of code on a page."""

    language: str
    title: str
    text: str
    why: str


def blocks(page: Path) -> list[Block]:
    """Return the blocks of code of a page that can be run, or say why they can't."""
    found = []
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        title = re.search(r'title="([^"]+)"', match["more"])
        found.append(Block(match["language"], title[1] if title else "", match["text"], (match["why"] or "").strip()))
    return found


WITH_CODE = [page for page in PAGES if any(not block.why for block in blocks(page))]

_SHELL = """\
set -u
curl() { command curl --no-progress-meter --retry 50 --retry-connrefused --retry-delay 1 --max-time 60 "$@" && echo; }
"""


def _pattern(line: str) -> re.Pattern[str]:
    """Return what matches a line of output: times, pids, hashes and sizes are any of their kind."""
    text = re.escape(" ".join(line.split()))
    text = re.sub(r"\d+(\\\.\d+)(\\ s\b)", r"\\d+(?:\\.\\d+)?\2", text)
    text = re.sub(r"\b(process|pid|PID)\\ \d+", r"\1\\ \\d+", text)
    text = re.sub(r"\d+\\\.\d+(?=\\ MB)", r"\\d+\\.\\d+", text)
    return re.compile(text.replace(r"\.\.\.", ".*"))


def check_console(text: str, folder: Path, environment: dict[str, str]) -> None:
    """Run what stands behind the prompts, and look for the other lines in what comes out."""
    commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    expected = [line for line in text.splitlines() if line.strip() and not line.startswith("$ ")]
    process = subprocess.Popen(
        ["bash", "-c", _SHELL + "\n".join(commands)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=300)
    finally:
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
    lines = [" ".join(line.split()) for line in output.splitlines()]
    at = 0
    for line in expected:
        pattern = _pattern(line)
        following = next((number for number in range(at, len(lines)) if pattern.fullmatch(lines[number])), None)
        assert following is not None, f"not in the output, or not in this order: {line!r}\n{output}"
        at = following + 1


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_runs(page: Path, tmp_path: Path, environment: Callable[..., dict[str, str]], port: int) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    folder = tmp_path / "project"
    folder.mkdir()
    variables = environment({"XDG_RUNTIME_DIR": str(runtime), "HOME": str(tmp_path), "ANONYMIZED_TELEMETRY": "False"})
    variables["PATH"] = f"{Path(sys.executable).parent}:{variables['PATH']}"
    variables |= {"COLUMNS": "100", "PYTHONUNBUFFERED": "1"}
    notebook = []
    for block in blocks(page):
        if block.why:
            continue
        text = block.text.replace("8000", str(port))
        if block.language == "python" and block.title:
            (folder / block.title).write_text(text, encoding="utf-8")
        elif block.language == "python":
            notebook.append(text)
        else:
            check_console(text, folder, variables)
    if notebook:
        (folder / "notebook.py").write_text(f"BLOCKS = {notebook!r}\n{_NOTEBOOK}", encoding="utf-8")
        ran = subprocess.run(
            [sys.executable, "notebook.py"], cwd=folder, env=variables, capture_output=True, text=True, timeout=300, check=False
        )
        assert ran.returncode == 0, ran


def test_what_is_not_run_says_why() -> None:
    left_out = [(page.relative_to(ROOT).as_posix(), block.why) for page in PAGES for block in blocks(page) if block.why]
    for page, why in left_out:
        print(f"{page}: {why}")
    assert all(len(why) > 10 for _, why in left_out)


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ROOT / ".mkdocs.yml", "-d", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("index.html")}
    assert {"index.html", "security/index.html", "reasons/lost_task/index.html", "quickstart/streamlit/index.html"} <= pages
    for path in (tmp_path / "site").rglob("index.html"):
        # It works offline: nothing is loaded from elsewhere.
        loaded = re.findall(r'<(?:script|img|link rel="stylesheet")[^>]* (?:src|href)="(https?://[^"]+)"', path.read_text())
        assert loaded == [], path


def test_every_reason_has_a_page_with_its_text_and_fix() -> None:
    from leakagent.core.findings import REASONS

    for reason, text in REASONS.items():
        page = (ROOT / "docs" / "reasons" / f"{reason}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {reason}\n")
        assert text in page
        assert "## Fix" in page
