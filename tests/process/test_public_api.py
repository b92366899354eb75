"""``leakagent.snapshot()`` and ``leakagent.shutdown()``: what they return, from anywhere, and that the program goes on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BEGIN = """\
import asyncio, atexit, gc, json, multiprocessing, threading
from concurrent.futures import ThreadPoolExecutor
import leakagent
"""


def test_before_install_and_after_uninstall(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    text = (
        BEGIN
        + """
def ask():
    for function in (leakagent.snapshot, leakagent.shutdown):
        try:
            function()
        except RuntimeError as error:
            print(error)
    print(leakagent.is_active(), leakagent.uninstall())

ask()
leakagent.install()
pool = ThreadPoolExecutor(1)
leakagent.uninstall()
ask()
"""
    )
    ran = python(program(text))
    line = "leakagent is not active in this process: call leakagent.install() first"
    assert ran.stdout.splitlines() == [line, line, "False False"] * 2
    assert (ran.returncode, ran.stderr) == (0, "")


def test_snapshot_looks_and_touches_nothing(told: Callable[..., Any]) -> None:
    text = (
        BEGIN
        + """
def names(report):
    return [(found["reason"], found["kind"], found["count"]) for found in report["findings"]]

print(names(leakagent.snapshot()))
pools = [ThreadPoolExecutor(1) for _ in range(3)]  # made
first, second = leakagent.snapshot(), leakagent.snapshot()
print(names(first), names(first) == names(second), first["schema"], first["receipt"])
assert json.loads(json.dumps(first)) == first
for pool in pools:
    pool.submit(int).result()
found = []
thread = threading.Thread(target=lambda: found.append(leakagent.snapshot()))
thread.start()
thread.join()
print(names(found[0]))
async def main():
    task = asyncio.create_task(asyncio.sleep(0.01, "slept"))
    leakagent.snapshot()
    print(await task)
asyncio.run(main())
pools[0].shutdown()
del pools[1:]
print(names(leakagent.snapshot()))
"""
    )
    after = told(text)
    expected = [("not_shut_down", "thread_pool", 3)]
    assert after.lines == [
        "[]",
        f"{expected} True leakagent.report/1 []",
        str(expected),
        "slept",
        "[('not_shut_down', 'thread_pool', 2)]",
    ], after
    found = after.only("not_shut_down")
    assert (found["count"], found["site"]["line"]) == (2, after.line("made"))
    assert after.ran.returncode == 0


def test_a_snapshot_fits_the_schema(python: Callable[..., Any], program: Callable[..., Path]) -> None:
    from importlib import resources

    import jsonschema

    text = BEGIN + "leakagent.install(report='off')\npool = ThreadPoolExecutor(1)\nprint(json.dumps(leakagent.snapshot()))"
    ran = python(program(text))
    schema = json.loads(resources.files("leakagent.report").joinpath("schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(ran.stdout), schema)
    assert json.loads(ran.stdout)["exit"] == {"status": None, "signal": None}


GOES_ON = """\
import asyncio, gc, threading, time
from concurrent.futures import ThreadPoolExecutor
import leakagent

def names(report):
    return sorted((found["reason"], found["kind"], found["count"]) for found in report["findings"])

loop = asyncio.new_event_loop()
first = loop.create_task(asyncio.sleep(0.01, "first"))
pool = ThreadPoolExecutor(1)
print(names(leakagent.shutdown()))
print(names(leakagent.shutdown()))
# The program goes on: the pool works, the task ends, new things are seen, and no task is lost.
print(pool.submit(pow, 2, 3).result(), loop.run_until_complete(first))
pool.shutdown()
done = []

async def wait(event):
    await event.wait()
    done.append("second")

async def main():
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(600, print, "never")
    asyncio.create_task(lose())
    await asyncio.sleep(0)
    gc.collect()
    print("gone" if not done else done)

class Note:
    def __del__(self):
        done.append("destroyed")

async def lose():
    note = Note()
    await asyncio.get_running_loop().create_future()

loop.run_until_complete(main())
late = ThreadPoolExecutor(1)  # late
"""


def test_the_program_goes_on_after_shutdown(told: Callable[..., Any]) -> None:
    after = told(GOES_ON)
    both = [("not_shut_down", "thread_pool", 1), ("outlived_scope", "asyncio.task", 1)]
    assert after.lines == [str(both), str(both), "8 first", "gone"], after
    # What ended after shutdown() is not told at the end; what was made since is.
    assert sorted((found["reason"], found["kind"]) for found in after.findings) == [
        ("lost_task", "asyncio.task"),
        ("not_shut_down", "thread_pool"),
    ], after
    assert after.only("not_shut_down")["site"]["line"] == after.line("late")
    assert after.ran.returncode == 0


def test_shutdown_from_a_thread_and_from_an_exit_handler(told: Callable[..., Any]) -> None:
    text = (
        BEGIN
        + """
def names():
    print([(found["reason"], found["kind"], found["count"]) for found in leakagent.shutdown()["findings"]])

pool = ThreadPoolExecutor(1)  # made
thread = threading.Thread(target=names)
thread.start()
thread.join()
atexit.register(names)
async def main():
    names()
    return await asyncio.sleep(0.01, "slept")
print(asyncio.run(main()))
"""
    )
    after = told(text)
    one = "[('not_shut_down', 'thread_pool', 1)]"
    assert after.lines == [one, one, "slept", one], after
    assert after.only("not_shut_down")["site"]["line"] == after.line("made")


def test_shutdown_does_not_speak_for_a_child_that_is_left_running(told: Callable[..., Any]) -> None:
    text = (
        BEGIN
        + """
def child(end):
    end.wait()

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    end = context.Event()
    process = context.Process(target=child, args=(end,))
    process.start()
    print([found["reason"] for found in leakagent.shutdown()["findings"]], process.is_alive())
    end.set()
    process.join()
"""
    )
    after = told(text)
    after.clean()
    assert after.lines == ["[] True"]


def test_install_again_starts_with_nothing(python: Callable[..., Any], program: Callable[..., Path], tmp_path: Path) -> None:
    text = (
        BEGIN
        + f"""
for number in range(3):
    print(leakagent.install(report="json:{tmp_path}/report.json"), leakagent.install(), leakagent.is_active())
    pool = ThreadPoolExecutor(1)
    print(len(leakagent.snapshot()["findings"]), leakagent.uninstall())
leakagent.install(report="json:{tmp_path}/report.json")
"""
    )
    ran = python(program(text))
    assert ran.stdout.splitlines() == ["True False True", "1 True"] * 3
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["findings"] == []
