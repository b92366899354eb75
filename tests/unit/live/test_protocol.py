"""The protocol of the socket: any question has an answer or an error, any answer is taken or refused, and names lead to processes."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leakagent import config
from leakagent.live import client, protocol
from leakagent.live.server import BURST, FORGIVEN, Live, Spent

if TYPE_CHECKING:
    from pathlib import Path

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
FIXTURES = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "leakagent"


def live(answer: Any = "fine") -> Live:
    made = Live()
    made.answers = {"status": lambda: answer, "fails": lambda: 1 / 0}
    return made


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_question_is_answered(data: bytes) -> None:
    answer = live()._answer_to(data)
    assert set(answer) in ({"answer"}, {"error"})
    json.dumps(answer, allow_nan=False)


@given(st.dictionaries(st.sampled_from(["version", "ask", "more"]), JSON | st.sampled_from([1, "status", "fails"]), max_size=3))
def test_only_its_own_version_and_its_own_words_are_answered(question: dict[str, Any]) -> None:
    answer = live()._answer_to(json.dumps(question).encode())
    asked = question.get("version") == protocol.VERSION and question.get("ask") == "status"
    assert (answer == {"answer": "fine"}) == asked
    if question.get("version") == protocol.VERSION and question.get("ask") == "fails":
        assert answer == {"error": "ZeroDivisionError: division by zero"}


def test_answers_cost_a_twentieth_of_the_time_and_a_second_at_most() -> None:
    spent, asked, took = Spent(), 0, 0.3
    for number in range(10_000):  # a question each tenth of a second, for 1000 s
        if not spent.is_too_much(1_000.0 + number / 10):
            spent.add(took)
            asked += 1
    assert 1000 * FORGIVEN <= asked * took <= 1000 * FORGIVEN + BURST + took
    people = Spent()
    for number in range(1_000):  # one each ten seconds is always answered anew
        assert not people.is_too_much(1_000.0 + 10 * number)
        people.add(took)


def test_who_asks_too_much_gets_the_last_answer_once_more() -> None:
    made, answers = live(), iter(range(9))
    made.answers["number"] = lambda: next(answers)
    ask = json.dumps({"version": protocol.VERSION, "ask": "number"}).encode()
    assert [made._answer_to(ask)["answer"] for _ in range(2)] == [0, 1]
    made._spent.add(2 * BURST)
    assert [made._answer_to(ask)["answer"] for _ in range(2)] == [1, 1]
    # What was never asked for is answered, and a child of a fork knows nothing of it.
    assert made._answer_to(ask.replace(b"number", b"status")) == {"answer": "fine"}
    made.forked()
    assert made._answer_to(ask)["answer"] == 2


def answered_by(data: bytes, runtime: Path) -> Any:
    """Ask this very process, in whose name something else listens that says ``data``."""
    runtime.mkdir(mode=0o700, exist_ok=True)
    name = protocol.name_of(os.getpid(), config.start_time(os.getpid()))
    (runtime / name).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(runtime, os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{folder}/{name}")
        finally:
            os.close(folder)
        server.listen()

        def answer() -> None:
            with server.accept()[0] as peer:
                peer.recv(protocol.QUESTION)
                peer.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            return client.ask(os.getpid(), "status", 60)
        finally:
            thread.join()
            (runtime / name).unlink()


@FIXTURES
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer_is_taken_or_refused_in_one_line(runtime: Path, data: bytes) -> None:
    with contextlib.suppress(ValueError):
        document = json.loads(data)
        if isinstance(document, dict) and document.get("version") == protocol.VERSION and "answer" in document:
            answered_by(data, runtime)
            return
    with pytest.raises(client.NoAnswerError, match=rf"^process {os.getpid()} [^\n]*$"):
        answered_by(data, runtime)


@FIXTURES
@given(JSON.filter(lambda value: json.loads(json.dumps(value)) == value))
def test_an_answer_arrives_as_it_was_given(runtime: Path, value: Any) -> None:
    assert answered_by(json.dumps({"version": protocol.VERSION, "answer": value}).encode(), runtime) == value


@FIXTURES
@given(st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=60))
def test_other_names_in_the_folder_are_no_sockets(runtime: Path, name: str) -> None:
    runtime.mkdir(mode=0o700, exist_ok=True)
    mine = protocol.name_of(os.getpid(), config.start_time(os.getpid()))
    for one in {name if name.strip(".") else "x", mine}:
        (runtime / one).write_text("", encoding="utf-8")
    assert protocol.sockets() == [(os.getpid(), mine)]
    for path in runtime.iterdir():
        path.unlink()
