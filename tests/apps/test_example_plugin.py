"""examples/plugin, installed as users do it: its connections are found, closed, and silent when closed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "plugin"

# A server that shakes hands and keeps the connection open (RFC 6455, section 4.2.2).
APP = """\
import base64, contextlib, hashlib, re, socket, threading
from websocket import create_connection, WebSocket
server = socket.create_server(("127.0.0.1", 0))
ended = threading.Event()
def serve():
    kept = []
    for _ in range(COUNT):
        peer, _ = server.accept()
        kept.append(peer)
        key = re.search(rb"Sec-WebSocket-Key: (\\S+)", peer.recv(4096))[1]
        answer = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        peer.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: "
                     + answer + b"\\r\\n\\r\\n")
threading.Thread(target=serve, daemon=True).start()
url = "ws://127.0.0.1:%d/" % server.getsockname()[1]
"""

CLEAN = """\
COUNT = 3
with contextlib.closing(create_connection(url)) as one:
    print(one.connected)
two = create_connection(url)
two.close()
never = WebSocket()
three = WebSocket()
three.connect(url)
three.shutdown()
"""

LEAKY = """\
COUNT = 4
one = create_connection(url)  # leak: not_closed websocket.connection
print(one.connected)
for _ in range(3):
    create_connection(url)  # leak: not_closed websocket.connection
import gc
gc.collect()  # a WebSocket refers to itself
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example into a folder of its own."""
    import subprocess

    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "install", "--no-index", "--no-deps"]
    subprocess.run([*command, "--no-build-isolation", "--target", os.fspath(folder), os.fspath(EXAMPLE)], check=True)
    return folder


@pytest.mark.parametrize("text", [CLEAN, LEAKY], ids=["clean", "leaky"])
def test_the_example(compare: Callable[..., Any], installed: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    # What `compare` runs has no PYTHONPATH: a file of its own folder puts the installed example on the path.
    count, _, rest = text.partition("\n")
    program = f"import sys; sys.path.append({os.fspath(installed)!r})\n{count}\n{APP}{rest}"
    ran = compare(program)
    ran.check()
    for _, report in ran.agents.values():
        for found in report["findings"]:
            assert found["action"] == ("none" if found["count"] == 3 else "closed")
            assert found["fix"].startswith("ws.close()")


def test_doctor_knows_it(run: Callable[..., Any], installed: Path, tmp_path: Path) -> None:
    ran = run([sys.executable, "-m", "leakagent", "doctor", "--json"], env={"PYTHONPATH": str(installed)}, cwd=tmp_path)
    (found,) = json.loads(ran.stdout)["plugins"]
    assert (ran.returncode, found["kinds"], found["problem"]) == (0, ["websocket.connection"], "")
