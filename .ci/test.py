"""Sets up environments and runs checks, tests and the demo in them.  Standard library only.

    python .ci/test.py check         ruff, ruff format, mypy
    python .ci/test.py test [PATH]   the core tests in every Python found, the application tests in one (newest and older versions)
    python .ci/test.py pythons [PATH]  the same, and how that went in each Python into docs/pythons.md
    python .ci/test.py demo          the demo, bare and under the agent
    python .ci/test.py corpus        small programs with and without leaks: how many are told rightly; writes docs/corpus.md
    python .ci/test.py faults        every function of the agent broken, one at a time; writes docs/faults.md
    python .ci/test.py soak          a server under load for an hour (--minutes N), bare and under the agent; writes docs/soak.md
    python .ci/test.py fuzz          random bytes for everything that reads bytes, for ten minutes (--seconds N)
    python .ci/test.py downstream    other people's test suites with and without the agent; writes docs/downstream.md
    python .ci/test.py docs          build the documentation into .site/, warnings are errors
    python .ci/test.py browser       open a real HTML report in headless Chromium, and keep the picture for the documentation
    python .ci/test.py panes         run the terminal view in tmux over three programs, into docs/top.md
    python .ci/test.py bench [NAME]  the benchmarks (needs the Debian packages valgrind and wrk): tables, results.json, docs/benchmarks.md
    python .ci/test.py bench-gate    one line for each target that is missed
    python .ci/test.py otel-demo     the demo, a real Collector and a real store, and where its leaks are seen (--once: and end)
    python .ci/test.py dashboards    write the dashboards in deploy/
    python .ci/test.py wheel         build the wheel into dist/
    python .ci/test.py false-alarms  the test suites of uvicorn, starlette and anyio under the pytest plugin, into docs/
    python .ci/test.py flood         what a flood of questions on the live socket costs, into docs/
    python .ci/test.py pin           write .ci/constraints*.txt: today's versions of all that pyproject.toml requires

Environments without leakagent live outside the tree, in ``$XDG_CACHE_HOME/leakagent/``, one folder per content (interpreter,
requirements, constraints), and are used again until nobody has used them for 14 days.  Tests and demo get a copy of their own
(hard links: a second, and no space) into which the wheel is installed as users do it: runs at the same time, also from
different checkouts, don't meet.

``LEAKAGENT_TEST_PYTHONS`` selects interpreters ("3.11 3.13"), ``LEAKAGENT_TEST_DEADLINE`` is the time in seconds that the tests
may take in one of them, ``LEAKAGENT_TEST_JOBS`` says how many interpreters run at once.

Few failed tests (`FEW` in an environment) are run once more, alone, as CPython's own test runner does (``regrtest --rerun``): most tests are programs that are
sent signals at some moment, and with ten thousand of them the odd one fails by chance.  What passes then is no failure, but never
silent either: the first failure is shown in full, and the last lines name it as unstable, to be looked into.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
#: The application tests run in this one, for which all applications have wheels.
APPS_VERSION = "3.11"
#: Other people's test suites run in this one.
DOWNSTREAM_VERSION = "3.13"
CI = os.environ.get("CI") == "true"
#: Prints a folder with a real OpenTelemetry Collector; without it one on the PATH is used.
STACK = Path(os.environ.get("LEAKAGENT_OTEL_STACK", ROOT.parent / "shared" / "tools" / "otel-stack"))
NEXT = Path(os.environ.get("LEAKAGENT_PYTHON_NEXT", ROOT.parent / "shared" / "tools" / "python-next"))

#: What is in which environment, besides what the agent needs: extras and groups of pyproject.toml.
ENVIRONMENTS = {
    "core": ["test", "servers"],
    "apps": ["test", "servers", "demo", "apps", "tui", "docs"],
    "older": ["test", "older"],
    "otel": ["test", "otlp", "prometheus", "demo", "otel"],
    "demo": ["demo"],
    "docs": ["docs"],
    "check": ["dev"],
    "bench": ["bench"],
}

#: Environments whose versions contradict those of the others.
APART = ("older", "bench")

#: Application tests that run with the newest releases and with older ones.
NEW_AND_OLD = ("tests/apps/test_calls_in_flight.py", "tests/apps/test_llama_index.py")

#: Environments of the application tests, and what runs in them.
APPLICATIONS = {
    "apps": ["tests/apps", "tests/servers", "tests/corpus", "tests/faults", "--ignore=tests/apps/older"],
    "older": ["tests/apps/older", *NEW_AND_OLD],
    "otel": ["tests/otel"],
}

#: Tests that the other environments leave out.
APPLICATION_TESTS = ("tests/apps", "tests/corpus", "tests/faults", "tests/otel")

KEPT_DAYS = {"run": 1, **dict.fromkeys([*ENVIRONMENTS, "build", "downstream", "matrix"], 14)}

#: More failed tests than this in one environment are no chance.
FEW = 2

_PIP = ("-m", "pip", "--disable-pip-version-check", "-qq")

#: Becomes another program: the first argument, with the others.
_TRAMPOLINE = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"

_stopped = threading.Event()


class CannotError(Exception):
    """Something can't be set up; the text says what, in one line."""


