"""What other people's test suites have found (`make downstream`): each as a small program that is the same with and without the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: CPython's test_subprocess: the line that is warned of is the program's.
ENCODING_WARNINGS = """\
import subprocess, sys
subprocess.run([sys.executable, "-c", ""], text=True)
subprocess.check_output([sys.executable, "-c", ""], text=True)
subprocess.Popen([sys.executable, "-c", ""], text=True).wait()
"""

#: CPython's test_signal, which looks at the module's functions as pydoc does.
FUNCTIONS_OF_MODULES = """\
import inspect, os, pickle, signal
for name in dir(signal):
    value = getattr(signal, name)
    if inspect.isroutine(value) and not inspect.isbuiltin(value):
        assert value.__module__ == "signal", name
for function in (signal.raise_signal, signal.set_wakeup_fd, os._exit, os.execv):
    assert pickle.loads(pickle.dumps(function)) is function
print("all there")
"""

PROGRAMS = {
    "encoding warnings": (ENCODING_WARNINGS, ("-X", "warn_default_encoding")),
    "functions of modules": (FUNCTIONS_OF_MODULES, ()),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_is_the_same_with_and_without_the_agent(name: str, python: Callable[..., Any], program: Callable[..., Path]) -> None:
    text, options = PROGRAMS[name]
    path = program(text)
    bare = python(*options, path)
    # An exporter that is asked for has more of `os` patched.
    ran = python(*options, path, env={"LEAKAGENT": "1", "OTEL_METRICS_EXPORTER": "console", "LEAKAGENT_OTEL_WAIT": "0.1"})
    assert bare.returncode == 0, bare
    assert (ran.returncode, ran.stdout) == (bare.returncode, bare.stdout), ran  # both together would be cut in the middle
    warned = [[line for line in one.stderr.splitlines() if "Warning" in line] for one in (ran, bare)]
    assert warned[0] == warned[1], (ran, bare)
