"""A program that leaks a little all the time is told while it runs; one that works in waves, and fills a cache, is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: A look every 0.25 s: told after 128 looks and a little.
QUICK = {"LEAKAGENT_STALLED_AFTER": "1"}

TEXT = """\
import asyncio, sys, threading

kept = []
told = threading.Event()

class Watch:
    def write(self, text):
        if "keeps growing" in text:
            told.set()
        return sys.__stderr__.write(text)
    def flush(self):
        sys.__stderr__.flush()

async def session():
    await asyncio.sleep(600)

async def short():
    await asyncio.sleep(0.05)

def leak():
    kept.append(asyncio.create_task(session()))  # leaks

async def main():
    cache = []
    for turn in range(2000):
        leak()
        if len(cache) < 50:
            cache.append(asyncio.create_task(session()))  # cache
        await asyncio.gather(*(short() for _ in range(turn % 20)))
        await asyncio.sleep(0.05)
        if told.is_set():
            break
    for task in kept + cache:
        task.cancel()

sys.stderr = Watch()
asyncio.run(main())
"""


def test_a_leak_is_told_while_the_program_runs(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    ran = python("-m", "leakagent", "--report", f"text,json:{report}", program(TEXT), env=QUICK, timeout=300)
    line = next(number for number, text in enumerate(TEXT.splitlines(), 1) if text.endswith("# leaks"))
    assert ran.stderr.count("asyncio task keeps growing\n") == 1, ran
    assert f"   yours    app.py:{line} leak\n" in ran.stderr, ran
    assert "(Mann-Kendall z = " in ran.stderr, ran
    found = json.loads(report.read_text(encoding="utf-8"))["findings"]
    (growing,) = [one for one in found if one["reason"] == "growing"]
    assert (growing["kind"], growing["site"]["line"]) == ("asyncio.task", line), ran
    assert growing["count"] > 10
    assert growing["evidence"][0].startswith("from "), growing
    assert ran.returncode == 0