class Python:
    """An interpreter: a command line in front, and the folders as it sees them (one in a chroot sees them elsewhere)."""

    def __init__(self, version: str, command: list[str], cache: str, outside: Path, checkout: str) -> None:
        self.version = version
        self.command = command
        self.cache = cache
        self.outside = outside
        self.checkout = checkout

    def run(self, *arguments: str) -> int:
        """Run it with these arguments and return its status."""
        return subprocess.run([*self.command, *arguments], cwd=ROOT, check=False).returncode

    def must(self, what: str, *arguments: str) -> None:
        """Run it with these arguments; without success there is no ``what``."""
        status = self.run(*arguments)
        if status:
            message = f"could not make the {what} for Python {self.version} (status {status})"
            raise CannotError(message)

    def inside(self, folder: str) -> Python:
        """Return the interpreter of an environment below its cache."""
        path = f"{self.cache}/{folder}/bin/python"
        # The chroot's command takes a version and no path: that version starts the environment's own interpreter.
        command = [path] if self.checkout == str(ROOT) else [*self.command, "-c", _TRAMPOLINE, path]
        return Python(self.version, command, self.cache, self.outside, self.checkout)


# -- interpreters ----------------------------------------------------------------------------------------------------


def constraints(name: str) -> Path:
    """Return the file with the versions of what is in an environment."""
    return ROOT / ".ci" / (f"constraints-{name}.txt" if name in APART else "constraints.txt")


def find_pythons(versions: list[str]) -> list[Python]:
    """Return the interpreters of this machine with these versions, at most one for each."""
    pythons = []
    for version in versions:
        found = next((candidate for candidate in _candidates(version) if _answers(candidate, version)), None)
        if found:
            pythons.append(_native(version, found))
    missing = {"3.14", "3.15"}.intersection(versions) - {python.version for python in pythons}
    if missing and NEXT.exists() and os.geteuid() == 0:
        with _locked(_cache() / "python-next", "a chroot"):
            made = subprocess.run([str(NEXT)], check=False, stdout=subprocess.PIPE, text=True)
        if made.returncode:
            message = f"could not make the chroot with Python {' and '.join(sorted(missing))} ({NEXT}: status {made.returncode})"
            raise CannotError(message)
        root, cache = made.stdout.strip(), "/var/cache/leakagent"
        command = [str(NEXT), "--run", root]
        outside = Path(root + cache)
        outside.mkdir(parents=True, exist_ok=True)
        pythons += [Python(version, [*command, version], cache, outside, "/src") for version in missing]
    return sorted(pythons, key=lambda python: VERSIONS.index(python.version))


def this_python() -> Python:
    """Return the interpreter that runs this script."""
    return _native(f"{sys.version_info[0]}.{sys.version_info[1]}", sys.executable)


def _native(version: str, path: str) -> Python:
    return Python(version, [path], str(_cache()), _cache(), str(ROOT))


def _candidates(version: str) -> list[str]:
    this = f"{sys.version_info[0]}.{sys.version_info[1]}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    installed = [str(path / "bin" / "python") for path in sorted(pyenv.glob(version + ".*"), reverse=True)]
    on_path = shutil.which(f"python{version}")
    return [*([sys.executable] if version == this else []), *installed, *([on_path] if on_path else [])]


