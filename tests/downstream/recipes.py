"""Other people's test suites under the agent, compared test by test with a run without it.

    python tests/downstream/recipes.py --wheel leakagent.whl [--write docs/downstream.md] [NAME...]

With names only these recipes run; the others keep their rows of the page.  ``--page docs/downstream.md`` writes the page anew from what is kept.

A recipe is a project's own tests at one version: from its source distribution, or CPython's, from the interpreter.  Each runs in an
environment of its own, once as it is and once with ``LEAKAGENT=1``.  A test that passes without the agent and fails with it runs again, alone, both ways:
what fails then with the agent only is a new failure.  The suites' own failures and skips are the same on both sides, and count for nothing.
Standard library only; environments are kept in the same folder as those of ``.ci/test.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

#: Seconds for one run of a suite; generous, since machines can be ten times slower.
DEADLINE = 3600.0

#: More new failures than this are not run again: they are no chance.
FEW = 40

#: What the last run of each recipe gave, from which the page is written.
RESULTS = Path(__file__).with_name("results.json")

#: Stands for the outcomes of a run that has written none.
NOTHING = "(no results)"

#: Passes with the agent only.
_IS_ACTIVE = """\
import sys, unittest

class Test(unittest.TestCase):
    def test(self):
        self.assertTrue("leakagent.agent" in sys.modules and sys.modules["leakagent.agent"].is_active())
