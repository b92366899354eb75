"""``leakagent attach PID``: start the agent in a program that runs already, and take up what it has made so far.

The interpreter itself does it (`sys.remote_exec`, PEP 768, 3.14 and newer): the main thread of the other process runs a script between two
steps of its own.  So both must be the same minor version, and a process that sits in a system call runs it when it comes back from
there.  The script lies in a folder that only this user can enter, and the answer is written beside it.  Where leakagent is not
installed in the other process, it is loaded from here, together with wrapt and psutil and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time

from leakagent import config
from leakagent.live import protocol
from leakagent.processes.identity import look
from leakagent.report.words import kind_name, number, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_USAGE = "usage: leakagent attach PID [--wait SECONDS] [OPTIONS of run]"

#: Seconds that the other process gets to come to a line of Python.
WAIT = 10.0

#: Seconds that its socket gets to appear.
_SOCKET = 3.0

_OLDEST = (3, 14)

#: What the other process runs.  Nothing of it stays there: its names live in a namespace of their own.
_SCRIPT = """\
def run():
    import json, os, sys
    from importlib.machinery import PathFinder

    class Borrowed:
        def __init__(self, folders):
            self.folders = folders

        def find_spec(self, name, path=None, target=None):
            folder = self.folders.get(name)
            return None if folder is None else PathFinder.find_spec(name, [folder])

    try:
        is_borrowed = "leakagent" not in sys.modules and PathFinder.find_spec("leakagent") is None
        if is_borrowed:
            sys.meta_path.append(Borrowed({folders!r}))
        from leakagent.attached import attach
        answer = attach({options!r}, is_borrowed=is_borrowed)
    except BaseException as error:
        answer = {{"error": f"{{type(error).__name__}}: {{error}}"}}
    with open({answer!r} + ".new", "w") as file:
        json.dump(answer, file)
    os.replace({answer!r} + ".new", {answer!r})

run()
"""

#: What it runs when nobody waits for it any more.
_NOTHING = "import shutil\nshutil.rmtree({folder!r}, ignore_errors=True)\n"


def main(words: list[str]) -> None:
    """Attach; status 1 if that can't be done, 2 for wrong usage."""
    pid, wait, options = _arguments(words)
    _check(pid)
    folder = tempfile.mkdtemp(prefix="leakagent-attach-")
    script = os.path.join(folder, "script.py")
    kept = False
    try:
        answer = os.path.join(folder, "answer.json")
        _write(script, _SCRIPT.format(folders=_folders(), options=options, answer=answer))
        _check_that_it_sees(pid, script)
        _inject(pid, script)
        kept = True
        found = _answer(pid, answer, wait)
        kept = False
    finally:
        if kept:
            _write(script, _NOTHING.format(folder=folder))
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if "error" in found:
        _fail(f"not attached to process {pid}: {safe(str(found['error']), 300)}")
    if found["live"]:
        _await_socket(pid)
    adopted = ", ".join(_counted(kind, count) for kind, count in found["adopted"].items()) or "nothing that was open"
    print(f"leakagent: attached to {safe(str(found['program']), 80)} (process {pid}), which has {adopted}")  # noqa: T201 - the output


def _await_socket(pid: int) -> None:
    """Let ``leakagent why PID`` work right after this command; where the folders of the two differ, it never will."""
    end = time.monotonic() + _SOCKET
    while _exists(pid) and time.monotonic() < end and all(other != pid for other, _ in protocol.sockets()):
        time.sleep(0.02)


def _counted(kind: str, count: int) -> str:
    name = kind_name(kind)
    return number(count, name) if count == 1 or not name.endswith("s") else f"{count} {name}es"


def _arguments(words: list[str]) -> tuple[int, float, dict[str, str]]:
    pids: list[str] = []
    wait, options = WAIT, {}
    rest = list(words)
    while rest:
        word, equals, value = rest.pop(0).partition("=")
        if not word.startswith("-"):
            pids.append(word)
            continue
        name = word[2:].replace("-", "_")
        if word == "--fail-on-leak" and not equals:
            value = "1"
        elif name in {*config.OPTIONS, "config", "wait"} and not equals:
            if not rest:
                _fail(f"{word} needs a value", 2)
            value = rest.pop(0)
        elif name not in {*config.OPTIONS, "config", "wait"}:
            _fail(f"attach has no option {word}; {_USAGE}", 2)
        if name == "wait":
            wait = _seconds(value)
        else:
            options[config.variable(name)] = os.path.abspath(value) if name == "config" else value
    if len(pids) != 1 or not (pids[0].isascii() and pids[0].isdecimal() and len(pids[0]) < 20):  # noqa: PLR2004 - no pid is longer
        _fail(_USAGE, 2)
    _, errors = config.load({**options, "LEAKAGENT": "1"})
    if errors:
        _fail(errors[0], 2)
    return int(pids[0]), wait, options


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e9:  # noqa: PLR2004 - not infinite, not a number
        _fail(f"--wait {text!r} is not valid (a number of seconds)", 2)
    return found


