"""Gives random bytes to everything of leakagent that reads bytes from outside: no exception but the documented one, and one line for it.

    python tests/fuzz/fuzz.py [--seconds 600] [--seed N] [TARGET...]     (make fuzz, make fuzz SECONDS=60)

Each input is a valid one with some changes: bytes flipped, pieces cut out, doubled and exchanged, nasty tokens put in, or one value of
its tree exchanged for another.  All follows from the seed, which is printed with what failed: the same seed gives the same input.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import os
import random
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from leakagent import config
from leakagent.cli import report as report_command
from leakagent.core.findings import ACTIONS, REASONS, Finding, Process, Report, StageReceipt
from leakagent.core.sites import Site
from leakagent.live import client, protocol
from leakagent.live.server import Live
from leakagent.processes import family, identity, ledger
from leakagent.report import baseline, compare, github, html, json_report, markdown, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

#: Put in at any place.
_TOKENS = [
    b"",
    b"\0",
    b"\n",
    b"\r",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b'"',
    b"'",
    b"\\",
    b"\\ud800",
    b"{",
    b"}",
    b"[" * 2_000,
    b"{'a':" * 500,
    b"(" * 300,
    b"-" * 5_000,
    b"1e999",
    b"NaN",
    b"-Infinity",
    b"9" * 400,
    b"0x",
    b"1_0",
    b"null",
    b"None",
    b"True",
    b"{[]: 1}",
    b"{{}}",
    b"=",
    b"#",
    b"''" * 10,
    b"\x1b[2J",
    "\u202e\u2028".encode(),
]
#: Take the place of a value of the tree.
_VALUES = [
    None, True, False, 0, 1, -1, 10**30, -(10**30), 10**400, 0.5, 1e300, float("nan"), float("inf"), "", "x", "\n", "\0", "\x1b[2J", "\ud800", "a" * 5_000,
    "2026-01-31T12:00:00.000Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", [], {}, [[]], [None], {"": None}, [1, "x"], {"pid": 1},
]  # fmt: skip


def mutated(chance: random.Random, seeds: list[bytes]) -> bytes:
    """Return one of the seeds with some changes."""
    data = chance.choice(seeds)
    if chance.random() < 0.5:
        data = _tree_mutated(chance, data)
    for _ in range(chance.choice([0, 0, 1, 1, 2, 4])):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice([1, 1, 4, 30, 1000]))
        how = chance.randrange(6)
        if how == 0:
            data = data[:at] + chance.choice(_TOKENS) + data[at:]
        elif how == 1:
            data = data[:at] + data[to:]
        elif how == 2:
            data = data[:at] + data[at:to] * chance.choice([2, 3, 50]) + data[to:]
        elif how == 3:
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        elif how == 4:
            data = data[:at]
        else:
            other = chance.choice(seeds)
            data = data[:at] + other[chance.randrange(len(other) + 1) :]
    return data


def _tree_mutated(chance: random.Random, data: bytes) -> bytes:
    """Exchange values in a tree, if the bytes are JSON or a Python literal in each line."""
    for load, dump in ((json.loads, json.dumps), (ast.literal_eval, ascii)):
        try:
            lines = [data] if load is json.loads else data.splitlines()
            trees = [load(line.decode()) for line in lines]
        except (ValueError, SyntaxError):
            continue
        for _ in range(chance.randint(1, 4)):
            number = chance.randrange(len(trees))
            trees[number] = _exchanged(chance, trees[number])
        return b"\n".join(dump(tree).encode("utf-8", "surrogatepass") for tree in trees)
    return data


def _exchanged(chance: random.Random, tree: Any) -> Any:
    if isinstance(tree, dict) and tree and chance.random() < 0.9:
        name = chance.choice(list(tree))
        rest = {key: value for key, value in tree.items() if key != name}
        return rest if chance.random() < 0.1 else {**tree, name: _exchanged(chance, tree[name])}
    if isinstance(tree, list) and tree and chance.random() < 0.9:
        place = chance.randrange(len(tree))
        return [*tree[:place], _exchanged(chance, tree[place]), *tree[place + 1 :]]
    return chance.choice(_VALUES)


def _one_line(words: str) -> None:
    assert words.endswith("\n"), words
    assert words.count("\n") == 1, words
    assert len(words) < 2_000, words


# -- the targets ---------------------------------------------------------------------------------------------------------


def a_report() -> Report:
    """Return a report with something of everything."""
    report = Report("app.py", ["app.py", "--verbose"], 100, 1)
    report.status, report.started, report.ended = 0, 1.7e9, 1.7e9 + 60
    for number, reason in enumerate(REASONS):
        site = Site(f"f{number}", f"/app/a{number}.py", number)
        report.findings.append(
            Finding(
                reason,
                "thread_pool",
                site,
                count=number + 1,
                names=["a"],
                evidence=["b"],
                action=ACTIONS[number % len(ACTIONS)],
                pids=[1],
            )
        )
    report.receipt = [StageReceipt("children", 0.5, 1, 1, 2.0)]
    report.totals = {"thread": {"created": 3, "finished": 2, "live": 1, "peak": 2}}
    report.agent = {"seconds": 0.1, "bytes": 100, "disabled": ["threads: ValueError: x"]}
    report.timeline = [(1.7e9, 1000, {"thread": 1}), (1.7e9 + 60, 2000, {"thread": 2})]
    report.processes = [Process(101, 100, "process", "child", place="a.py:3 f", runs=True)]
    return report


def read_report(data: bytes, folder: Path) -> None:
    """``leakagent report FILE`` in every format, and of two reports."""
    path = folder / "report.json"
    path.write_bytes(data)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            report = report_command.read(str(path))
    except SystemExit as ended:
        if ended.code != 1:
            raise
        _one_line(said.getvalue())
        return
    text.render(report, width=80, color=True, unicode=True).encode()
    text.render(report, width=20, color=False, unicode=False).encode("ascii")
    for render in (html.render, markdown.render, github.render):
        render(report).encode()
    again = json_report.from_dict(json.loads(json_report.dumps(report)))
    assert json_report.dumps(json_report.from_dict(json_report.to_dict(again))) == json_report.dumps(again)
    for changes in (compare.Changes(report, again), compare.Changes(again, a_report())):
        changes.as_text().encode("ascii")
        json.loads(changes.as_json())


def read_childs_report(data: bytes, _folder: Path) -> None:
    """What a child has handed over, read in the user's program."""
    words = data.decode("utf-8", "replace")
    json_report.processes_of(words)
    with contextlib.suppress(ValueError):
        json_report.loads(words)