"""

_DROPPED = ("LEAKAGENT", "_LEAKAGENT", "OTEL_", "PYTHON", "COVERAGE", "PYTEST")


class Recipe:
    """How the tests of one project are run.

    Attributes:
        name: What it is called here.
        project: Requirement whose source distribution is unpacked; empty for CPython's own tests.
        needs: Further requirements.
        tests: Arguments for pytest, or modules of CPython's tests.
        exceptions: How the names of tests end that no agent can pass, with the reason.
        without: What of the project's tests is left out, and why.

    """

    def __init__(
        self,
        name: str,
        project: str,
        needs: list[str],
        tests: list[str],
        exceptions: dict[str, str] | None = None,
        *,
        without: str = "",
    ) -> None:
        """Note a recipe."""
        self.without = without
        self.name = name
        self.project = project
        self.needs = needs
        self.tests = tests
        self.exceptions = exceptions or {}

    def excepts(self, test: str) -> bool:
        """Say whether a test is one of the exceptions."""
        return any(test.endswith(end) for end in self.exceptions)


#: Of the tests of `multiprocessing`, in each start method.
NOT_CLEANED_UP = {
    "TestResourceTracker.test_resource_tracker": "asserts that SIGTERM ends a process without its clean-up, so that a semaphore is left to "
    "the resource tracker; under leakagent the clean-up runs, and none is left"
}

#: Files of aiohttp's tests: servers, clients, connections, their ends, and its own pytest plugin.
AIOHTTP = [
    *("client_functional", "client_session", "client_ws_functional", "connector", "leaks", "loop", "proxy_functional"),
    *("pytest_plugin", "run_app", "test_utils", "web_functional", "web_runner", "web_sendfile_functional", "web_server"),
    *("web_websocket_functional", "worker"),
]

#: What of joblib's tests of loky takes long: each starts Pythons that start Pythons.
LONG = ("unpicklable", "interactively", "nest", "generator_call", "deadlock", "no_blas", "thread_limit", "threadpool_limit")

RECIPES = [
    Recipe(
        "starlette",
        "starlette==1.3.1",
        [
            "pytest==8.4.2",
            "anyio==4.14.1",
            "httpx==0.28.1",
            "itsdangerous",
            "jinja2",
            "python-multipart",
            "pyyaml",
            "trio",
            "httpx2",
        ],
        ["tests"],
    ),
    Recipe(
        "uvicorn",
        "uvicorn==0.54.0",
        [
            "uvicorn[standard]==0.54.0",
            "anyio==4.16.0",
            "pytest==9.1.1",
            "pytest-mock==3.15.1",
            "pytest-xdist==3.8.0",
            "pytest-timeout",
            "httpx2",
            "a2wsgi==1.10.10",
            "wsproto==1.3.2",
            "trustme",
            "cryptography",
            "zttp",
        ],
        ["-o", "addopts=", "-n", "2", "--ignore=tests/benchmarks", "tests"],
        without="its benchmarks, which only measure",
    ),
    Recipe(
        "anyio",
        "anyio==4.16.0",
        [
            "pytest==9.1.1",
            "pytest-mock==3.15.1",
            "pytest-xdist==3.8.0",
            "pytest-timeout",
            "trio",
            "uvloop",
            "hypothesis",
            "trustme",
            "truststore",
            "psutil",
            "blockbuster",
        ],
        # Its own twenty seconds for a test are few on a busy machine.
        ["tests", "-n", "2", "-o", "timeout=300", "-m", "not network"],
        without="tests that need the Internet",
    ),
    Recipe(
        "aiohttp",
        "aiohttp==3.14.5",
        [
            "aiodns",
            "brotli",
            "blockbuster",
            "backports.zstd",
            "freezegun",
            "gunicorn",
            "isal",
            "pkgconfig",
            "proxy.py>=2.4.4rc5",
            "pytest==9.1.1",
            "pytest-cov",
            "pytest-mock==3.15.1",
            "pytest-timeout",
            "pytest-xdist==3.8.0",
            "pytest_codspeed",
            "trustme",
            "uvloop",
            "zlib_ng",
        ],
        ["-o", "addopts=", "-n", "2", "-p", "no:cov", *(f"tests/test_{name}.py" for name in AIOHTTP)],
        without="parsers, headers and other parts that need no event loop, its benchmarks, and autobahn's tests, which need Docker",
    ),
    Recipe(
        "joblib",
        "joblib==1.5.3",
        ["pytest==8.4.2", "pytest-xdist==3.8.0", "threadpoolctl", "numpy"],
        ["-n", "2", "-k", " and not ".join(["loky", *LONG]), "joblib/test/test_parallel.py", "joblib/test/test_memmapping.py"],
        without="what does not name loky, by which it starts its workers, and what of that starts Pythons in Pythons",
    ),
    Recipe(
        "cpython-asyncio",
        "",
        [],
        ["test_asyncio"],
        {"test_log_destroyed_pending_task": "asserts that a pending task that nobody refers to is destroyed; leakagent keeps it"},
    ),
    Recipe("cpython-futures", "", [], ["test_concurrent_futures"]),
    Recipe("cpython-threading", "", [], ["test_threading", "test_signal", "test_subprocess"]),
    Recipe(
        "cpython-multiprocessing-fork",
        "",
        [],
        ["test_multiprocessing_fork", "test_multiprocessing_main_handling"],
        NOT_CLEANED_UP,
    ),
    Recipe("cpython-multiprocessing-spawn", "", [], ["test_multiprocessing_spawn"], NOT_CLEANED_UP),
    Recipe("cpython-multiprocessing-forkserver", "", [], ["test_multiprocessing_forkserver"], NOT_CLEANED_UP),
]


class Suite:
    """A recipe that is ready to run: an interpreter of its own with the project, its tests' needs and leakagent."""

    def __init__(self, recipe: Recipe, wheel: Path) -> None:
        """Make the environment if it is not there, and install the wheel into it."""
        self.recipe = recipe
        key = hashlib.sha256("\n".join([sys.version, recipe.project, *recipe.needs]).encode()).hexdigest()[:16]
        self.home = cache() / f"downstream-{recipe.project.partition('==')[0] or 'cpython'}-{key}"
        self.python = self.home / "venv" / "bin" / "python"
        if not (self.home / ".ready").exists():
            shutil.rmtree(self.home, ignore_errors=True)
            self.home.mkdir(parents=True)
            self._make()
        (self.home / ".ready").touch()
        self._pip("install", "--force-reinstall", "--no-deps", str(wheel))

    def _make(self) -> None:
        must([sys.executable, "-m", "venv", str(self.home / "venv")])
        if self.recipe.project:
            with tempfile.TemporaryDirectory() as folder:
                self._pip("download", "--no-deps", "--no-binary", ":all:", "-d", folder, self.recipe.project)
                with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
                    archive.extractall(self.home, filter="data")
            next(path for path in self.home.iterdir() if path.name != "venv").rename(self.home / "source")
            self._pip("install", self.recipe.project, *self.recipe.needs)
        self._pip("install", "wrapt", "psutil", "opentelemetry-api", "opentelemetry-sdk")

    def _pip(self, *words: str) -> None:
        must([str(self.python), "-m", "pip", "--disable-pip-version-check", "-q", *words])

    def run(self, *, agent: bool, only: list[str] | None = None, probe: Path | None = None) -> dict[str, str]:
        """Run the tests, or ``only`` some, or a file of our own, and return the outcome of each by its name."""
        with tempfile.TemporaryDirectory(prefix="leakagent-downstream-") as folder:
            results = Path(folder, "results.xml")
            kept = {key: value for key, value in os.environ.items() if not key.startswith(_DROPPED)}
            if agent:
                kept.update(LEAKAGENT="1", LEAKAGENT_REPORT="off")
            # Where the agent's socket and ledger are: the suites look for what is left in the folder for temporary files.
            kept.update(XDG_RUNTIME_DIR=folder)
            with Path(folder, "output").open("w+", encoding="utf-8", errors="replace") as output:
                self._execute(self._command(results, only, probe), kept, output)
                output.seek(0)
                said = [line.strip() for line in output if line.startswith("leakagent:")]
            found = read(results)
        if not found:
            found[NOTHING] = "failed"
        if said:
            found[f"(standard error is free of leakagent) {said[0]}"] = "failed"
        return found

    def prove_active(self) -> None:
        """Run a test of our own in the way of the suite's: it passes with the agent only, or the comparison would be one of equals."""
        with tempfile.TemporaryDirectory(prefix="leakagent-downstream-") as folder:
            path = Path(folder, "test_agent_is_active.py")
            path.write_text(_IS_ACTIVE, encoding="utf-8")
            for agent, expected in ((True, "passed"), (False, "failed")):
                found = list(self.run(agent=agent, probe=path).values())
                if found != [expected]:
                    message = f"{self.recipe.name}: a test that passes with the agent only, LEAKAGENT={int(agent)}: {found}"
                    raise SystemExit(message)

    def _command(self, results: Path, only: list[str] | None, probe: Path | None) -> list[str]:
        if not self.recipe.project:
            tests = [word for name in only or [] for word in ("-m", name)] + self.recipe.tests
            chosen = tests if probe is None else ["--testdir", str(probe.parent), probe.stem]
            return [str(self.python), "-m", "test", "-j1", f"--timeout={DEADLINE:.0f}", f"--junit-xml={results}", *chosen]
        words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:leakagent", "-o", "faulthandler_timeout=600"]
        chosen = (only or self.recipe.tests) if probe is None else [str(probe)]
        return [str(self.python), *words, "-o", "junit_family=xunit1", f"--junit-xml={results}", *chosen]

    def _execute(self, command: list[str], environ: dict[str, str], output: object) -> None:
        folder = self.home / "source" if self.recipe.project else self.home
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # type: ignore[call-overload]
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Comparison:
    """A suite without and with the agent.

    Attributes:
        recipe: Which one.
        tests: How many tests passed without the agent.
        failed: How many failed without and with the agent, in the first two runs.
        new: Those that fail, or are not there, with the agent only, also when they run again alone.
        unstable: Those that failed with it and passed when they ran again, or failed without it as well.
        excepted: Those that fail with it and are listed as exceptions.

    """

    def __init__(self, suite: Suite) -> None:
        """Run the suite both ways."""
        self.recipe = suite.recipe
        suite.prove_active()
        bare, agent = suite.run(agent=False), suite.run(agent=True)
        passed = {name for name, outcome in bare.items() if outcome == "passed"}
        self.tests = len(passed)
        self.failed = tuple(sum(outcome == "failed" for outcome in found.values()) for found in (bare, agent))
        failed = {name for name in agent if agent[name] == "failed" and bare.get(name, "passed") == "passed"}
        missing = passed - set(agent)
        self.excepted = sorted(name for name in failed | missing if suite.recipe.excepts(name))
        suspects = sorted((failed | missing) - set(self.excepted))
        again = [name for name in suspects if not name.startswith("(")]
        self.new, self.unstable = suspects, list[str]()
        if again and len(again) <= FEW:
            alone, without = suite.run(agent=True, only=again), suite.run(agent=False, only=again)
            # The name of a test that is not there may have a number in it that changes: it is new only if it is there without the agent.
            usual = {name: "passed" if name in failed or NOTHING in without else "" for name in suspects}
            self.new = [name for name in suspects if alone.get(name) != "passed" and without.get(name, usual[name]) == "passed"]
            self.unstable = [name for name in suspects if name not in self.new]


