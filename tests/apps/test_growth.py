"""A program that leaks a little all the time is told while it runs, with the speed in dump and top and in the metrics.

What works in waves, and what fills a cache, is not told.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: A look every 0.25 s: told after 128 looks and a little.
QUICK = {"LEAKAGENT_STALLED_AFTER": "1", "OTEL_METRICS_EXPORTER": "console"}

TEXT = """\
import asyncio, os, signal, subprocess, sys, threading

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

def ask(*words):
    command = [sys.executable, "-m", "leakagent", *words]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout

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
    with open("dump.json", "w") as file:
        file.write(await asyncio.to_thread(ask, "dump", str(os.getpid())))
    with open("top.txt", "w") as file:
        file.write(await asyncio.to_thread(ask, "top", "--once"))
    os.kill(os.getpid(), signal.SIGTERM)  # what is alive then is what is told: nobody looks any more
    await asyncio.sleep(600)

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
    assert ran.returncode == -15
    dump = json.loads((tmp_path / "dump.json").read_text(encoding="utf-8"))
    assert [(one["reason"], one["site"]["line"]) for one in dump["findings"] if one["reason"] == "growing"] == [("growing", line)]
    first, *others = dump["growth"]
    assert (first["growing"], first["kind"], first["site"]["line"]) == (True, "asyncio.task", line), dump["growth"]
    assert first["live"] > first["was"]
    assert first["per_minute"] > 0
    assert not any(one["growing"] for one in others)
    top = (tmp_path / "top.txt").read_text(encoding="utf-8")
    assert f"keeps growing  yours  app.py:{line} leak\n" in top, top
    assert " a minute\n" in top, top
    assert _counted(ran.stderr) == {("growing", "asyncio.task", "app.leak"): growing["count"]}, ran


def _counted(text: str) -> dict[tuple[str, str, str], int]:
    """Return the last value of ``leakagent.findings`` for the reason, by reason, kind and function, of what the console exporter has printed."""
    found: dict[tuple[str, str, str], int] = {}
    decoder = json.JSONDecoder()
    at = text.find('{\n    "resource_metrics"')
    while at >= 0:
        document, end = decoder.raw_decode(text, at)
        for resource in document["resource_metrics"]:
            for scope in resource["scope_metrics"]:
                for metric in scope["metrics"]:
                    if metric["name"] == "leakagent.findings":
                        for point in metric["data"]["data_points"]:
                            about = point["attributes"]
                            key = about["leakagent.finding.reason"], about["leakagent.resource.kind"], about["code.function.name"]
                            if key[0] == "growing":
                                found[key] = point["value"]
        at = text.find('{\n    "resource_metrics"', end)
    return found
