"""The thread that sends telemetry, and its end: the program never waits for a collector, but for `seconds` at the very end.

The problem.  Whatever is done in the program's own threads delays it: loading the SDK takes longer than the start of Python, an
export to a dead collector a minute.  At the end somebody has to wait for the last report, but not for ever.

What we do.  One thread of the C level interface (the program sees it in no list), which loads the SDK as soon as `site` is done, sends
every ``OTEL_METRIC_EXPORT_INTERVAL``, and once more at the end.  The main thread waits for that with one allowance for everything
(`leakagent.telemetry.patience`), and does nothing of it itself: what it would import, resolve or send could not be given up.
Before a fork the thread is ended, or, in the middle of an export, left alone; a child has a pipeline and numbers of its own.  In the parent it is
started again at the next collection, since Python counts the threads right after the fork (3.12 and newer warn).

A process that calls ``os._exit`` or becomes another program (``os.exec*``) runs no exit handler: what it has counted and found by then is
sent right before (`Telemetry.flush`), with the same deadline.  It says nothing of a clean-up, since there is none.

A thread that is given up must not be in the middle of an import when Python finalizes (`leakagent.telemetry.giving_up`).

Prometheus fetches the metrics; the same thread answers while it waits (`leakagent.telemetry.scrape`).

What is still open.  A child that is forked while the SDK is loaded, if that takes long, sends nothing.  A process that is killed has sent what it
has sent by then.  Prometheus sees one process, the one that has the port, and nothing of its last report.
"""

from __future__ import annotations

import _thread
import os
import sys
import time

from leakagent import guard
from leakagent.shutdown import interpreter

from . import giving_up
from .patience import Patience

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from leakagent.core.findings import Finding, Report

    from .numbers import Numbers
    from .scrape import Endpoint
    from .wanted import Wanted

#: Seconds that a fork waits for the thread: while it sleeps, and while it imports (its locks would stay locked in the child).
FORK_SECONDS = 0.2
FORK_SECONDS_LOADING = 2.0


_active: list[Telemetry] = []
_fork_hook: list[bool] = []


def _before_fork() -> None:
    for one in _active:
        guard.call("telemetry", one.before_fork)


class _Turn:
    """One run of the thread: ``bell`` is kept locked and released to wake it; it releases ``loaded``, ``sent`` and ``ended``.

    What it is woken for is set before: ``must_send``, or ``over``.  A ring may come when it was heeded already, and means nothing then.
    """

    __slots__ = ("bell", "ended", "ident", "loaded", "must_send", "native_id", "over", "sent")

    def __init__(self) -> None:
        self.bell = _thread.allocate_lock()
        self.ended = _thread.allocate_lock()
        self.loaded = _thread.allocate_lock()
        self.sent = _thread.allocate_lock()
        self.must_send = False
        self.over = False
        self.bell.acquire()
        self.sent.acquire()
        self.ended.acquire()
        self.loaded.acquire()
        self.native_id = self.ident = 0


