"""Runs the test suites of uvicorn, starlette and anyio with ``--leakagent`` and writes what was found to docs/false-alarms.md.

    python benchmarks/false_alarms.py PYTHON [--kept] [SUITE...]     (make false-alarms)

``PYTHON`` has leakagent installed in an environment that pip may add to: the suites' requirements are installed into it.  Sources come from
PyPI and are kept in ``$XDG_CACHE_HOME/leakagent/suites``.  Each suite runs once without and once with the option: a test that fails in both
is none of ours.  One that fails only with it, and not by a leak, is run alone in both ways; if what the garbage collector found in it made
it fail, the suite runs once more for each of `MOMENTS`, without leakagent: what an earlier test left in a cycle fails whichever test the
collector comes in.  anyio needs a ``localhost`` that has an address of IPv6: where the machine's has none, the suites get an ``/etc/hosts``
of their own (which only root can do).
It takes about a quarter of an hour on two cores with nothing else to do.  ``--kept`` takes the last run of a suite where there is one,
and runs what is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
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
    # Without trio, which has no event loop of asyncio, without the test that installs from the network, and without its tests of its pytest
    # plugin, which run pytest in other processes.
    "anyio": ("4.16.0", "src", ["tests", "-n", "2", "-k", "not trio and not sourceless", "--ignore=tests/test_pytest_plugin.py"]),
}

REQUIREMENTS = (
    "uvicorn[standard]==0.54.0 starlette[full]==1.10.0 anyio==4.16.0 trio pytest pytest-mock pytest-xdist[psutil] pytest-timeout "
    "pytest-codspeed blockbuster hypothesis psutil trustme truststore uvloop httpx2[zstd] a2wsgi wsproto coverage zttp pyyaml "
    "exceptiongroup typing_extensions cryptography opentelemetry-sdk wrapt"
)

#: Suite -> thresholds of the garbage collector (700 by default) with which it runs without leakagent.
MOMENTS = {"anyio": (150, 350)}

_PLUGIN = """\
import gc, os
gc.set_threshold(int(os.environ["COLLECT_AFTER"]))
"""

#: Seconds that one test, and a whole suite, may take: what hangs is told as such.
TEST_SECONDS, SUITE_SECONDS = 300, 5400

#: Tests of a suite that are named of those that fail without leakagent.
MOST = 12

#: How a test ends in which the garbage collector has come upon what another one left.
_COLLECTED = "Exception ignored in: <socket|unraisable exception warnings"

#: What was found, looked at by a person: pattern over suite, test and place -> verdict.
VERDICTS = {
    r"uvicorn.*test_process_(ping_pong|ready)": "true: the test's own thread (`always_pong`) waits in `recv()` for ever, the pipe is not closed",
    r"uvicorn.*restart_aborts.*fails only": "no leak: a worker must answer five seconds after its start, which is too little on a busy machine; it has failed without "
    "leakagent as well",
    r"uvicorn.*restart_aborts": "true: the test has failed, as it does without leakagent on a busy machine, and never comes to its `terminate_all()`",
    r"anyio.*test_receive_timeout": "true: the test's own thread serves for a second, and the test does not wait for it",
    r"anyio.*test_happy_eyeballs": "true: the test fails anyway, without IPv6, and leaves its thread in `accept()`",
    r"anyio.*test_ttl_sequential": "no leak: a wait of 0.1 s and 99 answers from a cache must come within a second",
    rf"anyio.*fails only.*({_COLLECTED})": "no leak: a socket of an earlier test, which fails anyway, was collected in this one; "
    "collections come at other moments with leakagent, and anyio has warnings as errors",
}

_END = "leakagent: left alive at the end of the session"


class Ran:
    """One run of a suite.

    Attributes:
        tests: How many there are.
        bad: Test -> message, of those that failed.
        leaks: Test -> findings about it, as ``kind: place``; also of those that failed anyway.
        end: Findings at the end of the session.
        broken: What leakagent said of itself.

    """

    def __init__(self, path: Path, output: str) -> None:
        """Read the JUnit report and what was shown of the failures."""
        cases = list(ET.parse(path).getroot().iter("testcase"))
        self.tests = len(cases)
        self.bad: dict[str, str] = {}
        for case in cases:
            for failure in (case.find("failure"), case.find("error")):
                if failure is not None:
                    self.bad[f"{case.get('classname')}::{case.get('name')}"] = str(failure.get("message"))
        self.leaks: dict[str, list[str]] = {}
        failures, _, rest = output.partition(_END)
        parts = re.split(r"^_+ (?:ERROR at \w+ of )?([^_\s].*?) _+$", failures, flags=re.MULTILINE)
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            if found := _findings(text):
                self.leaks[name] = found
        self.end = _findings(rest)
        self.broken = re.findall(r"leakagent: .* switched off .*", output)


def _findings(text: str) -> list[str]:
    """Return the findings in a text as leakagent writes them: what it is and where."""
    found = re.findall(r"^(\S.*)\n   (?:yours|library) +(\S+) (\S+)$", text, re.MULTILINE)
    return [f"{what}: {place} {function}" for what, place, function in found]


_HOSTS = "127.0.0.1 localhost\n::1 localhost\n"

#: Runs what follows with the first argument in the place of ``/etc/hosts``, for this process and its children alone.
_WITH_HOSTS = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')


def prefix() -> list[str]:
    """Return what goes before a command that needs a ``localhost`` of IPv6 as well."""
    try:
        socket.getaddrinfo("localhost", 0, socket.AF_INET6)
    except socket.gaierror:
        if os.geteuid() == 0 and shutil.which("unshare"):
            hosts = CACHE / "hosts"
            hosts.write_text(_HOSTS, encoding="utf-8")
            return [*_WITH_HOSTS, str(hosts)]
    return []


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


def run(python: str, name: str, *options: str, threshold: int = 0, alone: str = "", kept: bool = False) -> Ran:
    """Run a suite.

    Args:
        python: The interpreter.
        name: The suite's name.
        options: More options of pytest.
        threshold: Of the garbage collector; 0 is Python's own.
        alone: The one test to run, as its JUnit report calls it.
        kept: Take the last run of the whole suite, if there is one.

    """
    version, package, arguments = SUITES[name]
    folder = sources(name, version)
    way = "-alone" if alone else f"-{threshold}" if threshold else ""
    report = CACHE / f"{name}{'-leakagent' if options else ''}{way}.xml"
    log = report.with_suffix(".log")
    if kept and not alone and report.exists() and log.exists():
        return Ran(report, log.read_text(encoding="utf-8"))
    if alone:
        arguments = [_node(folder, alone)]
    if threshold:
        (CACHE / "collect_after.py").write_text(_PLUGIN, encoding="utf-8")
        options = (*options, "-p", "collect_after")
    words = [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        "-q",
        "-o",
        f"timeout={TEST_SECONDS}",
        "-o",
        "addopts=",
        f"--junit-xml={report}",
    ]
    path = os.pathsep.join([str(folder / package), str(CACHE)])
    environment = {**os.environ, "PYTHONPATH": path, "COLLECT_AFTER": str(threshold)}
    try:
        ran = subprocess.run(
            [*prefix(), python, "-m", "pytest", *words, *arguments, *options],
            cwd=folder,
            env=environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SUITE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{name} did not end within {SUITE_SECONDS} s; its last words:\n{str(error.stdout)[-2000:]}"
        raise SystemExit(message) from None
    log.write_text(ran.stdout, encoding="utf-8")
    return Ran(report, ran.stdout)


def _node(folder: Path, test: str) -> str:
    """Return pytest's name of a test that JUnit calls ``package.module.Class::test``."""
    where, _, name = test.partition("::")
    parts = where.split(".")
    at = next(at for at in range(1, len(parts) + 1) if folder.joinpath(*parts[:at]).with_suffix(".py").exists())
    return "::".join([f"{'/'.join(parts[:at])}.py", *parts[at:], name])


