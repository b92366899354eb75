"""The command line: ``python -m leakagent`` and ``leakagent``; one file per command."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMANDS = ("run", "attach", "baseline", "doctor", "dump", "ps", "reap", "report", "top", "why")

USAGE = """\
usage: python -m leakagent [run] [OPTIONS] script.py [ARG...]
       python -m leakagent [run] [OPTIONS] -m module [ARG...]
       python -m leakagent [run] [OPTIONS] -c code [ARG...]
       leakagent run [OPTIONS] -- COMMAND [ARG...]
       leakagent attach PID [--wait SECONDS] [OPTIONS]
       leakagent doctor [--json]
       leakagent ps [--json]
       leakagent top [--once] [--json]
       leakagent dump PID
       leakagent why PID [--json]
       leakagent reap [--clean] [--json] [--older-than SECONDS] [--every SECONDS] [PID...]
       leakagent report FILE [--html OUT] [--markdown OUT] [--json]
       leakagent report OLD NEW [--json]
       leakagent baseline REPORT > leakagent-baseline.json

Runs a Python program, keeps its unfinished work alive, closes what it left open at its end, and tells what leaked.

options of run:
  --level LEVEL          off, count, site (default) or stack
  --report LIST          text (default), json:PATH, html:PATH, markdown:PATH, github, off; {pid} in a path is replaced
  --fail-on-leak         status 23 if there are findings and the program itself ended with 0
  --baseline FILE        leaks that are accepted (leakagent baseline): --fail-on-leak counts only new ones
  --budget SECONDS       what the whole shutdown may take (default 10)
  --grace SECONDS        what loops and executors each get (default 3)
  --orphans POLICY       what children of multiprocessing do when their starter is gone: end (default) or keep
  --subprocesses POLICY  children of subprocess that outlive the program: keep (default), end or guard
  --stalled-after SECONDS  without progress before a task or worker is looked at (default 60)
  --ignore LIST          fingerprints, kinds, functions or file:line patterns that are not told
  --otel MODE            auto (default: what the OTEL_* variables ask for), global (the program's own providers) or off
  --otel-wait SECONDS    what the end may wait for telemetry to be delivered (default 1)
  --otel-memory 0|1      send the memory of the process as well (default 0)
  --live 0|1             the per-user socket for ps, top, why, dump (default 1)
  --config FILE          a TOML file with [tool.leakagent] (default pyproject.toml)
  -h, --help             this text
  --version              the version

Each option has an environment variable: LEAKAGENT_LEVEL, LEAKAGENT_REPORT, ...  LEAKAGENT=1 starts the agent with every
Python of this environment.  leakagent COMMAND --help says more about one command.
"""

#: What `--help` says of a command; that of `run` is the whole text.
ABOUT = {
    "attach": """\
Starts the agent in a Python program that runs already, and takes up its tasks, threads, pools and
children. Needs Python 3.14 or newer, the same minor version here and there. --wait is how long a
program that sits in a system call gets to come back from it (default 10).""",
    "baseline": """\
Prints a file that accepts the leaks of a JSON report by their fingerprints, which survive lines
that move. With --baseline FILE, only new leaks count for --fail-on-leak; pytest has
--leakagent-baseline FILE.""",
    "doctor": """\
Says whether the start-up hook runs in this environment, which patches are in force, which versions
and exporters are there. Status 1 if something needs attention.""",
    "dump": """\
Prints the JSON report of a living process: what is open, what leaks, what grows. leakagent report
FILE shows it.""",
    "ps": """\
Lists your processes that can be asked, with what is open in each.""",
    "reap": """\
Lists what dead programs have left behind; --clean ends what is proven to be theirs, or only the
PIDs that are named.""",
    "report": """\
Shows a JSON report (--report json:FILE, leakagent dump) as text, or writes it as HTML or Markdown.
Of two reports it says what is new, grown, shrunk and gone; the status is 23 if something is new or
has grown.""",
    "top": """\
Shows all your processes under leakagent in one view, those that leak first. --once prints it and
ends; --json prints it for programs.""",
    "why": """\
Says what keeps a process alive, the culprit first, with its line and the fix; also while it hangs
in its end.""",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends by `SystemExit`, with status 2 for wrong usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words[0] if words and words[0] in COMMANDS else "run"
    rest = words[1:] if words and words[0] == command else words
    if command in ABOUT and not {"-h", "--help"}.isdisjoint(rest):
        print(_help(command), end="")  # noqa: T201 - what was asked for
        return
    _load(command)(rest)


def _help(command: str) -> str:
    forms = [line[7:] for line in USAGE.splitlines() if line.startswith(f"       leakagent {command} ")]
    return "usage: " + "\n       ".join(forms) + f"\n\n{ABOUT[command]}\n"


def _load(command: str) -> Callable[[list[str]], None]:
    if command == "attach":
        from .attach import main as run
    elif command == "doctor":
        from .doctor import main as run
    elif command == "baseline":
        from .baseline import main as run
    elif command == "dump":
        from .dump import main as run
    elif command == "ps":
        from .ps import main as run
    elif command == "reap":
        from .reap import main as run
    elif command == "top":
        from .top import main as run
    elif command == "why":
        from .why import main as run
    elif command == "report":
        from .report import main as run
    else:
        from .run import main as run
    return run