class Telemetry:
    """Sends the numbers and findings of this process."""

    def __init__(self, wanted: Wanted | None, numbers: Numbers, seconds: float, *, logs: bool = False) -> None:
        """Prepare; nothing is loaded.

        Args:
            wanted: What the variables ask for, or None to use the program's own providers.
            numbers: Where the metrics come from.
            seconds: How long the end of the program may wait.
            logs: Whether the program's own providers get events as well.

        """
        self.wanted = wanted
        self.numbers = numbers
        self.seconds = seconds
        self._logs = logs
        self._pipeline: Any = None
        self._endpoint: Endpoint | None = None
        self._forked = False
        self._patience = Patience(seconds)
        self._off = False
        self._turn: _Turn | None = None
        self._last: tuple[list[Finding], Report] | None = None
        self._undelivered: list[str] = []
        self._given_up = False
        self._again = False
        self._forking = False
        self._collector: Any = None

    def start(self) -> None:
        """Start the thread."""
        # What the SDK needs, and what must not be imported in another thread: `threading` takes who imports it for the main thread
        # (before 3.13), pools are refused when the main thread has ended, and logging's fork handlers come in pairs.
        import concurrent.futures.thread  # noqa: F401
        import threading  # noqa: F401

        # Registered after logging's handler, so that it runs before that one locks what the SDK needs while it is imported.
        if hasattr(os, "register_at_fork") and not _fork_hook:
            _fork_hook.append(True)
            os.register_at_fork(before=_before_fork)
        _active[:] = [self]
        self._start()

    def _start(self) -> None:
        self._again = False
        self._turn = turn = _Turn()
        try:
            _thread.start_new_thread(self._run, (turn,))
        except RuntimeError:  # 3.12 starts none when the exit handlers run
            self._turn = None

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _run(self, turn: _Turn) -> None:
        turn.native_id, turn.ident = _thread.get_native_id(), _thread.get_ident()
        self.numbers.registry.own.add(_thread.get_ident())
        # A signal is for the main thread, whose system call it has to interrupt.
        interpreter.block_all()
        try:
            rung = False
            while not rung and _starting():
                rung = turn.bell.acquire(timeout=0.005)
            if rung and turn.over and self._last is None and not turn.must_send:
                return
            self._patience.import_begins()
            self._load()
            self._patience.import_ends()
            turn.loaded.release()
            self._send_until_over(turn, rung=rung)
            if self._last is not None:
                self._undelivered = self._send(*self._last)
        except giving_up.GivenUpError:
            return
        except Exception as error:  # noqa: BLE001 - the program must never see it
            if self._given_up:  # the interpreter has closed what the SDK needs
                self._undelivered = ["the last report (not loaded in time)"]
            else:
                guard.failed("telemetry", error)
        finally:
            self._patience.import_ends()
            if turn.loaded.locked():
                turn.loaded.release()
            self.numbers.registry.own.discard(_thread.get_ident())
            interpreter.remove_stand_in()
            turn.ended.release()
            if turn.must_send:
                turn.sent.release()

    def _send_until_over(self, turn: _Turn, *, rung: bool) -> None:
        while not (rung and turn.over and not turn.must_send):
            # psutil's import asks for the name of its thread, as each line of a log does.
            interpreter.remove_stand_in()
            rung = rung or self._pause(turn)
            # Before anything is read: who asks in the middle of an export wants another one.
            asked = turn.must_send
            if asked or (not rung and self._last is None):
                self._undelivered = self._send(self.numbers.findings(), None, now=asked)
            if asked:
                turn.must_send = False
                turn.sent.release()
            rung = rung and turn.over

    def _pause(self, turn: _Turn) -> bool:
        """Wait until it is time to send, and say whether the bell was rung."""
        end = time.monotonic() + (self.wanted.interval if self.wanted is not None else 60.0)
        if self._endpoint is not None:
            while not turn.bell.acquire(blocking=False):
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._endpoint.serve(left, self._pipeline.scraped)
            return True
        return turn.bell.acquire(timeout=max(0.0, end - time.monotonic()))

    def _ring(self, turn: _Turn) -> None:
        # It may not have heard the last one, in the middle of an export.
        if turn.bell.locked():
            turn.bell.release()
        if self._endpoint is not None:
            self._endpoint.wake()

    def _load(self) -> None:
        from . import sdk

        if self._pipeline is None and self.wanted is None:
            self._pipeline = sdk.Global(self.numbers, logs=self._logs)
        for signal, protocols in self.wanted.exporters.items() if self.wanted is not None else ():
            for protocol in protocols:
                try:
                    sdk.load(signal, protocol)
                except sdk.MissingError as error:
                    guard.say(f"no {signal} are sent: {error}")
        if self.wanted is not None and self.wanted.scrape is not None and self._endpoint is None:
            self._listen(*self.wanted.scrape)

    def _listen(self, host: str, port: int) -> None:
        self._build()
        if not self._pipeline.can_be_scraped:
            return
        from .scrape import Endpoint

        try:
            self._endpoint = Endpoint(host, port)
        except OSError as error:
            reason = error.strerror or str(error)
            guard.say(
                f"no metrics are served: {host} port {port} can't be listened on ({reason}): see OTEL_EXPORTER_PROMETHEUS_PORT"
            )

    def _build(self) -> None:
        if self._pipeline is None and self.wanted is not None:
            from . import sdk

            self._pipeline = sdk.Pipeline(self.wanted, self.numbers, forked=self._forked)

    def _send(self, findings: list[Finding], report: Report | None, *, now: bool = False) -> list[str]:
        self._build()
        self.numbers.ended = report
        self.numbers.final = findings if report is not None else None
        return list(self._pipeline.send(findings, report, now=now))

    # -- the end, in the main thread ---------------------------------------------------------------------------------

    def prepare(self) -> None:
        """See to it that the last report can be sent; called when the main thread has ended, before pools are told to end.

        The thread that a fork has ended is started again as long as there can be new ones.  Everything has to be imported first: gRPC's
        exporter and the Logs API use a pool while they are, and an import beside the exit's own work would slow that down.
        """
        if self._last is not None or self._off:
            return
        if self._turn is None:
            self._start()
        turn = self._turn
        if turn is not None and turn.ended.locked():
            if self._patience.wait(turn.loaded):
                turn.loaded.release()
            else:
                self._given_up = True

    def finish(self, findings: list[Finding], report: Report) -> None:
        """Have everything sent, wait for it, and say what could not be delivered."""
        if self._last is not None or self._off:
            return
        self._last = findings, report
        if self._turn is None:
            self._start()
        turn = self._turn
        if turn is None:
            self._undelivered = ["the last report (no thread can be started)"]
        else:
            turn.over = True
            self._ring(turn)
            if not self._patience.wait(turn.ended):
                self._given_up = True
                self._undelivered = ["the last report (no answer)"]
                giving_up.give_up(turn.ident, turn.ended, self._patience.left)
        self._say_undelivered()

    def flush(self) -> None:
        """Have sent what is known by now: the process ends at once, or becomes another program; nothing if there is nothing.

        May be called again, since a program that can't become another one goes on.
        """
        registry = self.numbers.registry
        if self._last is not None or self._off or not any(counts["created"] for counts in registry.totals().values()):
            return
        if self._turn is None:
            self._start()
        turn = self._turn
        if turn is None:
            self._undelivered = ["the last numbers (no thread can be started)"]
        elif turn.ended.locked() and turn.native_id != _thread.get_native_id():
            turn.sent.acquire(blocking=False)  # of one that was given up
            turn.must_send = True
            self._ring(turn)
            if not self._patience.wait(turn.sent, teardown=False):
                self._undelivered = ["the last numbers (no answer)"]
        self._say_undelivered()

    def _say_undelivered(self) -> None:
        if self._undelivered:
            where = self.wanted.endpoint if self.wanted is not None else "the program's own provider"
            guard.say(f"telemetry was not delivered to {where} within {self.seconds:g} s: {', '.join(self._undelivered)}")

    def stop(self) -> None:
        """End the thread: the agent is taken out."""
        self.numbers.active = False
        _active.clear()
        self._unwatch()
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.over = True
            self._ring(turn)
            turn.ended.acquire(timeout=FORK_SECONDS)
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None

    def _stop(self, seconds: float) -> bool:
        """End the thread if it does so in time; if not, it goes on."""
        turn = self._turn
        if turn is None:
            return True
        turn.over = True
        self._ring(turn)
        end = time.monotonic() + seconds
        if not turn.ended.acquire(timeout=seconds):
            if turn.bell.acquire(blocking=False):
                turn.over = False
                return False
            turn.ended.acquire(timeout=seconds)
        self._turn = None
        # It has left Python, and is not yet gone from what the kernel counts.
        while os.path.exists(f"/proc/self/task/{turn.native_id}") and time.monotonic() < end:
            time.sleep(0.0002)
        return True

    # -- fork --------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """End the thread, so that the fork neither copies what it holds nor warns because of it."""
        self._forking = True
        turn = self._turn
        if turn is None or turn.native_id == _thread.get_native_id():
            return
        if self._stop(FORK_SECONDS_LOADING if turn.loaded.locked() else FORK_SECONDS):
            import gc

            self._again = True
            self._collector = gc
            if self._on_collection not in gc.callbacks:
                gc.callbacks.append(self._on_collection)

    def after_fork(self) -> None:
        """Let the thread be started again in the parent, but not yet: the threads are counted right after this."""
        self._forking = False

    def forked(self) -> None:
        """Begin anew in a child: nothing of the parent's pipeline is touched any more, since its locks may be locked for good."""
        self._forking = False
        self.numbers.forget()
        giving_up.forked()
        # What was being imported can't be imported any more.
        self._off = self._off or (self._turn is not None and self._turn.loaded.locked())
        self._turn = None
        self._forked = True
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None
        self._patience = self._patience.renewed()
        self._given_up = False
        self._last = None
        self._undelivered = []
        if self.wanted is not None:
            self._pipeline = None
        self._unwatch()
        if not self._off:
            self._start()

    def _on_collection(self, phase: str, _info: dict[str, int]) -> None:
        # A collection may come between the hooks of a fork and the fork itself: a child would have a thread that has never begun.
        if self._again and not self._forking and phase == "stop" and not sys.is_finalizing():
            self._start()

    def _unwatch(self) -> None:
        self._again = False
        if self._collector is not None and self._on_collection in self._collector.callbacks:
            self._collector.callbacks.remove(self._on_collection)


def _starting() -> bool:
    """Say whether the interpreter is still looking for its packages."""
    site = sys.modules.get("site")
    return site is not None and interpreter.is_being_imported(site)
