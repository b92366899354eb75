"""Run app.py with plain Python and under leakagent, and show both ends side by side.

Planted mistakes carry a comment, `# leak: <reason> <kind>`, on the line that creates the resource. The exit status is 0 only if the
agent's report names every one of them and nothing else, while output and exit status stay as they are without the agent; 1 if
not; 2 if the comparison could not be made.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import tokenize
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psutil

from app import LAST_LINE, PAGES, QUESTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
NEEDED = ("leakagent", "chromadb", "lancedb", "llama_index.core")
DESTROYED = "Task was destroyed but it is pending!"
STDERR_TAIL = 6
_MARK = re.compile(r"#\s*leak:\s*(?P<reason>\w+)\s+(?P<kind>[\w.]+)\s*$")
_FAILED, _IMPOSSIBLE = 1, 2


class ImpossibleError(Exception):
    """The comparison could not be made; the text says why in one line."""


@dataclass(frozen=True, order=True)
class Leak:
    """One leak, planted or found: where it is created, and what it is."""

    file: str
    line: int
    reason: str
    kind: str

    def __str__(self) -> str:
        """Return the leak as one line of text."""
        return f"{self.reason} {self.kind} {self.file}:{self.line}"


@dataclass
class Run:
    """How one run of the program went, and what it left."""

    command: str
    status: int = 0
    whole_s: float = 0.0
    exit_s: float = 0.0
    stdout: str = ""
    stderr: str = ""
    children_at_last_line: int = 0
    threads_at_last_line: int = 0
    children_left: int = 0
    tasks_destroyed: int = 0
    log_lines: int = 0
    archived: int = 0
    statistics: bool = False
    rows: dict[str, int] = field(default_factory=dict)


class _Watch:
    """Reads the standard output of a process, and looks at the process in the moment of its last line."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.lines: list[str] = []
        self.last_line_at = time.monotonic()
        self.children: list[psutil.Process] = []
        self.threads = 0
        self._process = psutil.Process(process.pid)
        self._stdout = process.stdout
        self._thread = threading.Thread(target=self._read, name="stdout")
        self._thread.start()

    def join(self) -> str:
        """Wait for the end of the output and return all of it."""
        self._thread.join()
        return "".join(self.lines)

    def _read(self) -> None:
        for raw in self._stdout or ():
            self.last_line_at = time.monotonic()
            self.lines.append(raw.decode("utf-8", "replace"))
            if self.lines[-1].strip() == LAST_LINE:
                self._look()

    def _look(self) -> None:
        try:
            self.threads = self._process.num_threads()
            self.children = [child for child in self._process.children(recursive=True) if not _is_helper(child)]
        except psutil.Error:
            pass  # it ended in the meantime: then there is nothing to see


def planted_leaks() -> list[Leak]:
    """Return the leaks that are marked in the modules of the program."""
    leaks = []
    for path in sorted(HERE.glob("*.py")):
        if path.name == Path(__file__).name:
            continue
        with tokenize.open(path) as file:
            comments = [token for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.COMMENT]
        marks = ((token.start[0], _MARK.search(token.string)) for token in comments)
        leaks += [Leak(path.name, line, mark["reason"], mark["kind"]) for line, mark in marks if mark]
    return leaks


def found_leaks(report: dict[str, Any]) -> list[Leak]:
    """Return the leaks that a JSON report of leakagent names."""
    return sorted(
        Leak(_short(finding["site"]["file"]), finding["site"]["line"], finding["reason"], finding["kind"]) for finding in report["findings"]
    )


