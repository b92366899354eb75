"""The status of a program is its own, however it ends, and the report says which."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEAKING = """\
import atexit, os, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(1)
print(pool.submit(pow, 2, 3).result(), flush=True)
{end}
"""

#: How it ends -> code, exit status of the bare program, ``exit`` of the report (None: it can't be written any more).
ENDS: dict[str, tuple[str, int, tuple[int | None, int | None] | None]] = {
    "normal": ("", 0, (0, None)),
    "exception": ("raise KeyError('mine')", 1, (1, None)),
    "no exception class of a program": ("raise GeneratorExit", 1, (1, None)),
    "sys.exit()": ("sys.exit()", 0, (0, None)),
    "sys.exit(7)": ("sys.exit(7)", 7, (7, None)),
    "sys.exit(300)": ("sys.exit(300)", 44, (44, None)),
    "sys.exit(-1)": ("sys.exit(-1)", 255, (255, None)),
    "sys.exit(2 ** 70)": ("sys.exit(2 ** 70)", 255, (255, None)),
    "sys.exit(2 ** 40 + 3)": ("sys.exit(2 ** 40 + 3)", 3, (3, None)),
    "sys.exit(True)": ("sys.exit(True)", 1, (1, None)),
    "sys.exit(text)": ("sys.exit('text')", 1, (1, None)),
    "sys.exit(tuple)": ("sys.exit((1, 2))", 1, (1, None)),
    "exit(5)": ("exit(5)", 5, (5, None)),
    "quit()": ("quit()", 0, (0, None)),
    "sys.exit in a finally": ("try:\n    1 / 0\nfinally:\n    sys.exit(4)", 4, (4, None)),
    "exit of a thread": ("t = threading.Thread(target=sys.exit, args=[5])\nt.start()\nt.join()", 0, (0, None)),
    "exception in a thread": (
        "threading.excepthook = lambda args: None\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()",
        0,
        (0, None),
    ),
    "SIGINT": ("os.kill(os.getpid(), signal.SIGINT)\nsignal.pause()", -2, (None, 2)),
    "exception in an exit handler": ("atexit.register(lambda: 1 / 0)", 0, (0, None)),
    "exit in an exit handler": (
        "def leave():\n    try:\n        sys.exit(5)\n    except SystemExit:\n        print('no way')\natexit.register(leave)",
        0,
        (0, None),
    ),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)\nsignal.pause()", -15, (None, 15)),
    "os._exit": ("os._exit(3)", 3, None),
    "os._exit in an exit handler": ("atexit.register(os._exit, 6)", 6, None),
    "os.abort": ("import resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\nos.abort()", -6, None),
    "exec": ("os.execv('/bin/sh', ['sh', '-c', 'exit 9'])", 9, None),
}


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("way", ["module", "environment"])
def test_the_status_is_kept(
    name: str, way: str, python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path
) -> None:
    code, status, told = ENDS[name]
    app, path = program(LEAKING.format(end=code)), tmp_path / "report.json"
    bare = python(app)
    assert bare.returncode == status, bare
    wanted = {"LEAKAGENT_REPORT": f"json:{path}", **({"LEAKAGENT": "1"} if way == "environment" else {})}
    ran = python(*([] if way == "environment" else ["-m", "leakagent"]), app, env=wanted)
    assert (ran.returncode, ran.stdout) == (bare.returncode, bare.stdout), (bare, ran)
    # An exit handler's address is in the interpreter's message.
    assert _without_addresses(ran.stderr) == _without_addresses(bare.stderr), (bare, ran)
    assert path.exists() == (told is not None), ran
    if told is not None:
        report = json.loads(path.read_text(encoding="utf-8"))
        assert (report["exit"]["status"], report["exit"]["signal"]) == told, report["exit"]
        assert [found["reason"] for found in report["findings"]] == ["not_shut_down"]
        assert report["agent"]["disabled"] == []


def _without_addresses(text: str) -> str:
    return " ".join("0x" if "0x" in word else word for word in text.split())


def test_a_status_that_is_not_known_is_not_told(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    # For a text report alone sys.exit is not watched.
    ran = python(program(LEAKING.format(end="sys.exit(7)")), env={"LEAKAGENT": "1"})
    assert ran.returncode == 7
    assert "1 resource was still open" in ran.stderr
    assert "exit status" not in ran.stderr, ran


def test_an_error_that_a_runner_keeps_is_not_the_end(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    # pytest and the console leave the last error there, and end by sys.exit.
    end = "sys.last_exc = sys.last_value = KeyError('of a test')\nsys.exit(0)"
    ran = python(
        program(LEAKING.format(end=end)), env={"LEAKAGENT": "1", "LEAKAGENT_REPORT": "text", "LEAKAGENT_FAIL_ON_LEAK": "1"}
    )
    assert ran.returncode == 23, ran


@pytest.mark.parametrize("how", ["signal", "terminal"])
def test_ctrl_c_from_outside(how: str, program: Callable[..., Path], interrupted: Callable[..., Any], tmp_path: Path) -> None:
    text = LEAKING.format(end="import time\ntime.sleep(600)")
    path = tmp_path / "report.json"
    app = program(text)
    bare = interrupted([app], group=how == "terminal")
    ran = interrupted(["-m", "leakagent", "--report", f"json:{path}", app], group=how == "terminal")
    assert bare.returncode == ran.returncode == -2
    # Python's own traceback and nothing else; which line it was in depends on the moment.
    for ended in (bare, ran):
        assert ended.stderr.startswith(f'Traceback (most recent call last):\n  File "{app}", line '), ended
        assert ended.stderr.count("File ") == 1, ended
        assert ended.stderr.endswith("KeyboardInterrupt\n"), ended
    assert json.loads(path.read_text(encoding="utf-8"))["exit"] == {"status": None, "signal": 2}
