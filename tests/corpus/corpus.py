"""The corpus: small programs, half with a planted leak, half clean but tempting, and how many the agent tells rightly.

    python tests/corpus/corpus.py [--write docs/corpus.md] [NAME...]

A line of a program that ends with ``# leak: REASON KIND`` (several with commas) creates a leak that has to be told with this reason,
kind and line; nothing else may be told.  Lines of the docstring say more: ``Like:`` is the real thread whose shape the program has (the code is
its own), ``Options:`` are options of ``leakagent run``, ``Signal: NAME after TEXT`` is sent when the program has printed the text,
``Needs:`` names packages.  Recall is the share of planted leaks that were told, precision the share of what was told that was planted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"

#: Seconds for one program; generous, since machines can be ten times slower.
DEADLINE = 240.0

#: Programs that run at the same time: they mostly wait.
AT_ONCE = 4

_PLANTED = re.compile(r"# leak: (.+)$")
_DROPPED = ("LEAKAGENT", "_LEAKAGENT", "OTEL_", "PYTHON", "COVERAGE")

#: A leak: reason, kind, line.
Leak = tuple[str, str, int]


class Program:
    """One program of the corpus.

    Attributes:
        name: Its file's name, without ``.py``.
        text: What is in it.
        planted: The leaks that it says it has.
        title: What it does, in one line.
        like: Address of the thread whose shape it has; empty for clean programs that have none.

    """

    def __init__(self, path: Path) -> None:
        """Read a program."""
        self.name = path.stem
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        found = ((number, _PLANTED.search(line)) for number, line in enumerate(self.text.splitlines(), 1))
        self.planted: list[Leak] = sorted(
            (*leak.split(), number) for number, match in found if match for leak in match[1].split(", ")
        )
        self.title = self.text.splitlines()[0].strip('"')
        self.like = self._word("Like")
        self.options = self._word("Options").split()
        self.needs = self._word("Needs").split()
        number, _, text = self._word("Signal").partition(" after ")
        self.signal = signal.Signals[number] if number else None
        self.after = text

    def _word(self, name: str) -> str:
        found = re.search(rf"^{name}: (.+)$", self.text, re.MULTILINE)
        return found[1].strip() if found else ""

    def run(self, folder: Path) -> Outcome:
        """Run it under the agent in a folder of its own, and return how that went."""
        (folder / "app.py").write_text(self.text, encoding="utf-8")
        command = [sys.executable, "-m", "leakagent", "--report", "text,json:report.json", *self.options, "app.py"]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_DROPPED)}
        output = folder / "output.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**kept, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            ended = self._wait(process, output)
        finally:
            # What the program leaves running on purpose is ended with its session.
            _kill_group(process.pid)
        said = f"status {process.returncode}\n{output.read_text(encoding='utf-8', errors='replace')}"
        if not ended:
            return Outcome(self, [], f"did not end in {DEADLINE:.0f} s: {said}")
        path = folder / "report.json"
        if not path.exists():
            return Outcome(self, [], f"no report: {said}")
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["agent"]["disabled"]:
            return Outcome(self, report["findings"], f"parts of the agent failed: {report['agent']['disabled']}")
        return Outcome(self, report["findings"], "", said)

    def _wait(self, process: subprocess.Popen[bytes], output: Path) -> bool:
        """Send the signal when its moment has come, and say whether the program has ended in time."""
        sent = self.signal is None
        end = time.monotonic() + DEADLINE
        while process.poll() is None:
            if time.monotonic() > end:
                return False
            if not sent and self.after in output.read_text(encoding="utf-8", errors="replace"):
                process.send_signal(self.signal or signal.SIGTERM)
                sent = True
            time.sleep(0.02)
        return True


class Outcome:
    """What was told of one program.

    Attributes:
        program: Which one.
        told: Findings, as leaks.
        problem: Why the run counts for nothing; empty if it counts.

    """

    def __init__(self, program: Program, findings: list[dict[str, Any]], problem: str, said: str = "") -> None:
        """Compare the findings of a report with what was planted."""
        self.program = program
        self.findings = findings
        self.problem = problem
        self.said = said
        self.told = sorted((one["reason"], one["kind"], _line(one)) for one in findings)

    @property
    def missed(self) -> list[Leak]:
        """What was planted and not told."""
        return sorted((Counter(self.program.planted) - Counter(self.told)).elements())

    @property
    def wrong(self) -> list[Leak]:
        """What was told and not planted."""
        return sorted((Counter(self.told) - Counter(self.program.planted)).elements())

    def __repr__(self) -> str:
        """Show everything: this is what a failed assertion prints."""
        shown = json.dumps(self.findings, indent=1)
        return f"<{self.program.name}: missed {self.missed}, wrong {self.wrong} {self.problem}\n{self.said}\n{shown}>"


def _line(finding: dict[str, Any]) -> int:
    site = finding["site"]
    # A line of another file can't be a planted one.
    return int(site["line"]) if site["file"] == "app.py" else 0


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def programs(names: list[str] | None = None) -> list[Program]:
    """Return the programs of the corpus, or those that are named."""
    found = [Program(path) for path in sorted(PROGRAMS.glob("*.py"))]
    return [program for program in found if not names or program.name in names]


def run_all(chosen: list[Program]) -> list[Outcome]:
    """Run programs, several at a time, and return their outcomes in the same order."""
    with tempfile.TemporaryDirectory(prefix="leakagent-corpus-") as parent, ThreadPoolExecutor(AT_ONCE) as pool:

        def run(program: Program) -> Outcome:
            folder = Path(parent, program.name)
            folder.mkdir()
            return program.run(folder)

        return list(pool.map(run, chosen))


def table(outcomes: list[Outcome]) -> str:
    """Return recall and precision per reason and kind, as a Markdown table."""
    planted, told, right = Counter[str](), Counter[str](), Counter[str]()
    for outcome in outcomes:
        for leak in outcome.program.planted:
            planted[_class(leak)] += 1
        for leak in outcome.told:
            told[_class(leak)] += 1
        for leak in (Counter(outcome.program.planted) & Counter(outcome.told)).elements():
            right[_class(leak)] += 1
    lines = ["| reason | kind | planted | told rightly | recall | precision |", "|---|---|---|---|---|---|"]
    for name in [*sorted(planted | told), ""]:
        numbers = [counts[name] if name else counts.total() for counts in (planted, told, right)]
        reason, _, kind = name.partition(" ")
        shown = f"`{reason}` | `{kind}`" if name else "**all** | "
        lines.append(
            f"| {shown} | {numbers[0]} | {numbers[2]} | {_share(numbers[2], numbers[0])} | {_share(numbers[2], numbers[1])} |"
        )
    clean = [outcome for outcome in outcomes if not outcome.program.planted]
    silent = sum(not outcome.told and not outcome.problem for outcome in clean)
    lines += ["", f"Clean programs: {len(clean)}, of which nothing was told: {silent}."]
    return "\n".join(lines)


def _class(leak: Leak) -> str:
    return f"{leak[0]} {leak[1]}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


def page(outcomes: list[Outcome]) -> str:
    """Return the page of the documentation."""
    leaky = [outcome.program for outcome in outcomes if outcome.program.planted]
    clean = [outcome.program for outcome in outcomes if not outcome.program.planted]
    version = ".".join(map(str, sys.version_info[:3]))
    lines = [
        "# How well leaks are found",
        "",
        f"Written by `make corpus`; do not edit. {len(outcomes)} small programs (`tests/corpus/programs/`), run under leakagent with Python",
        f"{version}: {len(leaky)} with planted leaks in the shapes of real threads, {len(clean)} clean ones that tempt a detector (caches, pools,",
        "keep-alive clients, background refreshers, daemon threads). A leak counts as found if reason, kind and creating line are right;",
        "anything else that is told counts as a false alarm.",
        "",
        table(outcomes),
        "",
        "## Programs with leaks",
        "",
        *map(_entry, leaky),
        "",
        "## Clean programs",
        "",
        *map(_entry, clean),
    ]
    return "\n".join(lines) + "\n"


def _entry(program: Program) -> str:
    thread = f" ([thread]({program.like}))" if program.like else ""
    return f"- [{program.name}](../tests/corpus/programs/{program.path.name}): {program.title}{thread}"


def main() -> int:
    """Run the corpus and print the table; the status is 1 if anything was missed or wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", metavar="FILE", help="also write the page of the documentation")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    outcomes = run_all(programs(given.names))
    bad = [outcome for outcome in outcomes if outcome.missed or outcome.wrong or outcome.problem]
    for outcome in bad:
        print(outcome)
    print(table(outcomes))
    if given.write and not bad:
        Path(given.write).write_text(page(outcomes), encoding="utf-8")
    return 1 if bad or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
