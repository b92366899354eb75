"""Breaks every function of the agent that a program makes it call, one at a time: the program must not notice.

    python tests/faults/everywhere.py [--write docs/faults.md] [--every N] [FUNCTION...]

The functions are found by running `program.py` once under an agent that notes what is called.  For each of them the program runs
again, with that function raising an error at its first statement, each time that it is called.  Status and standard output have to be
those of the bare program, nothing but lines of leakagent's may be on standard error, and what is switched off is said in one line.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent

#: Seconds for one run; generous, since machines can be ten times slower.
DEADLINE = 240.0
AT_ONCE = 3

#: What Python prints about errors; the program itself makes some.
_OF_PYTHON = ("Traceback", "Exception ignored", "Exception in", "Warning")

_DROPPED = ("LEAKAGENT", "_LEAKAGENT", "OTEL_", "PYTHON", "COVERAGE")

#: They do their last work when the report is written already: what breaks then is said, and can't be in it.
LAST = frozenset({"end of the program", "folders of roots that are gone", "ledger", "signals in C code", "telemetry"})


#: Not broken, because nothing is in front of them: each takes the place of a function of Python's or of a library's, or is called by Python
#: itself (the collector, a fork, a weak reference), or is what catches errors.  Whatever such a function calls is broken by itself.
STANDS_IN = re.compile(
    r":(?:\w+\.)*_?make_\w+\.\w+$|task_functions:\w+\.(?:create_task|ensure_future)$|:ImportHook\.find_spec$"
    r"|exec_module$|:_Taken\.__\w+__$|interpreter:caller$|\.guard:|:Tasks\._bounded$|:State\.raise_postponed$|:TaskTable\.noted$|agent:_after_fork$|:Window\._on_collection$|:_Dropped\.__call__$|bootstrap:start$|leakagent:__getattr__$"
)


class Outcome:
    """How the program went with one function broken.

    Attributes:
        function: Which one, ``module:qualified name``.
        status, out, err: What the program left.
        disabled: The parts that its report says are off, with the reasons; None without a report.
        problem: What differs from the bare program; empty if nothing does.

    """

    def __init__(self, function: str, status: int | None, out: str, err: str) -> None:
        """Keep what a run left."""
        self.function = function
        self.status = status
        self.out = out
        self.err = err
        self.disabled: list[str] | None = None
        self.problem = ""

    @property
    def said(self) -> list[str]:
        """The lines about parts that are switched off."""
        return [line for line in self.err.splitlines() if " switched off " in line]

    @property
    def parts(self) -> set[str]:
        """The parts that these lines are about."""
        return {line.removeprefix("leakagent: ").partition(" switched off ")[0] for line in self.said}

    @property
    def untold(self) -> set[str]:
        """Those of them that the report, where there is one, does not name."""
        return set() if self.disabled is None else self.parts - {one.partition(":")[0] for one in self.disabled}

    def judge(self, bare: Outcome) -> Outcome:
        """Compare with the bare program."""
        if self.status is None:
            self.problem = f"did not end in {DEADLINE:.0f} s"
        elif (self.status, self.out) != (bare.status, bare.out):
            self.problem = "another status or output"
        elif any(self.err.count(word) != bare.err.count(word) for word in _OF_PYTHON):
            self.problem = "a traceback on standard error"
        elif len(self.said) != len(set(self.said)):
            self.problem = "said twice"
        elif self.untold - LAST:
            self.problem = f"not in the report: {sorted(self.untold)}"
        return self

    def __repr__(self) -> str:
        """Show everything: this is what a failed assertion prints."""
        return f"<{self.function}: {self.problem}\nstatus {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}>"


def run(what: str, folder: Path, *more: str) -> Outcome:
    """Run the program once: ``what`` is ``bare``, ``record`` or a function."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_DROPPED)}
    command = [sys.executable, str(HERE / "inject.py"), what, *more, str(HERE / "program.py")]
    process = subprocess.Popen(
        command,
        cwd=folder,
        # No text is wanted, so that what is on standard error is about faults.
        env={**kept, "LEAKAGENT_REPORT": f"json:{folder}/report.json", "LEAKAGENT_BUDGET": "4"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, err = process.communicate()
        return Outcome(what, None, out, err)
    outcome = Outcome(what, process.returncode, out, err)
    report = folder / "report.json"
    if report.exists():
        outcome.disabled = json.loads(report.read_text(encoding="utf-8"))["agent"]["disabled"]
    return outcome


def functions() -> list[str]:
    """Return the functions of the agent that can be broken, in the order of their first calls."""
    return [name for name in called() if not STANDS_IN.search(name)]


def called() -> list[str]:
    """Return the functions of the agent that are called while the program runs, in the order of their first calls."""
    with tempfile.TemporaryDirectory(prefix="leakagent-faults-") as folder:
        note = Path(folder, "called")
        outcome = run("record", Path(folder), str(note))
        assert note.exists(), outcome
        return list(dict.fromkeys(note.read_text(encoding="utf-8").splitlines()))


def run_all(chosen: list[str]) -> list[Outcome]:
    """Run the program with each of these functions broken, several at a time."""
    with tempfile.TemporaryDirectory(prefix="leakagent-faults-") as parent, ThreadPoolExecutor(AT_ONCE) as pool:
        bare = run("bare", Path(parent))
        assert bare.status == 7, bare

        def one(numbered: tuple[int, str]) -> Outcome:
            folder = Path(parent, str(numbered[0]))
            folder.mkdir()
            return run(numbered[1], folder).judge(bare)

        return list(pool.map(one, enumerate(chosen)))


def page(outcomes: list[Outcome], left_out: list[str]) -> str:
    """Return the page of the documentation."""
    version = ".".join(map(str, sys.version_info[:3]))
    quiet = sum(not outcome.said for outcome in outcomes)
    late = sum(bool(outcome.untold) for outcome in outcomes)
    lines = [
        "# Errors inside the agent",
        "",
        f"Written by `make faults`; do not edit. A program that uses what is patched ran {len(outcomes)} times under leakagent (Python {version}), each",
        "time with another one of leakagent's functions raising an error whenever it was called. In every run status and output were those of",
        f"the bare program, and nothing but leakagent's own lines was on standard error. In {len(outcomes) - quiet} runs one line named the part that was switched off,",
        f"and so did the report, but for {late} of them, where it was written already;",
        f"in the other {quiet} the function has a way without it, or what it does is told nowhere else.",
        "",
        "| function that was broken | said |",
        "|---|---|",
    ]
    for outcome in sorted(outcomes, key=lambda one: one.function):
        said = "; ".join(line.removeprefix("leakagent: ").partition(" switched off ")[0] for line in outcome.said)
        lines.append(f"| `{outcome.function}` | {said or '-'} |")
    lines += ["", f"## Left out: {len(left_out)} functions", ""]
    lines += [
        "They take the place of functions of Python or of a library, or are called by Python itself: nothing is in front of them.",
        "",
    ]
    lines += [f"- `{name}`" for name in sorted(left_out)]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run all and print what went wrong; the status is 1 if anything did."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", metavar="FILE", help="also write the page of the documentation")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th function")
    parser.add_argument("functions", nargs="*")
    given = parser.parse_args()
    outcomes = run_all(given.functions or functions()[:: given.every])
    bad = [outcome for outcome in outcomes if outcome.problem]
    for outcome in bad:
        print(outcome)
    print(f"{len(outcomes)} functions broken one at a time: {len(outcomes) - len(bad)} runs like bare, {len(bad)} not")
    if given.write and not bad:
        left_out = [name for name in called() if STANDS_IN.search(name)]
        Path(given.write).write_text(page(outcomes, left_out), encoding="utf-8")
    return 1 if bad or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
