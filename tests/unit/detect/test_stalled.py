"""The rules that tell a stall from a wait on purpose."""

from __future__ import annotations

import pytest

from leakagent.detect.stalled import is_a_model_client, is_attended, is_idle, is_owed, waits_on_purpose

ASYNCIO = "/usr/lib/python3.13/asyncio"


@pytest.mark.parametrize(
    ("last", "idle"),
    [
        ((f"{ASYNCIO}/queues.py", "get"), True),
        ((f"{ASYNCIO}/locks.py", "wait"), True),
        ((f"{ASYNCIO}/locks.py", "acquire"), True),
        ((f"{ASYNCIO}/tasks.py", "sleep"), True),
        ((f"{ASYNCIO}/taskgroups.py", "__aexit__"), True),
        ((f"{ASYNCIO}/subprocess.py", "wait"), True),
        ((f"{ASYNCIO}/base_events.py", "serve_forever"), True),
        ((f"{ASYNCIO}/selector_events.py", "sock_accept"), True),
        ((f"{ASYNCIO}/selector_events.py", "sock_recv"), False),
        ((f"{ASYNCIO}/base_events.py", "_connect_sock"), False),
        ((f"{ASYNCIO}/streams.py", "_wait_for_data"), False),
        (("/app/asyncio/queues.py", "get"), False),
        (("/app/main.py", "get"), False),
        (("/lib/site-packages/anyio/_backends/_asyncio.py", "run_sync_in_worker_thread"), True),
    ],
)
def test_idle(last: tuple[str, str], *, idle: bool) -> None:
    assert is_idle([("/app/main.py", "main"), last], ASYNCIO) is idle


def test_a_socket_of_anyio_waits_for_an_event() -> None:
    receive = ("/lib/site-packages/anyio/_backends/_asyncio.py", "receive")
    assert not is_idle([("/app/main.py", "main"), receive, (f"{ASYNCIO}/locks.py", "wait")], ASYNCIO)


def test_nothing_is_known_of_a_task_without_frames() -> None:
    assert is_idle([], ASYNCIO)


@pytest.mark.parametrize(
    ("sent", "received", "owed"),
    [
        (60_000, 60_001, True),
        (60_000, None, True),
        (60_000, 60_000, False),
        (60_000, 59_999, False),
        (59_999, 100_000, False),
        (59_999, None, False),
    ],
)
def test_owed(sent: int, received: int | None, *, owed: bool) -> None:
    assert is_owed(sent, received, 60.0) is owed


@pytest.mark.parametrize(
    ("line", "on_purpose"),
    [
        ("    await asyncio.Future()  # run for ever", True),
        ("await asyncio.get_running_loop().create_future()", True),
        ("await asyncio.Event().wait()", True),
        ("", True),
        ("await self.answer", False),
        ("self.answer = loop.create_future()", False),
        ("await self.stop.wait()", False),
    ],
)
def test_on_purpose(line: str, *, on_purpose: bool) -> None:
    assert waits_on_purpose(line) is on_purpose


def test_who_waits_for_a_model() -> None:
    assert is_a_model_client(["/app/main.py", "/lib/site-packages/openai/_streaming.py"])
    assert is_a_model_client(["/lib/site-packages/llama_index/core/chat_engine/types.py", "/app/main.py"])
    assert not is_a_model_client(["/app/main.py", "/lib/site-packages/httpx/_client.py"])
    assert not is_a_model_client(["/home/me/openai/main.py", "/lib/site-packages/mine/openai/client.py"])
    assert not is_a_model_client(["/lib/site-packages/openai/resources/realtime/realtime.py"])
    assert not is_a_model_client(["/lib/site-packages/openai/_base.py", "/lib/site-packages/websockets/asyncio/connection.py"])


@pytest.mark.parametrize("path", ["/usr/lib/python3.13/pdb.py", "/lib/site-packages/ipykernel/kernelbase.py"])
def test_a_person_looks(path: str) -> None:
    assert is_attended(["/app/main.py", path])
    assert not is_attended(["/app/main.py"])