def read_baseline(data: bytes, folder: Path) -> None:
    """``--baseline FILE``."""
    path = folder / "baseline.json"
    path.write_bytes(data)
    try:
        found = baseline.read(str(path))
    except (OSError, ValueError) as error:
        _one_line(baseline.problem(str(path), error) + "\n")
    else:
        assert all(isinstance(one, str) and one for one in found)


def read_ledger(data: bytes, folder: Path) -> None:
    """A file of the ledger: read at the end of programs, and by ``leakagent reap``, which ends processes by it."""
    here = identity.place()
    path = folder / f"ledger-4194000-17-{here}.log"
    path.write_bytes(data)
    path.chmod(0o600)
    page = ledger.read(str(path))
    if page is None:
        return
    assert isinstance(page.starter_is_gone, bool)
    for entry in page.entries:
        assert entry["pid"] > 1
        identity.is_running(entry["pid"], entry["start"])
        identity.is_gone(entry["pid"], entry["start"])


def answer_question(data: bytes, _folder: Path) -> None:
    """The live socket of a program."""
    live = Live()
    live.answers = {"status": lambda: {"pid": 1}}
    answer = live._answer_to(data)
    assert set(answer) in ({"answer"}, {"error"}), answer
    json.dumps(answer, allow_nan=False).encode()


def take_answer(data: bytes, _folder: Path) -> None:
    """What ``leakagent ps``, ``why``, ``dump`` and ``top`` are answered."""
    original = client._talk
    client._talk = lambda *_: data
    try:
        json.dumps(client._exchange("name", 1, "status", 1.0))
    except client.NoAnswerError as error:
        _one_line(f"leakagent: {error}\n")
    finally:
        client._talk = original


def read_settings(data: bytes, folder: Path) -> None:
    """``[tool.leakagent]`` of a TOML file."""
    path = folder / "pyproject.toml"
    path.write_bytes(data)
    _check(*config.load({"LEAKAGENT": "1", "LEAKAGENT_CONFIG": str(path)}))


def read_environment(data: bytes, _folder: Path) -> None:
    """Every variable at once, each with a piece of the bytes."""
    pieces = data.replace(b"\0", b"").split(b"\n")
    names = ["LEAKAGENT", "LEAKAGENT_CONFIG", *map(config.variable, config.OPTIONS), config.ROOT_VARIABLE]
    environ = {name: os.fsdecode(pieces[number % len(pieces)]) for number, name in enumerate(names)}
    _check(*config.load(environ))
    config.root_of(environ)


def _check(settings: config.Settings, errors: list[str]) -> None:
    assert all(hasattr(settings, name) for name in config.Settings.__slots__)
    for error in errors:
        _one_line(f"leakagent: {error}\n"[:1_999].rstrip("\n") + "\n")
        error.encode("utf-8", "backslashreplace")