def read(results: Path) -> dict[str, str]:
    """Return ``passed``, ``failed`` or ``skipped`` for each test of a JUnit file; nothing if there is none."""
    if not results.exists():
        return {}
    found: dict[str, str] = {}
    for case in ET.parse(results).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        name = case.get("name", "")
        if case.get("file"):
            inner = case.get("classname", "").rpartition(".")[2]
            stem = Path(case.get("file", "")).stem
            name = "::".join([case.get("file", ""), *([inner] if inner != stem else []), name])
        found[name] = "failed" if found.get(name) == "failed" else outcome
    return found


def cache() -> Path:
    """Return the folder in which environments are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "leakagent"


def must(command: list[str]) -> None:
    """Run a command; without success nothing of this makes sense."""
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    if ran.returncode:
        message = f"{' '.join(command)}: status {ran.returncode}\n{ran.stderr[-2000:]}"
        raise SystemExit(message)


def kept(one: Comparison) -> dict[str, Any]:
    """Return what is kept of a comparison in `RESULTS`."""
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "day": time.strftime("%Y-%m-%d"),
        "passed": one.tests,
        "failed": list(one.failed),
        "new": one.new,
        "unstable": one.unstable,
        "excepted": one.excepted,
    }


def _judged(recipe: Recipe, one: dict[str, Any]) -> dict[str, Any]:
    """Return kept results with the exceptions of today: what was new when it ran may have been understood since."""
    understood = [test for test in one["new"] if recipe.excepts(test)]
    return {**one, "new": [test for test in one["new"] if test not in understood], "excepted": [*one["excepted"], *understood]}


def page(results: dict[str, dict[str, Any]]) -> str:
    """Return the page of the documentation."""
    lines = [
        "# Other people's test suites under leakagent",
        "",
        "Written by `make downstream`; do not edit. Each suite runs as it is and with `LEAKAGENT=1`, and the outcomes are compared test by test. A new",
        "failure fails, or is missing, with leakagent only, also when it runs alone; unstable is what failed once and passed alone; failed are all tests",
        "that failed in the two runs, most of them in both. A line of leakagent's on standard error is a new failure as well. Before each suite a test of",
        "our own proves that the agent is there. CPython's test runner warns that threads are left over: it counts leakagent's own (`_thread._count`), and",
        "no test fails because of that.",
        "",
        "| suite | version | Python | day | passed without leakagent | failed without, with | new failures | exceptions | unstable |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    done = [(recipe, _judged(recipe, results[recipe.name])) for recipe in RECIPES if recipe.name in results]
    for recipe, one in done:
        name, _, number = recipe.project.partition("==")
        own = f"{name}, its own tests" + (f" (without {recipe.without})" if recipe.without else "")
        suite = own if name else f"CPython: {', '.join(recipe.tests)}"
        counts = [
            one["passed"],
            ", ".join(map(str, one["failed"])),
            *(len(one[kind]) for kind in ("new", "excepted", "unstable")),
        ]
        lines.append(f"| {' | '.join(map(str, [suite, number or one['python'], one['python'], one['day'], *counts]))} |")
    missing = [recipe.name for recipe in RECIPES if recipe.name not in results]
    lines += [f"| {name} | | | not run to its end yet | | | | | |" for name in missing]
    lines += ["", "## Exceptions", "", "What they assert no agent can keep:", ""]
    for recipe, one in done:
        for end, reason in recipe.exceptions.items():
            times = sum(test.endswith(end) for test in one["excepted"])
            lines.append(f"- `{end}` ({recipe.name}, {times} times): {reason}.")
    lines += ["", "## New failures and unstable tests", ""]
    named = [(recipe, kind, test) for recipe, one in done for kind in ("new", "unstable") for test in one[kind]]
    lines += [f"- {kind}, {recipe.name}: `{test}`" for recipe, kind, test in named] or ["None."]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the recipes, print what is new, and return 1 if anything is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--wheel", type=Path, help="leakagent, built")
    parser.add_argument(
        "--write", metavar="FILE", help="also keep the results, and write the page of the documentation from all that are kept"
    )
    parser.add_argument("--page", metavar="FILE", help="only write the page anew, from what is kept")
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    if given.page:
        Path(given.page).write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
        return 0
    if not given.wheel:
        parser.error("--wheel is missing")
    # A shell starts what is in the background with it ignored, and the suites interrupt themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    compared = []
    for recipe in [one for one in RECIPES if not given.names or one.name in given.names]:
        one = Comparison(Suite(recipe, given.wheel))
        compared.append(one)
        print(f"{recipe.name}: {one.tests} tests, {len(one.new)} new failures, {len(one.unstable)} unstable", flush=True)
        for kind, names in (("new", one.new), ("unstable", one.unstable), ("excepted", one.excepted)):
            for name in names[:FEW]:
                print(f"   {kind}: {name}", flush=True)
        if given.write:
            results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
            results[recipe.name] = kept(one)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            Path(given.write).write_text(page(results), encoding="utf-8")
    return 1 if any(one.new or not one.tests for one in compared) else 0


if __name__ == "__main__":
    sys.exit(main())
