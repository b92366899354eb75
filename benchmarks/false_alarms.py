"""Runs the test suites of uvicorn, starlette and anyio with ``--leakagent`` and writes what was found to docs/false-alarms.md.

    python benchmarks/false_alarms.py PYTHON [SUITE...]     (make false-alarms)

``PYTHON`` has leakagent installed in an environment that pip may add to: the suites' requirements are installed into it.  Sources come from
PyPI and are kept in ``$XDG_CACHE_HOME/leakagent/suites``.  Each suite runs once without and once with the option: a test that fails in both
is none of ours.  It takes about half an hour on two cores.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leakagent" / "suites"
PAGE = ROOT / "docs" / "false-alarms.md"

#: Name -> version, folder of the package in its sources, arguments of pytest.
SUITES = {
    "starlette": ("1.10.0", "", ["tests"]),
    "uvicorn": ("0.54.0", "", ["tests", "--ignore=tests/benchmarks", "-n", "2"]),
    # Without trio, which has no event loop of asyncio, and without its tests of its pytest plugin, which run pytest in other processes.
    "anyio": ("4.16.0", "src", ["tests", "-n", "2", "-k", "not trio", "--ignore=tests/test_pytest_plugin.py"]),
}

REQUIREMENTS = (
    "uvicorn[standard]==0.54.0 starlette[full]==1.10.0 anyio==4.16.0 trio pytest pytest-mock pytest-xdist[psutil] pytest-timeout "
    "pytest-codspeed blockbuster hypothesis psutil trustme truststore uvloop httpx2[zstd] a2wsgi wsproto coverage zttp pyyaml "
    "exceptiongroup typing_extensions cryptography opentelemetry-sdk wrapt"
)

#: What was found, looked at by a person: pattern over test and place -> verdict.
VERDICTS = {
    r"uvicorn.*test_process_(ping_pong|ready)": "true: the test's own thread (`always_pong`) waits in `recv()` for ever, the pipe is not closed",
}


class Ran:
    """One run of a suite."""

    def __init__(self, path: Path, output: str) -> None:
        """Read the JUnit report and the terminal's last line."""
        cases = list(ET.parse(path).getroot().iter("testcase"))
        self.tests = len(cases)
        self.bad: dict[str, str] = {}
        for case in cases:
            for found in (case.find("failure"), case.find("error")):
                if found is not None:
                    self.bad[f"{case.get('classname')}::{case.get('name')}"] = str(found.get("message"))
        self.end = output.partition("leakagent: left alive at the end of the session")[2].partition("\n=====")[0]
        self.broken = re.findall(r"leakagent: .* switched off .*", output)


def sources(name: str, version: str) -> Path:
    """Return the folder with the sources of a suite."""
    folder = CACHE / f"{name}-{version}"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(CACHE)]
        subprocess.run([*pip, f"{name}=={version}"], check=True)
        with tarfile.open(CACHE / f"{name}-{version}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(CACHE)
    return folder


def run(python: str, name: str, *options: str) -> Ran:
    """Run a suite."""
    version, package, arguments = SUITES[name]
    folder = sources(name, version)
    report = CACHE / f"{name}{'-leakagent' if options else ''}.xml"
    words = ["-p", "no:cacheprovider", "-p", "no:asyncio", "-q", "-o", "timeout=0", "-o", "addopts=", f"--junit-xml={report}"]
    environment = {**os.environ, "PYTHONPATH": str(folder / package)}
    ran = subprocess.run(
        [python, "-m", "pytest", *words, *arguments, *options],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    report.with_suffix(".log").write_text(ran.stdout + ran.stderr, encoding="utf-8")
    return Ran(report, ran.stdout + ran.stderr)


def lines(name: str, bare: Ran, watched: Ran) -> tuple[str, list[str]]:
    """Return the row of the table and one line per finding."""
    new = {test: message for test, message in watched.bad.items() if test not in bare.bad}
    leaks = {test: message for test, message in new.items() if "left alive" in message}
    others = [test for test in new if test not in leaks]
    ends = re.findall(r"^(\S.*)\n   (?:yours|library) +(\S+ \S+)", watched.end, re.MULTILINE)
    found = [f"`{test}`: {message.splitlines()[0].removeprefix('Leak: ')}" for test, message in leaks.items()]
    found += [f"end of the session: {what} {where}" for what, where in ends]
    told = []
    for one in found:
        verdict = next((text for pattern, text in VERDICTS.items() if re.search(pattern, f"{name} {one}")), "NOT LOOKED AT")
        told.append(f"- {name}: {one}\n  {verdict}")
    told += [f"- {name}: `{test}` fails only with leakagent: NOT LOOKED AT" for test in others]
    told += [f"- {name}: {text}" for text in watched.broken]
    row = f"| {name} {SUITES[name][0]} | {watched.tests} | {len(bare.bad)} | {len(others)} | {len(leaks)} | {len(ends)} |"
    return row, told


def main() -> None:
    """Run the suites and write the page, with what is known of the others."""
    python, *names = sys.argv[1:]
    subprocess.run([python, "-m", "pip", "install", "-q", *REQUIREMENTS.split()], check=True)
    for name in names or list(SUITES):
        row, told = lines(name, run(python, name), run(python, name, "--leakagent"))
        print(row, *told, sep="\n", flush=True)
        (CACHE / f"{name}.json").write_text(json.dumps([row, told]), encoding="utf-8")
    known = [json.loads(path.read_text(encoding="utf-8")) for name in SUITES if (path := CACHE / f"{name}.json").exists()]
    version = subprocess.run([python, "-V"], check=True, capture_output=True, text=True).stdout.strip()
    PAGE.write_text(
        f"""# False alarms

Written by `make false-alarms` (`benchmarks/false_alarms.py`); do not edit. The test suites of three projects whose whole business is
background work, run without and with `pytest --leakagent` on {version}. Every finding was looked at.

| suite | tests | fail without leakagent | fail only with it, otherwise than by a leak | tests with a leak | left at the end |
|---|---|---|---|---|---|
{chr(10).join(row for row, _ in known)}

{chr(10).join(line for _, told in known for line in told) or "Nothing was found."}

anyio runs without its trio tests and without those of its pytest plugin.
""",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
