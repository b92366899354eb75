"""``leakagent reap``: list what dead programs have left behind, and end what is proven to be theirs."""

from __future__ import annotations

import json
import sys
import time

from leakagent.processes import ledger, reap
from leakagent.report.words import duration, number, safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from leakagent.processes.reap import Orphan

USAGE = "leakagent reap [--clean] [--json] [--older-than SECONDS] [--every SECONDS] [PID...]"

_ENDED = ("terminated", "killed", "gone")
_MEGABYTE = 1 << 20


class _Wishes:
    """What the command line asks for."""

    def __init__(self, words: list[str]) -> None:
        self.clean = self.json = False
        self.older_than = 0.0
        self.every: float | None = None
        self.pids: list[int] = []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "--clean":
                self.clean = True
            elif word == "--json":
                self.json = True
            elif word in {"--older-than", "--every"}:
                seconds = _seconds(word, rest)
                if word == "--every":
                    self.every = seconds
                else:
                    self.older_than = seconds
            elif word.isascii() and word.isdecimal():
                self.pids.append(int(word))
            else:
                _fail(f"reap has no option {word}: {USAGE}")
        if self.pids and not self.clean:
            _fail("a PID is named to be ended: leakagent reap --clean PID...")


def main(words: list[str]) -> None:
    """List or end orphans; status 1 if one that should be ended is still there, 2 for wrong usage."""
    wishes = _Wishes(words)
    if wishes.every is None:
        raise SystemExit(_once(wishes, quiet=False))
    try:
        while True:
            _once(wishes, quiet=True)
            time.sleep(wishes.every)
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def _once(wishes: _Wishes, *, quiet: bool) -> int:
    if wishes.clean:
        found = reap.clean(wishes.older_than, wishes.pids)
    else:
        found = reap.find(wishes.older_than)
        reap.measure(found)
        ledger.sweep()
    missing = [pid for pid in wishes.pids if pid not in {orphan.pid for orphan in found}]
    for pid in missing:
        sys.stderr.write(f"leakagent: {pid} is not left over from a program that is gone, and is left alone\n")
    if wishes.json:
        print(json.dumps(_as_dict(found, clean=wishes.clean)), flush=True)  # noqa: T201 - the command's output
    elif found or not quiet:
        print("\n".join(_lines(found, clean=wishes.clean)), flush=True)  # noqa: T201
    wanted = [orphan for orphan in found if (orphan.pid in wishes.pids if wishes.pids else orphan.proven)]
    return int(bool(missing) or (wishes.clean and any(orphan.action not in _ENDED for orphan in wanted)))


def _as_dict(found: list[Orphan], *, clean: bool) -> dict[str, object]:
    return {
        "schema": "leakagent.reap/1",
        "clean": clean,
        "orphans": [orphan.as_dict() for orphan in found if orphan.proven],
        "not_proven": [orphan.as_dict() for orphan in found if not orphan.proven],
        "freed_uss_bytes": _memory([orphan for orphan in found if orphan.action in _ENDED]),
    }


def _memory(orphans: list[Orphan]) -> int:
    return sum(orphan.memory or 0 for orphan in orphans)


def _lines(found: list[Orphan], *, clean: bool) -> list[str]:
    proven = [orphan for orphan in found if orphan.proven]
    others = [orphan for orphan in found if not orphan.proven]
    if not found:
        return ["leakagent: no process is left over"]
    lines = [f"leakagent: {number(len(proven), 'process', 'processes')} left over, {_megabytes(_memory(proven))} (USS)"]
    for orphan in proven:
        lines += _entry(orphan)
    if others:
        lines.append(f"not proven ({len(others)}), ended only if the pid is named:")
        for orphan in others:
            lines += _entry(orphan)
    if clean:
        ended = [orphan for orphan in found if orphan.action in _ENDED]
        lines.append(f"ended {len(ended)}, {_megabytes(_memory(ended))} given back")
    elif proven:
        lines.append("end them: leakagent reap --clean")
    return lines


def _entry(orphan: Orphan) -> list[str]:
    what = " ".join(filter(None, (orphan.kind, safe(orphan.name, 60))))
    done = "" if orphan.action == "none" else f" · {orphan.action}"
    lines = [f"  {orphan.pid:>8}  {duration(orphan.age):>10}  {_megabytes(orphan.memory or 0):>9}  {what}{done}"]
    if orphan.site:
        lines.append(f"            started at {safe(orphan.site)}")
    if orphan.starter:
        lines.append(f"            by {orphan.starter}, which is gone: {safe(orphan.command, 120)}")
    elif orphan.command:
        lines.append(f"            {safe(orphan.command, 120)}")
    if orphan.why:
        lines.append(f"            {orphan.why}")
    return lines


def _megabytes(size: int) -> str:
    return f"{size / _MEGABYTE:.1f} MB"


def _seconds(option: str, rest: list[str]) -> float:
    text = rest.pop(0) if rest else ""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9 or (option == "--every" and not value):  # noqa: PLR2004 - NaN and infinity fail this too
        _fail(f"{option} needs a number of seconds, not {text!r}")
    return value


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"leakagent: {message}\n")
    raise SystemExit(2)
