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
Python of this environment.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends by `SystemExit`, with status 2 for wrong usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words[0] if words and words[0] in COMMANDS else "run"
    rest = words[1:] if words and words[0] == command else words
    _load(command)(rest)


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