def run_program(arguments: list[str], options: list[str], data: Path, settings: dict[str, str], timeout_s: float) -> Run:
    """Run app.py in a process of its own, with `arguments` before and `options` behind its name, and watch how it ends."""
    command = [sys.executable, *arguments, "app.py", "--data", str(data), *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEAKAGENT")} | settings
    run = Run(" ".join(["python", *arguments, "app.py", *options]))
    with tempfile.TemporaryFile() as stderr:
        begin = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - this interpreter and this folder's program
            command,
            cwd=HERE,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        watch = _Watch(process)
        try:
            run.status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _end(process, watch.children)
            message = f"`{run.command}` did not end within {timeout_s:g} s; its last line: {''.join(watch.lines[-1:]).strip()!r}"
            raise ImpossibleError(message) from None
        end = time.monotonic()
        left = [child for child in watch.children if _is_alive(child)]
        _end(process, left)
        run.stdout = watch.join()
        run.stderr = _all_of(stderr)
    run.whole_s, run.exit_s = end - begin, end - watch.last_line_at
    run.children_at_last_line, run.threads_at_last_line = len(watch.children), watch.threads
    run.children_left = len(left)
    run.tasks_destroyed = run.stderr.count(DESTROYED)
    _look_at_results(run, data)
    return run


def compare(status: int, timeout_s: float, folder: Path) -> dict[str, Any]:
    """Run the program both ways in `folder`, and return everything that there is to say about it."""
    from stores import stored_rows  # noqa: PLC0415 - slow to import: not before the command line is known to be right

    options = ["--status", str(status)] if status else []
    report_path = folder / "report.json"
    settings = {"LEAKAGENT_REPORT": f"text,json:{report_path}"}
    runs = {
        "bare": run_program([], options, folder / "bare", {}, timeout_s),
        "agent": run_program(["-m", "leakagent"], options, folder / "agent", settings, timeout_s),
    }
    for name, run in runs.items():
        try:
            run.rows = stored_rows(folder / name)
        except Exception as error:
            message = f"`{run.command}` left no readable databases ({error}); its stderr ends: {run.stderr[-300:].strip()!r}"
            raise ImpossibleError(message) from error
    try:
        report = json.loads(report_path.read_text(encoding="utf-8"))
        found = found_leaks(report)
    except FileNotFoundError:
        report, found = {}, []
    except (ValueError, KeyError, TypeError) as error:
        message = f"the report of leakagent cannot be read: {error!r}"
        raise ImpossibleError(message) from error
    planted = planted_leaks()
    result: dict[str, Any] = {
        "runs": {name: asdict(run) for name, run in runs.items()},
        "planted": [asdict(leak) for leak in planted],
        "found": [asdict(leak) for leak in found],
        "report": report,
    }
    result["objections"] = [
        *([] if report else ["leakagent wrote no report"]),
        *_wrong_leaks(planted, found),
        *_wrong_ends(runs["bare"], runs["agent"], status),
    ]
    result["ok"] = not result["objections"]
    return result


def show(result: dict[str, Any], width: int) -> str:
    """Lay the comparison out as text of at most `width` columns (captured output is shown as it is)."""
    bare, agent = (Run(**result["runs"][name]) for name in ("bare", "agent"))
    parts = [
        _side_by_side(bare, agent, width),
        _heading(f"stderr of `{bare.command}` (last {STDERR_TAIL} lines)", width),
        "\n".join(_folded(line, width) for line in bare.stderr.splitlines()[-STDERR_TAIL:]) or "(nothing)",
        "",
        _heading(f"stderr of `{agent.command}`: the report", width),
        agent.stderr.strip("\n") or "(nothing)",
        "",
        _heading("planted and found", width),
        _planted_and_found([Leak(**leak) for leak in result["planted"]], [Leak(**leak) for leak in result["found"]]),
        "",
    ]
    if result["ok"]:
        parts.append(_paint(f"OK: all {len(result['planted'])} planted leaks found, nothing else; same output, same exit status.", "32"))
    else:
        parts += [_paint(_folded(f"NOT OK: {objection}", width), "31") for objection in result["objections"]]
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, compare, print the result, and return the exit status."""
    parser = argparse.ArgumentParser(description="Run app.py with plain Python and under leakagent, and compare how they end.")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.add_argument("--status", type=int, default=0, metavar="N", help="let app.py end with this exit status (default: 0)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="new folder to keep what both runs wrote, and the report (default: none)")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="seconds that a run may take (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        missing = [name for name in NEEDED if not _is_installed(name)]
        if missing:
            message = f"not installed here: {', '.join(missing)} (pip install 'leakagent[demo]', or: make demo)"
            raise ImpossibleError(message)  # noqa: TRY301 - reported in one place
        with _folder(options.keep) as folder:
            result = compare(options.status, options.timeout, folder)
    except ImpossibleError as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return _IMPOSSIBLE
    columns = shutil.get_terminal_size((100, 24)).columns
    print(json.dumps(result, indent=2) if options.json else show(result, max(80, min(columns, 120))))
    return 0 if result["ok"] else _FAILED


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="rag-compare-") as folder:
            yield Path(folder)
        return
    try:
        kept.mkdir(parents=True)
    except OSError as error:
        message = f"cannot make the folder {kept}: {error.strerror}"
        raise ImpossibleError(message) from error
    yield kept.resolve()


def _wrong_leaks(planted: list[Leak], found: list[Leak]) -> list[str]:
    return [
        *(f"planted but not found: {leak}" for leak in planted if leak not in found),
        *(f"found but not planted: {leak}" for leak in found if leak not in planted),
        *(f"reported {found.count(leak)} times: {leak}" for leak in sorted(set(found)) if found.count(leak) > 1),
    ]


def _wrong_ends(bare: Run, agent: Run, wanted_status: int) -> list[str]:
    objections = []
    if bare.status != wanted_status:
        objections.append(f"plain Python ended with status {bare.status} instead of {wanted_status}: {bare.stderr[-200:].strip()!r}")
    if agent.status != bare.status:
        objections.append(f"the exit status is {bare.status} with plain Python and {agent.status} under leakagent")
    if agent.stdout != bare.stdout:
        objections.append("the standard output is not the same")
    if agent.rows != bare.rows:
        objections.append(f"stored with plain Python: {bare.rows}, under leakagent: {agent.rows}")
    if agent.log_lines < len(QUESTIONS):
        objections.append(f"work was lost under leakagent: {agent.log_lines} of {len(QUESTIONS)} lines in the chat log")
    if agent.archived < bare.archived or agent.statistics < bare.statistics:
        objections.append("work of the pool or of the process was lost under leakagent")
    if agent.children_left > bare.children_left:
        objections.append(f"child processes left under leakagent: {agent.children_left}")
    return objections


def _look_at_results(run: Run, data: Path) -> None:
    log = data / "chat.jsonl"
    run.log_lines = len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0
    run.archived = len(list((data / "archive").glob("*.md")))
    run.statistics = (data / "statistics.json").exists()


def _side_by_side(bare: Run, agent: Run, width: int) -> str:
    pages = len(list(PAGES.glob("*.md")))

    def values(run: Run) -> list[tuple[str, str]]:
        return [
            ("exit status", str(run.status)),
            ("whole run", f"{run.whole_s:.1f} s"),
            ("exit took (last line to end)", f"{run.exit_s:.1f} s"),
            ("when the last line was printed", ""),
            ("  child processes at work", str(run.children_at_last_line)),
            ("  threads, native ones included", str(run.threads_at_last_line)),
            ("when the process had ended", ""),
            ("  child processes left", str(run.children_left)),
            ("  tasks destroyed while pending", str(run.tasks_destroyed)),
            ("  lines in the chat log", f"{run.log_lines} of {len(QUESTIONS)}" + _lost(len(QUESTIONS) - run.log_lines)),
            ("  pages in the archive", f"{run.archived} of {pages}" + _lost(pages - run.archived)),
            ("  term statistics", "written" if run.statistics else "LOST"),
            ("  passages in Chroma, in LanceDB", ", ".join(str(count) for count in run.rows.values())),
        ]

    first = 34
    column = (width - first) // 2
    titles = ("", "plain Python", "under leakagent")
    rows = [titles, *((label, left, right) for (label, left), (_, right) in zip(values(bare), values(agent), strict=True))]
    lines = [f"{label:<{first}}{left:<{column}}{right}".rstrip() for label, left, right in rows]
    return "\n".join([_paint(lines[0], "1"), "-" * width, *lines[1:], ""])


def _planted_and_found(planted: list[Leak], found: list[Leak]) -> str:
    rows = [("planted", "reason", "kind", "found")]
    rows += [(f"{leak.file}:{leak.line}", leak.reason, leak.kind, "yes" if leak in found else "NO") for leak in planted]
    rows += [(f"{leak.file}:{leak.line}", leak.reason, leak.kind, "NOT PLANTED") for leak in found if leak not in planted]
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(3)]
    return "\n".join("".join(cell.ljust(size) for cell, size in zip(row, widths, strict=False)) + row[3] for row in rows)


def _lost(count: int) -> str:
    return f"  ({count} LOST)" if count else ""


def _heading(text: str, width: int) -> str:
    return _paint(f"{text}\n{'-' * width}", "1")


def _folded(line: str, width: int) -> str:
    return "\n".join(textwrap.wrap(line, width, subsequent_indent="    ", break_on_hyphens=False)) or line


def _paint(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


def _short(file: str) -> str:
    path = (HERE / file).resolve()
    return path.name if path.parent == HERE else file


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _is_helper(process: psutil.Process) -> bool:
    return any("multiprocessing.resource_tracker" in part for part in process.cmdline())


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _end(process: subprocess.Popen[bytes], children: list[psutil.Process]) -> None:
    """Kill what is left of a run."""
    if process.poll() is None:
        process.kill()
        process.wait()
    for child in children:
        if _is_alive(child):
            child.kill()


def _all_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


if __name__ == "__main__":
    sys.exit(main())
