"""A small process of its own that ends children of `subprocess` when the program is killed (``--subprocesses guard``).

The problem.  A child that is no Python, or that has no agent, does not notice that its starter was killed.  The starter can't do
anything about it any more.

What does not work.  ``PR_SET_PDEATHSIG``: it has to be set between fork and exec, where no Python code is safe beside threads, and it is sent when the
thread that started the child ends.  A pipe whose other end closes: forked children hold it open as well.  A child of the program: a
program that waits for all of its children would wait for the guardian.

What we do.  With the first child a helper is started that leaves at once: the guardian is its child, in a session of its own, with no
descriptor but its own.  It waits for a pidfd of the program and reads from a pipe which children there are.  When the program is gone,
it sends SIGTERM to those that are still the same process (pid and start time), run in the program's session and were not told to end;
after `GRACE` seconds SIGKILL.  At a normal end the program does that itself, and the guardian goes.

What is still open.  Linux only.  A child that is killed together with its starter before its line is written is not known.
"""

from __future__ import annotations

import os
import select
import sys
import time

from .identity import look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .identity import Seen

#: Seconds between SIGTERM and SIGKILL.
GRACE = 2.0

_TERM, _KILL = 15, 9
_HIGHEST = 1 << 16
_BYE = b"bye"


class Guardian:
    """The program's side: starts the guardian and tells it what there is."""

    def __init__(self) -> None:
        """Start nothing."""
        self._pipe = -1

    def watch(self, pid: int, start: str) -> None:
        """Have a child ended when this process is gone.

        Raises:
            OSError: There is no guardian, and none can be started.

        """
        if self._pipe < 0:
            self._start()
        self._tell(f"+{pid} {start}")

    def leave(self, pid: int) -> None:
        """Leave a child alone: it was told to end."""
        self._tell(f"-{pid} 0")

    def end(self) -> None:
        """Send the guardian away: this process has ended what there was."""
        self._tell(_BYE.decode())
        self.forked()

    def forked(self) -> None:
        """Forget it in a forked child, which is not watched by it."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def _tell(self, line: str) -> None:
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, line.encode() + b"\n")
        except OSError:  # it was killed
            self.forked()

    def _start(self) -> None:
        own = look(os.getpid())
        if own is None or not hasattr(os, "pidfd_open"):
            message = "subprocesses=guard needs Linux 5.3 or newer"
            raise OSError(message)
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        code = f"import sys; sys.path.insert(0, {package!r}); from leakagent.processes import guardian; guardian.main()"
        words = [sys.executable, "-I", "-S", "-B", "-c", code, str(os.getpid()), own.start, str(own.session)]
        read, write = os.pipe()
        try:
            actions = [(os.POSIX_SPAWN_DUP2, read, 0)]
            actions += [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (1, 2)]  # type: ignore[misc]
            helper = os.posix_spawn(sys.executable, words, os.environ, file_actions=actions)
        except BaseException:
            os.close(write)
            raise
        finally:
            os.close(read)
        self._pipe = write
        try:
            os.waitpid(helper, 0)
        except ChildProcessError:  # the program waits for all of its children
            return


def main() -> None:
    """Be the guardian of the process that the command line names by pid, start time and session."""
    program, start, session = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    os.closerange(3, _HIGHEST)
    children = _children_of(program, start)
    seen = {pid: look(pid) for pid in children}
    left = {pid: started for pid, started in children.items() if _is(seen[pid], started) and _session(seen[pid]) == session}
    for number in (_TERM, _KILL):
        for pid, started in left.items():
            _send(pid, started, number)
        end = time.monotonic() + GRACE
        while left and time.monotonic() < end:
            left = {pid: started for pid, started in left.items() if _is(look(pid), started)}
            time.sleep(0.02 if left else 0)


class _Book:
    """What the program has told: its children, pid -> start time."""

    def __init__(self) -> None:
        self.children: dict[int, str] = {}
        self.is_closed = False
        self._text = b""

    def read(self, more: bytes) -> None:
        """Take up what has come through the pipe."""
        *lines, self._text = (self._text + more).split(b"\n")
        for line in lines:
            pid, _, started = line[1:].partition(b" ")
            if line == _BYE:
                self.is_closed = True
            elif line.startswith(b"+"):
                self.children[int(pid)] = started.decode()
            else:
                self.children.pop(int(pid), None)


def _children_of(program: int, start: str) -> dict[int, str]:
    """Wait until the program is gone and return what it has left, pid -> start time; nothing if it needs no guardian any more."""
    try:
        descriptor = os.pidfd_open(program)
    except OSError:
        descriptor = -1
    is_gone = descriptor < 0 or not _is(look(program), start)
    book = _Book()
    poll = select.poll()
    poll.register(0, select.POLLIN)
    if not is_gone:
        poll.register(descriptor, select.POLLIN)
    while not book.is_closed:
        ready = {number for number, _ in poll.poll(0 if is_gone else None)}
        more = os.read(0, 1 << 16) if 0 in ready else b""
        book.read(more)
        if 0 in ready and not more:
            poll.unregister(0)
        elif 0 not in ready and (is_gone or descriptor in ready):
            return book.children
    return {}


def _is(seen: Seen | None, start: str) -> bool:
    return seen is not None and seen.start == start and seen.runs


def _session(seen: Seen | None) -> int:
    return -1 if seen is None else seen.session


def _send(pid: int, start: str, number: int) -> None:
    """Send a signal to that process and no other: through a pidfd that was opened before it was looked at."""
    import signal

    try:
        descriptor = os.pidfd_open(pid)
        if _is(look(pid), start):
            signal.pidfd_send_signal(descriptor, number)
        os.close(descriptor)
    except OSError:
        return
