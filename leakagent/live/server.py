"""The socket of one process, and the thread that answers on it.

The problem.  Somebody wants to know what a process does that hangs: in its event loop, in a lock, in its own end.  Nothing of the program
runs then, and a signal handler does not either.

What does not work.  A `threading.Thread`: `leakagent.watcher` says why.  A socket from the
start on: most programs are over before anybody can look.  A ``umask`` for the socket's mode: it is the whole process's.

What we do.  A second `Watcher` of its own, started with the first loop, pool, thread or process, which binds a socket in the user's private
folder when it has lived for `LATE` seconds.  It waits in ``accept`` and wakes for nobody else.  The mode is set before the name exists: Linux
takes it over from the unbound socket (unix(7); ``fchmod`` and then ``bind``).  A fork waits for an answer that is being given; the child
closes its copy of the socket.  Where the fork ends the thread (`leakagent.watcher`), socket and name are gone as well: shutting the socket
down wakes ``accept``.  One client is served at a time, within `CLIENT_SECONDS`;
after each one the thread rests for nineteen times as long as it was busy, a second at most.  An answer about a hundred thousand tasks takes
longer than that makes up for: who has asked for more than `BURST` seconds of processor time, of which a twentieth of a second is forgiven in
each, gets the last answer to the same question once more.  So a flood costs a twentieth of a processor at most, and people get fresh answers.

What is still open.  Linux only.  A program without loop, pool, thread and process can't be asked.  From 3.12 on it can't be asked after a
fork until it makes another of these, or a garbage collection happens.
"""

from __future__ import annotations

import _thread
import os
import time

from leakagent import guard
from leakagent.processes.family import runtime_folder
from leakagent.processes.identity import look
from leakagent.shutdown import interpreter
from leakagent.watcher import Watcher

from . import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from leakagent.watcher import Turn

#: Seconds after which a program is no short one.
LATE = 0.3

#: Seconds that a client gets to ask, and to take the answer.
CLIENT_SECONDS = 2.0

#: Clients that wait for their turn; the kernel lets others try again.
CLIENTS = 8

#: Processor time in seconds that answers may take at once, and what is forgiven of it in each second.
BURST = 1.0
FORGIVEN = 0.05

_REST = 19
_LONGEST_REST = 1.0


class Spent:
    """Processor time that answers have taken, of which `FORGIVEN` is forgiven in each second (a leaky bucket)."""

    __slots__ = ("_seconds", "_then")

    def __init__(self) -> None:
        """Nothing yet."""
        self._seconds = self._then = 0.0

    def add(self, seconds: float) -> None:
        """Note what an answer took."""
        self._seconds += seconds

    def is_too_much(self, now: float) -> bool:
        """Say whether there was more than `BURST`, in seconds of a clock that never goes back."""
        self._seconds = max(0.0, self._seconds - FORGIVEN * (now - self._then))
        self._then = now
        return self._seconds > BURST


class Live(Watcher):
    """The thread, its socket, and what it can be asked.

    Attributes:
        answers: Question -> what returns the answer, as plain JSON values; called in the thread.

    """

    part = "live"

    def __init__(self) -> None:
        """Start nothing."""
        super().__init__()
        self.answers: dict[str, Callable[[], Any]] = {}
        self._socket: Any = None
        self._client: Any = None
        self._path = ""
        self._spent = Spent()
        #: Question -> the last answer to it.
        self._last: dict[str, dict[str, Any]] = {}

    def offer(self, answers: dict[str, Callable[[], Any]]) -> None:
        """Let it be started when it is needed."""
        self.answers = answers
        self.looks = [self._answer]
        self.enable(0)

    def _run(self, turn: Turn) -> None:
        turn.native_id = _thread.get_native_id()
        interpreter.block_all()
        try:
            if not turn.bell.acquire(timeout=LATE):
                self._serve(turn)
        finally:
            self._close()

    def _serve(self, turn: Turn) -> None:
        with self.gate:
            if not self._bind():
                return
        while self._turn is turn and self.part not in guard.disabled:
            try:
                self._client = client = self._socket.accept()
            except OSError:
                if turn.bell.acquire(timeout=_LONGEST_REST):  # shut down; or the process has no descriptor left
                    return
                continue
            begin = time.monotonic()
            try:
                if client.uid == os.getuid() and self._turn is turn:
                    with self.gate:
                        self._look()
            finally:
                self._client = None
                client.close()
            rest = min(_REST * (time.monotonic() - begin), _LONGEST_REST)
            if turn.bell.acquire(timeout=rest):
                return

    def _bind(self) -> bool:
        folder, seen = runtime_folder(create=True), look(os.getpid())
        name = protocol.name_of(os.getpid(), seen.start) if folder and seen is not None else ""
        if not name:
            return False
        try:
            self._socket = interpreter.UnixSocket.listen(folder, name, CLIENTS)
        except OSError:
            return False
        self._path = os.path.join(folder, name)
        return True

    def _close(self) -> None:
        path, self._path = self._path, ""
        if path:
            protocol.remove(path)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _answer(self) -> None:
        import json  # only in a program that is asked

        client = self._client
        end = time.monotonic() + CLIENT_SECONDS
        try:
            line = client.receive_line(protocol.QUESTION, end)
            begin = time.thread_time()
            found = json.dumps({"version": protocol.VERSION, **self._answer_to(line)}, allow_nan=False).encode()
            self._spent.add(time.thread_time() - begin)
            client.send(found[: protocol.ANSWER], time.monotonic() + CLIENT_SECONDS)
        except OSError:  # it has gone, or is too slow
            return

    def _answer_to(self, line: bytes) -> dict[str, Any]:
        import json

        try:
            asked = json.loads(line)
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict) or asked.get("version") != protocol.VERSION:
            return {"error": f"expected one line of JSON with version {protocol.VERSION}"}
        word = asked.get("ask")
        if not isinstance(word, str) or word not in self.answers:
            return {"error": f"can be asked: {', '.join(self.answers)}"}
        if word in self._last and self._spent.is_too_much(time.monotonic()):
            return self._last[word]
        try:
            self._last[word] = found = {"answer": self.answers[word]()}
        except Exception as error:  # noqa: BLE001 - the client is told; the next question may work
            return {"error": f"{type(error).__name__}: {error}"}
        return found

    def wake(self) -> None:
        """Get the thread out of what it waits for."""
        for waiting in (self._client, self._socket):
            if waiting is not None:
                waiting.shut_down()

    def forked(self) -> None:
        """Forget the parent's thread in a child, and close the copy of its socket."""
        super().forked()
        for inherited in (self._client, self._socket):
            if inherited is not None:
                inherited.close()
        self._socket = self._client = None
        self._path = ""
        self._spent, self._last = Spent(), {}


#: Of this process.
live = Live()