def _check(pid: int) -> None:
    """Say what can be said before the other process is touched."""
    if not hasattr(sys, "remote_exec"):
        here = ".".join(map(str, sys.version_info[:2]))
        _fail(f"attach needs Python {_OLDEST[0]}.{_OLDEST[1]} or newer, here and in the process; this is {here}")
    if pid == os.getpid():
        _fail("attach can't attach to itself")
    seen = look(pid)
    if (seen is not None and not seen.runs) or not _exists(pid):
        _fail(f"there is no process {pid}")
    owner = _owner(pid)
    if owner != os.getuid():
        _fail(f"process {pid} belongs to another user (uid {owner}): only that user can attach to it")
    if any(other == pid for other, _ in protocol.sockets()):
        _fail(f"not attached to process {pid}: the agent is active there already")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _owner(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:  # no /proc: the system's own answer has to do
        return os.getuid()


def _check_that_it_sees(pid: int, path: str) -> None:
    if not os.path.isdir("/proc/self"):
        return
    try:
        os.stat(f"/proc/{pid}/root{path}")
    except PermissionError:
        _fail(_not_permitted(pid))
    except OSError:
        _fail(f"process {pid} has file systems of its own (a container): run leakagent in there")


def _not_permitted(pid: int) -> str:
    return f"this user may not look into process {pid} (ptrace: kernel.yama.ptrace_scope, or a container's policy)"


def _inject(pid: int, script: str) -> None:
    attach: Callable[[int, str], None] = sys.remote_exec  # type: ignore[attr-defined]
    try:
        attach(pid, script)
    except PermissionError:
        _fail(_not_permitted(pid))
    except ProcessLookupError:
        _fail(f"there is no process {pid}")
    except (RuntimeError, OSError) as error:
        _fail(_refusal(pid, str(error)))


def _refusal(pid: int, text: str) -> str:
    """Say in the user's words what the interpreter says (``Python/remote_debugging.c``)."""
    here = ".".join(map(str, sys.version_info[:2]))
    program = _program(pid)
    if "not enabled" in text:
        return f"process {pid} does not allow it: it runs with PYTHON_DISABLE_REMOTE_DEBUG or -X disable-remote-debug"
    if "Can't send commands from" in text:
        other = text.partition("to a Python ")[2].partition(" ")[0]
        return f"process {pid} runs Python {other}, this is {here}: use that one, {program} -m leakagent attach {pid}"
    if "address lookup failed" in text:
        return f"process {pid} ({program}) is no Python that can be attached to: {here} is needed, the version that runs this"
    return f"process {pid} can't be attached to: {text}"


def _program(pid: int) -> str:
    try:
        return safe(os.readlink(f"/proc/{pid}/exe"), 200)
    except OSError:
        return "its program"


def _answer(pid: int, path: str, wait: float) -> dict[str, Any]:
    end = time.monotonic() + wait
    while not os.path.exists(path):
        if not _exists(pid):
            _fail(f"process {pid} has ended")
        if time.monotonic() >= end:
            where = "it waits in a system call" if _is_asleep(pid) else "it is busy outside of Python code"
            _fail(f"not attached to process {pid}: {where}, and did not come back in {wait:g} s; --wait SECONDS waits longer")
        time.sleep(0.02)
    with open(path, encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


def _is_asleep(pid: int) -> bool:
    seen = look(pid)
    return seen is not None and seen.state in {"S", "D"}


def _folders() -> dict[str, str]:
    """Return where the packages are found that the agent can't do without."""
    from importlib.util import find_spec

    found = {}
    for name in ("leakagent", "wrapt", "psutil"):
        spec = find_spec(name)
        if spec is not None and spec.origin:
            found[name] = os.path.dirname(os.path.dirname(os.path.abspath(spec.origin)))
    return found


def _write(path: str, text: str) -> None:
    # In one step: the other process may be reading it.
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)


def _fail(message: str, status: int = 1) -> NoReturn:
    sys.stderr.write(f"leakagent: {message}\n")
    raise SystemExit(status)
