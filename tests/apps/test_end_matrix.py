"""Every server with a request that does not end, told to end once and twice: it ends with its status, and nobody is left."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_MATRIX = runpy.run_path(str(Path(__file__).parent.with_name("servers") / "end_matrix.py"))
SERVERS, ENDS = _MATRIX["SERVERS"], _MATRIX["ENDS"]


def allowed(name: str, signals: tuple[int, ...]) -> set[int]:
    """Return the statuses that a server ends with; a second signal can find the server's own end over, and Python's handler in force."""
    if name == "Flask":
        return {-signals[0], 0} if signals[0] == signal.SIGINT else {-signals[0]}
    return {0, *(-number for number in signals[1:])}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("name", SERVERS)
def test_it_ends(serve: Callable[..., Any], until: Callable[..., None], port: int, name: str, how: str) -> None:
    words, text = SERVERS[name]
    command = [sys.executable, "-m", *(word.replace("PORT", str(port)) for word in words)]
    env = {"LEAKAGENT_GRACE": "1", "LEAKAGENT_BUDGET": "60"}
    server = serve(command, f"http://127.0.0.1:{port}/", agent=True, files={"app.py": text}, env=env)
    with server.open("open"):
        until(lambda: "OPEN" in server.log, "the request has begun")
        first, *second = ENDS[how]
        server.process.send_signal(first)
        if second:
            # Late enough to be a second one; it may find the server gone.
            with suppress(subprocess.TimeoutExpired):
                server.process.wait(0.3)
            server.process.send_signal(second[0])
        status = server.ended()
    assert status in allowed(name, ENDS[how]), server.log
    assert not server.accepts(), "a worker is left"
    assert "is cut off here" not in server.log
    if second:
        return
    assert "ATEXIT" in server.log
    number = 1 + next(number for number, line in enumerate(text.splitlines()) if line.endswith("# open"))
    # gunicorn's own quick end leaves a request in the main thread at once: nothing is waited for.
    told = [] if (name, how) == ("gunicorn, sync", "SIGINT") else [number]
    found = [one["site"]["line"] for one in server.report["findings"]]
    # On a slow machine the reloader's process does not get as far as this in its time, and is killed.
    assert found == told or (name == "Flask --reload" and found == [0]), server.log
    assert server.report["agent"]["disabled"] == []