def _answers(candidate: str, version: str) -> bool:
    try:
        code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
        ran = subprocess.run([candidate, "-c", code], check=False, capture_output=True, text=True)
    except OSError:
        return False
    return ran.stdout.strip() == version


# -- environments ----------------------------------------------------------------------------------------------------


def requirements(name: str) -> list[str]:
    """Return what pyproject.toml requires for an environment."""
    pyproject = _pyproject()
    if name == "build":
        return list(pyproject["build-system"]["requires"])
    listed = {**pyproject["project"]["optional-dependencies"], **pyproject["dependency-groups"]}
    found = list(pyproject["project"]["dependencies"])
    for part in ENVIRONMENTS[name]:
        found += _expanded(part, listed)
    return found


def _pyproject() -> dict[str, Any]:
    for name in ("tomllib", "pip._vendor.tomli"):
        with suppress(ImportError):
            found: dict[str, Any] = importlib.import_module(name).loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
            return found
    message = f"could not read pyproject.toml with {sys.executable}: this needs Python 3.11, or 3.10 with pip"
    raise CannotError(message)


def _expanded(part: str, listed: dict[str, list[str]]) -> Iterator[str]:
    for line in listed[part]:
        own = re.fullmatch(r"leakagent\[(.+)\]", line)
        if own:
            yield from _expanded(own[1], listed)
        else:
            yield line


def environment(python: Python, name: str) -> str:
    """Return the folder, below the interpreter's cache, of an environment without leakagent; made if it is not there."""
    answer = [*python.command, "-c", "import sys; print(sys.version, sys.base_prefix)"]
    full = subprocess.run(answer, cwd=ROOT, check=False, capture_output=True, text=True)
    if full.returncode:
        message = f"could not start Python {python.version}: {full.stderr.strip()[-200:]}"
        raise CannotError(message)
    wanted, pinned = requirements(name), constraints(name)
    key = hashlib.sha256("\n".join([full.stdout, *wanted, pinned.read_text(encoding="utf-8")]).encode()).hexdigest()[:16]
    folder = f"{name}-{python.version}-{key}"
    ready = python.outside / folder / ".ready"
    with _locked(python.outside / folder, f"the {name} environment for Python {python.version}"):
        if not ready.exists():
            print(f"-- making the {name} environment for Python {python.version}", flush=True)
            _make(python, folder, ["-c", str(pinned.relative_to(ROOT)), *wanted])
        ready.touch()
    _expire(python.outside)
    return folder


def _make(python: Python, folder: str, wanted: list[str]) -> None:
    python.must("virtual environment", "-m", "venv", "--clear", f"{python.cache}/{folder}")
    python.inside(folder).must("environment", *_PIP, "install", *wanted)


