"""How the count of each place changes is in ``leakagent dump`` and ``leakagent top`` long before it is told as a leak, or although it never is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = """
import asyncio, sys
kept = []
async def wait():
    await asyncio.sleep(3600)
async def main():
    steady = [asyncio.create_task(wait()) for _ in range(10)]  # steady
    reader = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    while not reader.done():
        kept.append(asyncio.create_task(wait()))  # grows
        await asyncio.sleep(0.01)
asyncio.run(main())
"""


def line_of(mark: str) -> int:
    return next(number for number, source in enumerate(PROGRAM.splitlines(), 1) if source.endswith(f"# {mark}"))


def test_what_grows_and_what_does_not(running: Callable[..., Any]) -> None:
    app = running(PROGRAM, options=("--stalled-after", "0.4"))  # a look every 0.1 s
    app.socket()
    found: dict[int, dict[str, Any]] = {}

    def has_grown() -> bool:
        found.clear()
        found.update({one["site"]["line"]: one for one in app.asked("dump").get("growth", [])})
        return line_of("steady") in found and found.get(line_of("grows"), {}).get("live", 0) > found[line_of("grows")]["was"] + 20

    app.until(has_grown, "more than before")
    grows, steady = found[line_of("grows")], found[line_of("steady")]
    assert (grows["kind"], grows["owner"], grows["growing"]) == ("asyncio.task", "yours", False)
    assert grows["site"]["source"].endswith("# grows")
    assert grows["per_minute"] > 0
    assert grows["seconds"] > 0
    assert (steady["was"], steady["live"], steady["per_minute"], steady["growing"]) == (10, 10, 0.0, False)
    (one,) = app.json("top", "--json")["processes"]
    assert next(place for place in one["growth"] if place["site"]["line"] == line_of("grows"))["per_minute"] > 0
    heads, line = app.ask("top", "--once").stdout.splitlines()[:2]
    assert heads.split()[4] == "+/MIN"
    assert line.split()[2] == "asyncio.task"
    assert float(line.split()[4]) > 0
    assert line.split()[4].startswith("+")
    app.go_on()
    assert app.end()[0] == 0
