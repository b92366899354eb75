"""Collections and signals in the middle of an export: nothing hangs, nothing is lost from the counts."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from leakagent.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STORM = """
import gc, itertools, random, signal, weakref
from concurrent.futures import ThreadPoolExecutor
from pieces import wait_until

# Counted by one call each: finalizers run in several threads.
made, begun, seen = itertools.count(), itertools.count(), itertools.count()
handled = 0


def make():
    next(made)
    pool = ThreadPoolExecutor(1)
    pool.shutdown()


class Node:
    def __init__(self):
        self.me = self
        weakref.finalize(self, finalized)


def finalized():
    if next(begun) % 10 == 0:
        make()
    next(seen)


def on_alarm(*_):
    global handled
    handled += 1
    make()


signal.signal(signal.SIGALRM, on_alarm)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
chance = random.Random(7)
for number in range(100_000):
    if number % 500 == 0:
        gc.set_threshold(chance.randint(50, 1000))
    Node()
signal.setitimer(signal.ITIMER_REAL, 0)
wait_until(lambda: gc.collect() >= 0 and "(100000)" in repr(seen))  # another thread may be at it
print(next(seen), handled > 0, next(made))
"""


def test_finalizers_and_signals(protocol: str, service: Any) -> None:
    ran = service.run(STORM, env={"OTEL_METRIC_EXPORT_INTERVAL": "5"})
    seen, handled, made = ran.stdout.split()
    assert (seen, handled) == ("100000", "True"), ran
    assert ran.stderr == "", ran
    found = service.received()
    assert found.points(names.RESOURCE_CREATED)["thread_pool",] == int(made)
    assert found.points(names.RESOURCE_FINISHED)["thread_pool",] == int(made)


SITES = """
import sys
from concurrent.futures import ThreadPoolExecutor

text = "\\n".join(f"def small{number}():\\n    return ThreadPoolExecutor(1)" for number in range(10_000))
text += "\\ndef late_and_big():\\n    return ThreadPoolExecutor(1)\\n"
space = {"ThreadPoolExecutor": ThreadPoolExecutor}
exec(compile(text, __file__, "exec"), space)
kept = [space[f"small{number}"]() for number in range(10_000)]
kept += [space["late_and_big"]() for _ in range(50)]
"""


def test_ten_thousand_places_are_few_series_and_the_biggest_is_named(service: Any) -> None:
    service.run(SITES, env={"LEAKAGENT_REPORT": "off"})
    found = service.received()
    for name, key in (
        (names.RESOURCE_COUNT, ("app.late_and_big", "thread_pool", "live")),
        (names.FINDINGS, ("app.late_and_big", "not_shut_down", "thread_pool")),
    ):
        points = found.points(name)
        assert len(points) <= names.SITES + 1
        assert points[key] == 50
        assert sum(points.values()) == 10_050
        assert points[(names.OTHER, *key[1:])] == 10_050 - 50 - (names.SITES - 1)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_program_that_a_signal_ends_sends_its_last_report(signum: int, protocol: str, service: Any) -> None:
    app = """
import os, signal, sys, time
from pieces import pools
signal.signal(signal.SIGINT, signal.default_int_handler)
kept = pools(1)
os.kill(os.getpid(), int(sys.argv[1]))
time.sleep(100)
"""
    service.run(app, str(int(signum)), status=-signum)
    assert service.received().points(names.FINDINGS) == {("pieces.pool", "not_shut_down", "thread_pool"): 1}


def test_the_console_is_not_the_programs_output(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    env = {"OTEL_METRICS_EXPORTER": "console", "OTEL_TRACES_EXPORTER": "console", "LEAKAGENT_OTEL_WAIT": "100"}
    ran = python("-m", "leakagent", program("import concurrent.futures as f; p = f.ThreadPoolExecutor(); print(1)"), env=env)
    assert (ran.returncode, ran.stdout) == (0, "1\n"), ran
    assert names.RESOURCE_COUNT in ran.stderr, ran
    assert names.SHUTDOWN_SPAN in ran.stderr, ran
    assert os.linesep + "leakagent: telemetry" not in ran.stderr, ran