def only_with(bare: Ran, watched: Ran) -> list[str]:
    """Return the tests that fail only with leakagent, and not by a leak."""
    return [test for test, message in watched.bad.items() if test not in bare.bad and "left alive" not in message]


def alone(python: str, name: str, test: str) -> str:
    """Say how a test ends alone, with and without leakagent."""
    ends = ["fails" if run(python, name, *options, alone=test).bad else "passes" for options in (("--leakagent",), ())]
    return f"Alone it {ends[0]} with leakagent and {ends[1]} without."


def moments(python: str, name: str, bare: Ran, *, kept: bool) -> list[str]:
    """Say what fails without leakagent where the garbage collector comes at other moments."""
    told = []
    for threshold in MOMENTS.get(name, ()):
        ran = run(python, name, threshold=threshold, kept=kept)
        new = {test: _first(message) for test, message in ran.bad.items() if test not in bare.bad}
        shown = "".join(f"\n  `{test}`: {message}" for test, message in list(new.items())[:MOST])
        told.append(
            f"- {name} without leakagent, a collection after {threshold} objects: {len(new)} tests fail that do not otherwise{shown}"
        )
    return told


def lines(name: str, bare: Ran, watched: Ran, proofs: dict[str, str]) -> tuple[str, list[str]]:
    """Return the row of the table and one line per finding, with the tests that have it."""
    others = list(proofs)
    by_finding: dict[str, list[str]] = {}
    for test, findings in watched.leaks.items():
        for one in dict.fromkeys(findings):
            by_finding.setdefault(one, []).append(test)
    for one in watched.end:
        by_finding.setdefault(one, []).append("end of the session")
    told = [f"- {name}: {one} ({_named(tests)})\n  {_verdict(f'{name} {tests[0]} {one}')}" for one, tests in by_finding.items()]
    for test in others:
        what = f"`{test}` fails only with leakagent: {watched.bad[test].splitlines()[0] if watched.bad[test] else ''}"
        told.append(f"- {name}: {what}\n  {_verdict(f'{name} {what}')}. {proofs[test]}")
    told += [f"- {name}: {text}\n  a defect of leakagent" for text in watched.broken]
    row = f"| {name} {SUITES[name][0]} | {watched.tests} | {len(bare.bad)} | {len(others)} | {len(watched.leaks)} | {len(watched.end)} |"
    return row, told