def take_spool(data: bytes, folder: Path) -> None:
    """Names and contents of files in the folder in which children hand over their reports."""
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    assert family.hand_over({config.ROOT_VARIABLE: config.root_marker()}, "{}")
    (spool,) = (folder / "leakagent").glob("spool-*")
    name = data[:40].replace(b"/", b"").replace(b"\0", b"") or b"x"
    with contextlib.suppress(OSError):  # a name that the file system refuses
        (spool / os.fsdecode(name + b".json")).write_bytes(data)
    for words in family.take_over(config.root_marker()):
        json_report.processes_of(words)
    for left in spool.iterdir() if spool.exists() else ():
        left.unlink()


def read_names(data: bytes, folder: Path) -> None:
    """Names of files in the runtime folder, where sockets, ledgers and spools of dead programs are looked for."""
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    runtime = Path(family.runtime_folder(create=True))
    for name in data.replace(b"/", b"").replace(b"\0", b"").split(b"\n")[:5]:
        with contextlib.suppress(OSError):
            (runtime / os.fsdecode(name[:200] or b"x")).write_bytes(b"")
    protocol.sockets()
    ledger.pages()
    family.sweep()
    ledger.sweep()
    for path in runtime.iterdir():
        path.unlink()


def _json(*values: object) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


def targets() -> dict[str, tuple[list[bytes], Callable[[bytes, Path], None]]]:
    """Return name -> valid inputs, and what reads them."""
    here = identity.place()
    head = {"format": 1, "place": here, "pid": 4194000, "start": "17", "session": 1, "root": "", "command": ["python", "app.py"]}
    entry = {"pid": 4194001, "start": "18", "kind": "process", "name": "x", "site": "a.py:3 f", "since": 1.7e9}
    report = json_report.dumps(a_report()).encode()
    toml = b'[project]\nname = "x"\n[tool.leakagent]\nbudget = 5\nfail-on-leak = true\nignore = ["thread", "a.py:3"]\nreport = "json:x"\n'
    values = b"1\n\n5.5\nsite\ntext,json:a.json\n1,thread\nglobal\nend\n12:34\noff\n\xc3\xa4\n"
    names = "\n".join(
        [
            protocol.name_of(4194000, "17"),
            f"ledger-4194000-17-{here}.log",
            f"spool-4194000-17-{here}",
            "live--.sock",
            "spool-",
            "ledger-.log",
        ]
    ).encode()
    return {
        "report": ([report], read_report),
        "child's report": ([report], read_childs_report),
        "spool": ([report, b"{}"], take_spool),
        "baseline": ([baseline.dumps(a_report().findings).encode()], read_baseline),
        "ledger": (["\n".join(map(ascii, [head, entry, entry])).encode() + b"\n"], read_ledger),
        "runtime folder": ([names], read_names),
        "question": (_json({"version": 1, "ask": "status"}, {"version": 1, "ask": "no such word"}), answer_question),
        "answer": (_json({"version": 1, "answer": {"pid": 1, "live": {"thread": 1}}}, {"version": 1, "error": "x"}), take_answer),
        "settings": ([toml, b"tool = 1 # tool.leakagent\n", b"[tool]\nleakagent = 1 # tool.leakagent\n"], read_settings),
        "environment": ([values, toml], read_environment),
    }


# -- running them --------------------------------------------------------------------------------------------------------


def inputs(name: str, seed: int, count: int) -> Iterator[tuple[int, bytes]]:
    """Return so many inputs for a target, each with its own seed."""
    seeds = targets()[name][0]
    for number in range(seed, seed + count):
        yield number, mutated(random.Random(f"{name} {number}"), seeds)


def run(name: str, seed: int, count: int) -> str:
    """Give so many inputs to a target, from a seed on; returns what failed first, or an empty text."""
    read = targets()[name][1]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    with tempfile.TemporaryDirectory(prefix="leakagent-fuzz-") as folder, warnings.catch_warnings():
        # In the program of a user they would be printed.
        warnings.simplefilter("error")
        try:
            for number, data in inputs(name, seed, count):
                try:
                    read(data, Path(folder))
                except Exception:
                    return f"{name}, seed {number}: {data[:300]!r} ({len(data)} bytes)\n{traceback.format_exc()}"
        finally:
            if runtime is None:
                os.environ.pop("XDG_RUNTIME_DIR", None)
            else:
                os.environ["XDG_RUNTIME_DIR"] = runtime
    return ""


def main() -> int:
    """Run all targets in turns until the time is over; the status is 1 if one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--seed", type=int, help="the first seed (by default another one each time)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(targets()))
    given = parser.parse_args()
    begin = seed = random.SystemRandom().randrange(10**9) if given.seed is None else given.seed
    end = time.monotonic() + given.seconds
    names = given.targets or list(targets())
    failed: dict[str, str] = {}
    while time.monotonic() < end and len(failed) < len(names):
        for name in names:
            if name not in failed and (what := run(name, seed, 100)):
                failed[name] = what
        seed += 100
    for what in failed.values():
        print(what)
    print(f"{seed - begin} inputs for each of {len(names)} targets, from seed {begin} on: {len(failed) or 'none'} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
