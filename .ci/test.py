"""Sets up environments and runs checks, tests and the demo in them.  Standard library only.

    python .ci/test.py check         ruff, ruff format, mypy
    python .ci/test.py test          the core tests in every Python found, the application tests in this one
    python .ci/test.py demo          the demo, bare and under the agent

Environments live outside the tree, in ``$XDG_CACHE_HOME/leakagent/``, one folder per content (interpreter, requirements), and are
used again; the wheel is built and installed anew each time, so that the tests run against what users install.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
CI = os.environ.get("CI") == "true"
NEXT = Path(os.environ.get("LEAKAGENT_PYTHON_NEXT", ROOT.parent / "shared" / "tools" / "python-next"))

#: What the agent needs, what the tests need, and what only the application tests need.
RUNTIME = ["wrapt==2.5.2", "psutil==7.2.2", "opentelemetry-api==1.45.2", "opentelemetry-sdk==1.45.2"]
TESTS = ["pytest>=8.3,<10", "hypothesis>=6.100", "jsonschema>=4.20"]
DEMO = ["chromadb==1.5.9", "lancedb==0.40.0", "llama-index-core==0.14.25"]
APPS = [*DEMO, "uvloop==0.23.0", "streamlit==1.67.0", "fastapi==0.165.0", "uvicorn==0.54.0", "gunicorn==27.0.1", "flask==3.1.3"]
CHECKS = ["ruff==0.17.6", "mypy==2.4.1", "types-psutil", "types-jsonschema", "pytest>=8.3,<10", "hypothesis>=6.100"]


class Python:
    """An interpreter: a command line in front, and the folder as which it sees the checkout."""

    def __init__(self, version: str, command: list[str], cache: str, checkout: str) -> None:
        self.version = version
        self.command = command
        self.cache = cache
        self.checkout = checkout

    def run(self, *arguments: str, **variables: str) -> int:
        """Run it with these arguments and return its status."""
        environ = {**os.environ, **variables}
        return subprocess.run([*self.command, *arguments], cwd=ROOT, env=environ, check=False).returncode


def found_pythons() -> list[Python]:
    """Return the interpreters of this machine, at most one per version."""
    pythons = []
    for version in VERSIONS:
        for candidate in _candidates(version):
            if _answers(candidate, version):
                pythons.append(Python(version, [candidate], str(_cache()), str(ROOT)))
                break
    missing = {version for version in ("3.14", "3.15") if version not in {python.version for python in pythons}}
    if missing and NEXT.exists() and os.name == "posix" and os.geteuid() == 0:
        root = subprocess.run([str(NEXT)], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        command = [str(NEXT), "--run", root]
        pythons += [Python(version, [*command, version], "/var/cache/leakagent", "/src") for version in missing]
    return sorted(pythons, key=lambda python: VERSIONS.index(python.version))


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


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "leakagent"


def environment(python: Python, name: str, requirements: list[str]) -> Python:
    """Return an environment of that interpreter with these requirements, made when it is not there yet."""
    full = subprocess.run(
        [*python.command, "-c", "import sys; print(sys.version, sys.base_prefix)"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    key = hashlib.sha256("\n".join([full, *requirements]).encode()).hexdigest()[:16]
    folder = f"{python.cache}/{name}-{python.version}-{key}"
    inner = Python(python.version, [*python.command[:-1], f"{folder}/bin/python"], python.cache, python.checkout)
    if len(python.command) > 1:
        # The chroot's command takes a version: the environment's own interpreter is started by that one.
        inner = Python(
            python.version, [*python.command, "-c", _TRAMPOLINE, f"{folder}/bin/python"], python.cache, python.checkout
        )
    ready = f"import os, sys; sys.exit(not os.path.exists({folder + '/.ready'!r}))"
    if python.run("-c", ready) == 0:
        return inner
    print(f"-- making {name} environment for Python {python.version}", flush=True)
    made = python.run("-m", "venv", "--clear", folder)
    made = made or inner.run("-m", "pip", "install", "-qq", "--disable-pip-version-check", *requirements)
    made = made or python.run("-c", f"open({folder + '/.ready'!r}, 'w').close()")
    if made:
        sys.exit(f"could not make the {name} environment for Python {python.version}")
    return inner


#: Becomes another program: the first argument, with the others.
_TRAMPOLINE = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"


def build_wheel(folder: Path) -> str:
    """Build the wheel into a folder below the checkout's own and return its name."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-qq",
        "--disable-pip-version-check",
        "--no-deps",
        "-w",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl")).name