def _cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "leakagent"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _locked(path: Path, what: str) -> Iterator[None]:
    with path.with_name(path.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"-- another run is making {what}: waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _expire(cache: Path) -> None:
    """Remove environments that nobody uses any more, and copies of runs that were killed."""
    for folder in cache.iterdir():
        seconds = KEPT_DAYS.get(folder.name.partition("-")[0], 0) * 86400
        if seconds and folder.is_dir() and _unused(folder) > seconds:
            with _locked(folder, f"{folder.name}"):
                if folder.is_dir() and _unused(folder) > seconds:
                    shutil.rmtree(folder, ignore_errors=True)
            folder.with_name(folder.name + ".lock").unlink(missing_ok=True)


def _unused(folder: Path) -> float:
    ready = folder / ".ready"
    return time.time() - (ready if ready.exists() else folder).stat().st_mtime


@contextmanager
def installed(python: Python, name: str, wheel: Path) -> Iterator[Python]:
    """Copy an environment, install the wheel into the copy, and remove it in the end."""
    source = python.outside / environment(python, name)
    run = Path(tempfile.mkdtemp(prefix="run-", dir=python.outside))
    try:
        shutil.copytree(source, run / name, symlinks=True, copy_function=_link)
        old, new = (f"{python.cache}/{path}".encode() for path in (source.name, f"{run.name}/{name}"))
        for script in (run / name / "bin").iterdir():
            if not script.is_symlink() and old in script.read_bytes():
                # A new file with the copy's interpreter in its first line; the linked one is the environment's own.
                text, mode = script.read_bytes().replace(old, new), script.stat().st_mode
                script.unlink()
                script.write_bytes(text)
                script.chmod(mode)
        shutil.copy(wheel, run)
        copy = python.inside(f"{run.name}/{name}")
        copy.must("installation of the wheel", *_PIP, "install", "--no-deps", f"{python.cache}/{run.name}/{wheel.name}")
        yield copy
    finally:
        shutil.rmtree(run, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def build_wheel(folder: Path) -> Path:
    """Build the wheel into a folder and return its path."""
    python = this_python()
    builder = python.inside(environment(python, "build"))
    builder.must("wheel", *_PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT))
    return next(folder.glob("leakagent-*.whl"))


# -- tests -----------------------------------------------------------------------------------------------------------


class Outcome:
    """How the tests went in one environment.

    Attributes:
        title: Which one.
        text: What was printed, unless it was shown at once.
        counts: Tests by ``passed``, ``failed``, ``error``, ``skipped``.
        problem: Why it is a failure, in one line; empty if it is none.
        unstable: Tests that failed, and passed when they ran again.
        full: Version of the interpreter.

    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.full = ""
        self.text = b""
        self.counts: dict[str, int] = {}
        self.problem = ""
        self.unstable: list[str] = []

    def judge(self, status: int | None, text: str, deadline: float) -> None:
        """Work out how it went from the exit status (None if it did not end) and pytest's last line."""
        ends = re.findall(r"^.*\d (?:passed|failed|error|skipped).* in [\d.]+s.*$", text, re.MULTILINE)
        numbers = re.findall(r"(\d+) (passed|failed|error|skipped)", ends[-1]) if ends else []
        self.counts = {word: int(number) for number, word in numbers}
        if status is None:
            self.problem = f"did not end within {deadline:.0f} s, killed (LEAKAGENT_TEST_DEADLINE)"
        elif status:
            self.problem = f"pytest ended with status {status}"
        elif not self.counts.get("passed"):
            self.problem = "no test passed"
        elif CI and self.counts.get("skipped"):
            self.problem = "skipped tests count as failed ones in CI"

    def failures(self, text: str) -> list[str]:
        """Return the tests that failed, if they are few and nothing else is wrong; what pytest printed names them."""
        names = re.findall(r"^FAILED (\S.*?)(?: - .*)?$", text, re.MULTILINE)
        is_all = self.counts.get("failed") == len(names) and not self.counts.get("error")
        return names if is_all and len(names) <= FEW and self.counts.get("passed") else []

    def judge_again(self, again: Outcome, names: list[str]) -> None:
        """Take back the failure of these tests if every one of them has passed alone."""
        if not again.problem and again.counts.get("passed") == len(names):
            self.counts = {"passed": self.counts["passed"] + len(names)}
            self.problem, self.unstable = "", names


def test(selection: list[str]) -> int:
    """Run the tests in every environment that the selection needs, and return the exit status."""
    return _summary(_outcomes(selection))


def pythons(selection: list[str]) -> int:
    """Run the tests as `test` does; if all is well, write the page of the documentation about the interpreters."""
    outcomes = _outcomes(selection)
    status = _summary(outcomes)
    if not status:
        (ROOT / "docs" / "pythons.md").write_text(pythons_page(outcomes, selection), encoding="utf-8")
    return status


def pythons_page(outcomes: list[Outcome], selection: list[str]) -> str:
    """Return the page about how the tests went in each Python; ``selection`` is empty for all tests."""
    which = f"the tests in {', '.join(f'`{path}`' for path in selection)}" if selection else "all tests"
    lines = [
        "# Every Python",
        "",
        f"Written by `make pythons`; do not edit. On {time.strftime('%Y-%m-%d')} {which} passed on the built wheel in each of these, none was",
        "skipped. The core tests are the same in all of them: event loops of asyncio (from 3.12 on with eager tasks as well), and uvloop where it is there. What",
        "leakagent needs of an interpreter besides its public names stands in `leakagent/shutdown/interpreter.py`: a part whose names this Python",
        "does not have is switched off with one line (`tests/process/test_self_test.py`), and so is leakagent in subinterpreters, in builds without a global",
        "lock, and under gevent and eventlet (`tests/process/test_surroundings.py`).",
        "",
        "| Python | tests | passed | once more, alone |",
        "|---|---|---|---|",
    ]
    for outcome in outcomes:
        name, _, python = outcome.title.partition(", Python ")
        again = ", ".join(f"`{one}`" for one in outcome.unstable)
        lines.append(f"| {outcome.full or python} | {name} | {outcome.counts.get('passed', 0)} | {again or '-'} |")
    return "\n".join(lines) + "\n"


def _outcomes(selection: list[str]) -> list[Outcome]:
    wanted = os.environ.get("LEAKAGENT_TEST_PYTHONS", "").split()
    deadline = _number("LEAKAGENT_TEST_DEADLINE", 2700)
    unknown = [version for version in wanted if version not in VERSIONS]
    pythons = [] if unknown else find_pythons(wanted or list(VERSIONS))
    missing = unknown or [version for version in wanted or VERSIONS if version not in [python.version for python in pythons]]
    # A machine that is set up for it tests all; a fresh one tests what it has, and says what it has not.
    if missing and (wanted or not pythons or (CI and NEXT.exists())):
        message = f"not on this machine, or not supported: Python {', '.join(missing)} (supported: {', '.join(VERSIONS)})"
        raise CannotError(message)
    if missing:
        print(f"-- not on this machine, not tested: Python {', '.join(missing)}", flush=True)
    core = [path for path in selection if not path.startswith(APPLICATION_TESTS)]
    if (not selection or any(path.startswith("tests/otel") for path in selection)) and not _find_collector():
        if selection:
            message = "there is no otelcol on the PATH, which tests/otel need"
            raise CannotError(message)
        print("-- no OpenTelemetry Collector on this machine, not tested: tests/otel", flush=True)
    without = [] if CI or shutil.which("promtool") else ["--ignore=tests/otel/test_promtool.py"]
    if without and not selection:
        print("-- no promtool on this machine (.ci/run says where it comes from), not tested: the alert rules", flush=True)
    here = next((python for python in pythons if python.version == APPS_VERSION), pythons[0])
    plan = []
    for name, paths in APPLICATIONS.items():
        if name == "otel" and not shutil.which("otelcol"):
            continue
        chosen = [path for path in selection if path.startswith(APPLICATION_TESTS) and name in _environments_of(path)]
        plan += [(here, name, chosen or [*paths, *(without if name == "otel" else [])])] if chosen or not selection else []
    plan += [
        (python, "core", core or ["tests", *(f"--ignore={path}" for path in APPLICATION_TESTS)])
        for python in pythons
        if core or not selection
    ]
    # Tests mostly wait: for programs to start, for a grace to end.
    jobs = min(_number("LEAKAGENT_TEST_JOBS", min(4, 2 * (os.cpu_count() or 1))), len(plan))
    with tempfile.TemporaryDirectory(prefix="leakagent-wheel-") as folder:
        wheel = build_wheel(Path(folder))
        pool = ThreadPoolExecutor(jobs)
        try:
            running = [pool.submit(_tested, one, wheel=wheel, deadline=deadline, show=jobs == 1) for one in plan]
            outcomes = [_shown(future.result()) for future in running]
        finally:
            _stopped.set()
            pool.shutdown(cancel_futures=True)
    return outcomes


def _find_collector() -> bool:
    """Put the folder of a Collector on the PATH, and say whether there is one."""
    if STACK.exists():
        with _locked(_cache() / "otel-stack", "the OpenTelemetry Collector"):
            made = subprocess.run([str(STACK)], check=False, stdout=subprocess.PIPE, text=True)
        if made.returncode:
            message = f"could not make the OpenTelemetry Collector ({STACK}: status {made.returncode})"
            raise CannotError(message)
        os.environ["PATH"] = made.stdout.strip() + os.pathsep + os.environ["PATH"]
    return shutil.which("otelcol") is not None


def _environments_of(path: str) -> tuple[str, ...]:
    if path.startswith("tests/otel"):
        return ("otel",)
    if path.startswith(NEW_AND_OLD):
        return "apps", "older"
    return ("older",) if path.startswith("tests/apps/older") else ("apps",)


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdigit() or not int(text):
        message = f"{variable}={text!r} is not valid (a number above 0)"
        raise CannotError(message)
    return int(text)


def _tested(planned: tuple[Python, str, list[str]], *, wheel: Path, deadline: float, show: bool) -> Outcome:
    """Run pytest in a copy of an environment."""
    python, name, paths = planned
    outcome = Outcome(f"{name}, Python {python.version}")
    try:
        with installed(python, name, wheel) as tested:
            print(f"-- tests: {outcome.title}", flush=True)
            # What hangs shows where before it is killed.
            options = ["-q", "-p", "no:cacheprovider", "-o", f"faulthandler_timeout={deadline / 2:.0f}"]
            log = wheel.parent / f"{name}-{python.version}"
            version = [*tested.command, "-c", "import sys; print(sys.version.split()[0])"]
            outcome.full = subprocess.run(version, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True).stdout.strip()
            command = [*tested.command, "-m", "pytest", *options]
            status = watched([*command, *paths], log, deadline, show=show)
            text = log.read_text(encoding="utf-8", errors="replace")
            outcome.judge(status, text, deadline)
            outcome.text = b"" if show else log.read_bytes()
            names = outcome.failures(text) if outcome.problem else []
            if names and not _stopped.is_set():
                print(f"-- once more, alone: {outcome.title}: {', '.join(names)}", flush=True)
                again = Outcome(outcome.title)
                status = watched([*command, *names], log, deadline, show=show)
                again.judge(status, log.read_text(encoding="utf-8", errors="replace"), deadline)
                outcome.text += b"" if show else b"-- once more, alone\n" + log.read_bytes()
                outcome.judge_again(again, names)
    except (CannotError, OSError) as error:
        outcome.problem = str(error)
    return outcome


def watched(command: list[str], log: Path, deadline: float, *, show: bool) -> int | None:
    """Run a command until it ends or its time is over; what it started is gone afterwards.

    Args:
        command: What to run, in the checkout.
        log: File for what it prints.
        deadline: Seconds that it may take.
        show: Print it at once as well.

    Returns:
        Its exit status, or None if it had to be killed.

    """
    # Tests start programs in sessions of their own: a word in their environment tells whose they are.
    mark = secrets.token_hex(8)
    dropped = ("LEAKAGENT", "_LEAKAGENT", "OTEL_", "PYTHONPATH")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    environ.update(_TEST_RUN=mark, PYTHONDONTWRITEBYTECODE="1")
    with log.open("wb") as output, log.open("rb") as text:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        end = time.monotonic() + deadline
        status = None
        try:
            while status is None and time.monotonic() < end and not _stopped.is_set():
                with suppress(subprocess.TimeoutExpired):
                    status = process.wait(0.2)
                if show:
                    _write(text.read())
        finally:
            if status is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            _kill_marked(mark.encode())
            if show:
                _write(text.read())
    return status


def _kill_marked(mark: bytes) -> None:
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environ.read_bytes():
                os.kill(int(environ.parent.name), signal.SIGKILL)


def _write(text: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def _shown(outcome: Outcome) -> Outcome:
    if outcome.text:
        print(f"-- results: {outcome.title}", flush=True)
        _write(outcome.text)
    if outcome.problem:
        print(f"-- {outcome.title}: {outcome.problem}", flush=True)
    return outcome


def _summary(outcomes: list[Outcome]) -> int:
    passed = sum(outcome.counts.get("passed", 0) for outcome in outcomes)
    bad = [outcome for outcome in outcomes if outcome.problem]
    for outcome in outcomes:
        for name in outcome.unstable:
            print(f"-- unstable, failed first and passed alone: {outcome.title}: {name}")
    failed = sum(max(1, outcome.counts.get("failed", 0) + outcome.counts.get("error", 0)) for outcome in bad)
    print(f"-- failed: {'; '.join(outcome.title for outcome in bad)}" if bad else f"-- all well in {len(outcomes)} environments")
    print(f"{passed} passed, {failed} failed")
    return 1 if bad or not passed else 0


# -- the other commands ----------------------------------------------------------------------------------------------


def check(_arguments: list[str]) -> int:
    """Run ruff and mypy."""
    here = this_python()
    python = here.inside(environment(here, "check"))
    return (
        python.run("-m", "ruff", "check", ".") or python.run("-m", "ruff", "format", "--check", ".") or python.run("-m", "mypy")
    )


def demo(arguments: list[str]) -> int:
    """Run the demo program bare and under the agent."""
    with tempfile.TemporaryDirectory(prefix="leakagent-wheel-") as folder, ExitStack() as stack:
        python = stack.enter_context(installed(this_python(), "demo", build_wheel(Path(folder))))
        return python.run("examples/rag/compare.py", *arguments)


def corpus(arguments: list[str]) -> int:
    """Run the corpus, print recall and precision, and write its page of the documentation."""
    return _run_script("tests/corpus/corpus.py", arguments or ["--write", "docs/corpus.md"])


def faults(arguments: list[str]) -> int:
    """Break every function of the agent, one at a time, and write the page of the documentation."""
    return _run_script("tests/faults/everywhere.py", arguments or ["--write", "docs/faults.md"])


def soak(arguments: list[str]) -> int:
    """Put a server under load, and write the page of the documentation."""
    return _run_script("tests/soak/soak.py", ["--write", "docs/soak.md", *arguments])


def fuzz(arguments: list[str]) -> int:
    """Give random bytes to everything that reads bytes from outside."""
    return _run_script("tests/fuzz/fuzz.py", arguments or ["--seconds", "600"], "core")


def downstream(arguments: list[str]) -> int:
    """Run other people's test suites with and without the agent, and write the page of the documentation."""
    pythons = find_pythons([DOWNSTREAM_VERSION])
    if not pythons:
        message = f"not on this machine: Python {DOWNSTREAM_VERSION}"
        raise CannotError(message)
    with tempfile.TemporaryDirectory(prefix="leakagent-wheel-") as folder:
        wanted = arguments or ["--write", "docs/downstream.md"]
        return pythons[0].run("tests/downstream/recipes.py", "--wheel", str(build_wheel(Path(folder))), *wanted)


def bench(arguments: list[str]) -> int:
    """Run benchmarks, all by default."""
    return _measured("all", arguments)


def bench_gate(arguments: list[str]) -> int:
    """Measure what there are targets for, and fail if one is missed."""
    return _measured("gate", arguments)


def _measured(script: str, arguments: list[str]) -> int:
    if not shutil.which("valgrind"):
        message = (
            "there is no valgrind on the PATH, which counts instructions (Debian package valgrind; wrk for the web benchmark)"
        )
        raise CannotError(message)
    return _run_script(f"benchmarks/{script}.py", arguments, "bench")


def otel_demo(arguments: list[str]) -> int:
    """Run the demo with a Collector and a store."""
    if not _find_collector():
        message = "there is no otelcol on the PATH"
        raise CannotError(message)
    return _run_script("deploy/demo.py", arguments, "otel")


def dashboards(arguments: list[str]) -> int:
    """Write the dashboards."""
    return _run_script("deploy/dashboards.py", arguments, "otel")


def _run_script(script: str, arguments: list[str], name: str = "apps") -> int:
    here = next(iter(find_pythons([APPS_VERSION])), this_python())
    with tempfile.TemporaryDirectory(prefix="leakagent-wheel-") as folder, ExitStack() as stack:
        python = stack.enter_context(installed(here, name, build_wheel(Path(folder))))
        return python.run(script, *arguments)


def docs(_arguments: list[str]) -> int:
    """Build the documentation."""
    os.environ["NO_MKDOCS_2_WARNING"] = "1"  # an advertisement of the theme's
    here = this_python()
    python = here.inside(environment(here, "docs"))
    return python.run("-m", "mkdocs", "build", "--strict", "-f", ".mkdocs.yml")


def browser(_arguments: list[str]) -> int:
    """Run a program whose report has something of everything, and open that in a browser."""
    with tempfile.TemporaryDirectory(prefix="leakagent-wheel-") as folder, ExitStack() as stack:
        python = stack.enter_context(installed(this_python(), "core", build_wheel(Path(folder))))
        report = Path(folder, "report.html")
        status = python.run("-m", "leakagent", "--report", f"html:{report}", "examples/report_page.py")
        return status or python.run(".ci/browser.py", str(report), "docs/images")


def panes(_arguments: list[str]) -> int:
    """Run ``leakagent top`` in tmux, and keep what it shows for the documentation."""
    with tempfile.TemporaryDirectory(prefix="leakagent-wheel-") as folder, ExitStack() as stack:
        python = stack.enter_context(installed(this_python(), "apps", build_wheel(Path(folder))))
        return python.run(".ci/panes.py", python.command[0])


def false_alarms(arguments: list[str]) -> int:
    """Run the test suites of other projects under the pytest plugin, and write what was found into docs/."""
    with tempfile.TemporaryDirectory(prefix="leakagent-wheel-") as folder, ExitStack() as stack:
        python = stack.enter_context(installed(this_python(), "core", build_wheel(Path(folder))))
        return python.run("benchmarks/false_alarms.py", python.command[0], *arguments)


def flood(arguments: list[str]) -> int:
    """Measure what a flood of questions costs a program, and write it into docs/."""
    with tempfile.TemporaryDirectory(prefix="leakagent-wheel-") as folder, ExitStack() as stack:
        python = stack.enter_context(installed(this_python(), "core", build_wheel(Path(folder))))
        return python.run("benchmarks/flood.py", "--write", *arguments)


def wheel(_arguments: list[str]) -> int:
    """Build the wheel into dist/."""
    dist = ROOT / "dist"
    for old in dist.glob("leakagent-*.whl"):
        old.unlink()
    print(build_wheel(dist).relative_to(ROOT))
    return 0


def pin(_arguments: list[str]) -> int:
    """Write the constraints: what pip chooses today, in each Python."""
    pythons = find_pythons(list(VERSIONS))
    if len(pythons) < len(VERSIONS):
        message = f"could not pin: that needs every Python of {', '.join(VERSIONS)}"
        raise CannotError(message)
    together = [name for name in [*ENVIRONMENTS, "build"] if name not in APART]
    _pin(
        constraints("core"),
        {python.version: together if python.version == APPS_VERSION else ["core"] for python in pythons},
        pythons,
    )
    for name in APART:
        _pin(constraints(name), {APPS_VERSION: [name]}, pythons)
    return 0


def _pin(path: Path, names: dict[str, list[str]], pythons: list[Python]) -> None:
    found: dict[str, dict[str, str]] = {}
    for python in pythons:
        if python.version not in names:
            continue
        print(f"-- choosing versions for Python {python.version}: {path.name}", flush=True)
        run = Path(tempfile.mkdtemp(prefix="run-", dir=python.outside))
        try:
            _make(python, run.name, sorted({line for name in names[python.version] for line in requirements(name)}))
            freeze = [*python.inside(run.name).command, *_PIP, "freeze"]
            frozen = subprocess.run(freeze, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        finally:
            shutil.rmtree(run, ignore_errors=True)
        for name, _, version in (line.partition("==") for line in frozen.splitlines() if "==" in line):
            found.setdefault(name, {})[python.version] = version
    lines = ["# Written by `python .ci/test.py pin`: what CI installs, so that a new release can't turn a green commit red."]
    for name, versions in sorted(found.items(), key=lambda item: item[0].lower()):
        for version in sorted(set(versions.values())):
            where = " or ".join(f'python_version == "{of}"' for of in versions if versions[of] == version)
            lines.append(f"{name}=={version}" + (f" ; {where}" if len(set(versions.values())) > 1 else ""))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


COMMANDS = {
    "check": check,
    "test": test,
    "pythons": pythons,
    "demo": demo,
    "corpus": corpus,
    "faults": faults,
    "soak": soak,
    "fuzz": fuzz,
    "downstream": downstream,
    "docs": docs,
    "browser": browser,
    "bench": bench,
    "bench-gate": bench_gate,
    "otel-demo": otel_demo,
    "dashboards": dashboards,
    "panes": panes,
    "false-alarms": false_alarms,
    "flood": flood,
    "wheel": wheel,
    "pin": pin,
}


def main() -> int:
    """Run the command that is named."""
    name, *rest = sys.argv[1:] or [""]
    if name not in COMMANDS:
        print(__doc__)
        return 2
    # Ended from outside, it still stops the tests and removes its copies.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # In the background of a shell Ctrl+C is ignored, and programs that tests press it in would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return COMMANDS[name](rest)
    except (CannotError, OSError) as error:
        print(f"-- {name} stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
