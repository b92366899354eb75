"""Start-up of an interpreter.

    python benchmarks/startup.py [--rounds N] [--gate] [--json FILE]

CPU time of the whole process, and instructions for what is too small for a clock. "LEAKAGENT unset" compares an interpreter that has
leakagent's start-up hook with one that has not; everywhere else the bare program has it, with LEAKAGENT unset. Modules are those that the program
would not have had.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from paired import AGAIN, AGENT, BARE, Row, compare
from programs import GATED, VARIANTS, Ran, Runs, Variant, alternate, chosen, main, rows_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

CODES = {
    "python -c pass": "pass",
    "import asyncio": "import asyncio",
    "asyncio.run": "import asyncio\nasync def main(): pass\nasyncio.run(main())",
}
SHOW = "import json, sys; print(json.dumps(sorted(sys.modules)))"
HOOK = ("leakagent", "leakagent.pth", "leakagent.start", "_leakagent_start.py")


def measure(runs: Runs, options: argparse.Namespace) -> list[Row]:
    """Return the rows."""
    runs = Runs(runs.python, runs.folder, reports=False)
    rows: list[Row] = []
    for workload, code in CODES.items():

        def one(_name: str, variant: Variant, code: str = code, workload: str = workload) -> Ran:
            ran = runs.run(variant, ["-c", f"{variant.startup or variant.prelude}\n{code}"])
            return Ran({workload: ran.cpu * 1000}, ran.cpu, ran.wall, ran.report, ran.problem)

        names = [name for name in VARIANTS if name not in {"set and done callback", "leakagent, level count"}]
        found, notes = alternate(chosen(names, gate=options.gate), options.rounds, one)
        rows += rows_of(found, notes, "ms", lambda ran: ran.figures)
        samples: dict[str, list[float | None]] = {name: [_instructions(runs, VARIANTS[name], ["-c", code])] for name in GATED}
        rows += compare(f"{workload}, instructions", "instructions", samples)
        rows.append(Row(f"{workload}: modules more", AGENT, len(_more(runs, code)), "modules"))
    return rows + _unset(runs)


def _instructions(runs: Runs, variant: Variant, command: Sequence[str]) -> float | None:
    runs.run(variant, command)  # once before, so that all is compiled
    return runs.instructions(variant, command)[0]


def _more(runs: Runs, code: str) -> set[str]:
    """Return the modules that a program has under leakagent and would not have had, those of leakagent itself left out."""
    modules = []
    for name in (BARE, AGENT):
        environment, _ = runs.environment(VARIANTS[name])
        command = [runs.python, "-c", f"{code}\n{SHOW}"]
        ran = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
        modules.append(set(json.loads(ran.stdout)))
    return {name for name in modules[1] - modules[0] if not name.lstrip("_").startswith("leakagent")}


def _unset(runs: Runs) -> list[Row]:
    """Compare two fresh environments of one interpreter, of which one has the hook."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    source = Path(subprocess.run([runs.python, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
    pythons = {}
    for name in ("none", "hook"):  # of one length: a path takes instructions for each character
        folder = runs.folder / name
        subprocess.run([runs.python, "-m", "venv", "--without-pip", folder], check=True)
        pythons[name] = str(folder / "bin" / "python")
    packages = next((runs.folder / "hook" / "lib").glob("python*")) / "site-packages"
    for part in HOOK:
        if (source / part).is_dir():
            shutil.copytree(source / part, packages / part)
        elif (source / part).exists():
            shutil.copy(source / part, packages)
    samples: dict[str, list[float | None]] = {}
    for name, which in ((BARE, "none"), (AGENT, "hook"), (AGAIN, "none")):
        samples[name] = [_instructions(Runs(pythons[which], runs.folder, reports=False), VARIANTS[BARE], ["-c", "pass"])]
    return compare("python -c pass, LEAKAGENT unset, instructions", "instructions", samples)


if __name__ == "__main__":
    main(__doc__ or "", "startup", measure, rounds=20)