def install_wheel(python: Python, wheel: str) -> None:
    """Put the wheel into an environment, in place of the one that is there."""
    arguments = ["-qq", "--disable-pip-version-check", "--no-deps", "--force-reinstall"]
    if python.run("-m", "pip", "install", *arguments, f"{python.checkout}/{wheel}"):
        sys.exit(f"could not install the wheel for Python {python.version}")


def test(selection: list[str]) -> int:
    """Run the tests; returns how many interpreters failed."""
    pythons = found_pythons()
    versions = [python.version for python in pythons]
    missing = [version for version in VERSIONS if version not in versions]
    wanted = os.environ.get("LEAKAGENT_TEST_PYTHONS", "").split()
    if wanted:
        pythons = [python for python in pythons if python.version in wanted]
    elif missing:
        print(f"-- not on this machine, not tested: Python {', '.join(missing)}", flush=True)
        if CI:
            sys.exit("CI needs every supported Python")
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="leakagent-test-") as scratch:
        wheel = f"dist/{build_wheel(dist)}"
        failed, passed = [], 0
        core = [path for path in selection if not path.startswith("tests/apps")]
        for python in pythons if core or not selection else []:
            tested = environment(python, "core", RUNTIME + TESTS)
            install_wheel(tested, wheel)
            paths = core or ["tests", "--ignore=tests/apps"]
            ok, count = _pytest(tested, f"core, Python {python.version}", paths, Path(scratch))
            passed += count
            failed += [] if ok else [f"core {python.version}"]
        if not selection or any(path.startswith("tests/apps") for path in selection):
            apps = [path for path in selection if path.startswith("tests/apps")]
            here = next((python for python in pythons if python.version == "3.11"), pythons[0])
            tested = environment(here, "apps", RUNTIME + TESTS + APPS)
            install_wheel(tested, wheel)
            ok, count = _pytest(tested, f"applications, Python {here.version}", apps or ["tests/apps"], Path(scratch))
            passed += count
            failed += [] if ok else ["applications"]
    print(f"-- failed: {', '.join(failed)}" if failed else f"-- all well in Python {', '.join(p.version for p in pythons)}")
    print(f"{passed} passed, {len(failed)} failed")
    return len(failed)


def _pytest(python: Python, title: str, paths: list[str], scratch: Path) -> tuple[bool, int]:
    print(f"-- tests: {title}", flush=True)
    log = scratch / "log"
    command = [*python.command, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    for name in [name for name in environ if name.startswith(("LEAKAGENT", "OTEL_")) or name == "PYTHONPATH"]:
        del environ[name]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
        )
        for line in process.stdout or ():
            print(line, end="", flush=True)
            file.write(line)
        status = process.wait()
    text = log.read_text(encoding="utf-8")
    found = re.search(r"(\d+) passed", text)
    skipped = re.search(r"(\d+) skipped", text)
    if skipped and CI:
        print(f"-- {skipped.group(0)}: a skipped test counts as a failed one in CI")
    return status == 0 and not (skipped and CI), int(found.group(1)) if found else 0


def this_python() -> Python:
    """Return the interpreter that runs this script."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return Python(version, [sys.executable], str(_cache()), str(ROOT))


def check() -> int:
    """Run ruff and mypy."""
    python = environment(this_python(), "check", RUNTIME + CHECKS)
    return (
        python.run("-m", "ruff", "check", ".") or python.run("-m", "ruff", "format", "--check", ".") or python.run("-m", "mypy")
    )


def demo(arguments: list[str]) -> int:
    """Run the demo program bare and under the agent."""
    python = environment(this_python(), "demo", RUNTIME + DEMO)
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    install_wheel(python, f"dist/{build_wheel(dist)}")
    return python.run("examples/rag/compare.py", *arguments)


def main() -> int:
    """Run the command that is named."""
    command, *rest = sys.argv[1:] or [""]
    if command == "check":
        return check()
    if command == "test":
        return test(rest)
    if command == "demo":
        return demo(rest)
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main())