def _first(message: str) -> str:
    return message.partition("\n")[0][:100]


def _named(tests: list[str]) -> str:
    shown = ", ".join(f"`{test}`" for test in tests[:3])
    return shown if len(tests) <= 3 else f"{shown} and {len(tests) - 3} more"  # noqa: PLR2004 - enough to find them


def _verdict(text: str) -> str:
    return next((verdict for pattern, verdict in VERDICTS.items() if re.search(pattern, text)), "NOT LOOKED AT")


def write_page(python: str) -> None:
    """Write what is known of all suites."""
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

anyio runs without its trio tests, the one test that installs from the network, and those of its pytest plugin. What fails without leakagent looks at file
permissions and was run as root (starlette), asks for names of the network or for the path of `__main__`, which workers of pytest-xdist have not (anyio), or has a second or two of its own,
which is too little on a busy machine (uvicorn's supervisors).

Where `localhost` has no address of IPv6, 140 tests of anyio fail, and the sockets that they leave in their tracebacks are collected in others, which fail
by that: other ones in each run, without leakagent as well. So the command gives the suites an `/etc/hosts` of their own there.

On a machine with ten times more to do than it can, a test that ends its threads without waiting for them can take longer than the 0.5 s of grace:
`leakagent_grace` is for that.

These suites have told falsely before, and the detector was mended (`tests/apps/test_pytest_runners.py`, `tests/process/test_tasks_loop_end.py`):

- clients of httpx without any connection (an application that is called in the same process), kept alive by the traceback of an exception that a test expects;
- the task by which anyio ends the workers of `to_process` when the event loop ends: part of that end;
- tasks of a loop that `KeyboardInterrupt` or `SystemExit` has ended, where `asyncio.Runner` itself was used: interrupted, not left;
- blockbuster, which has blocking calls in an event loop raise, took the agent's own for the program's.
""",
        encoding="utf-8",
    )


def main() -> None:
    """Run the suites and write the page, with what is known of the others."""
    python, *names = [word for word in sys.argv[1:] if word != "--kept"]
    kept = "--kept" in sys.argv
    subprocess.run([python, "-m", "pip", "install", "-q", *REQUIREMENTS.split()], check=True)
    for name in names or list(SUITES):
        bare, watched = run(python, name, kept=kept), run(python, name, "--leakagent", kept=kept)
        proofs = {test: alone(python, name, test) for test in only_with(bare, watched)}
        row, told = lines(name, bare, watched, proofs)
        if any(re.search(_COLLECTED, watched.bad[test]) for test in proofs):
            told += moments(python, name, bare, kept=kept)
        told += [f"- {name} without leakagent as well: `{test}`: {_first(message)}" for test, message in bare.bad.items()][:MOST]
        print(row, *told, sep="\n", flush=True)
        (CACHE / f"{name}.json").write_text(json.dumps([row, told]), encoding="utf-8")
    write_page(python)


if __name__ == "__main__":
    main()
