"""streamlit up to 1.64: a script's thread is no daemon, and Python waits for a script that works on after the server has ended."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPT = """\
import os, threading, time
import streamlit

streamlit.write("hello")
print("WORKING", threading.current_thread().daemon, flush=True)
try:
    while os.environ["WORK"] == "python":
        time.sleep(0.02)  # python
    while os.environ["WORK"] == "streamlit":
        time.sleep(0.02)
        streamlit.write("tick")
    time.sleep(3600)  # c
finally:
    print("LEFT", flush=True)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("work", ["python", "streamlit", "c"])
def test_a_script_at_work_is_stopped_and_named(
    serve: Callable[..., Any], until: Callable[..., None], browser: Callable[..., Any], port: int, work: str, signum: int
) -> None:
    # Bare, the process of "python" and "c" does not end.
    command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}", "--server.address=127.0.0.1"]
    options = ["--server.headless=true", "--browser.gatherUsageStats=false"]
    env = {"WORK": work, "LEAKAGENT_GRACE": "60" if work != "c" else "1", "LEAKAGENT_BUDGET": "200"}
    url = f"http://127.0.0.1:{port}/_stcore/health"
    server = serve([*command, *options], url, agent=True, files={"app.py": SCRIPT}, env=env)
    session = browser(port)
    until(lambda: "WORKING" in server.log, "the script works")
    assert "WORKING False" in server.log
    assert server.end_by(signum) == 0, server.log
    session.close()
    assert "Traceback" not in server.log, server.log
    # The connection that the browser holds open is tornado's, and told as a library's.
    mine = [one for one in server.report["findings"] if one["owner"] == "yours"]
    found = [(one["reason"], one["kind"], one["site"]["line"], one["action"]) for one in mine]
    line = next((number for number, text in enumerate(SCRIPT.splitlines(), 1) if text.endswith(f"# {work}")), 0)
    if work == "c":
        assert found == [("refused_cleanup", "thread", line, "released")], server.log
    else:
        assert "LEFT" in server.log
        # In a call of streamlit's own the script ends by itself.
        assert (found == []) == (work == "streamlit"), server.log
