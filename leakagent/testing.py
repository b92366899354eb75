"""For tests: that a block leaves nothing behind (with pytest, ``--leakagent`` does it for every test), and lancedb's own loop."""

from __future__ import annotations

import functools
import inspect
import sys

from . import agent as agents
from .owners import GRACE, Owner, Owners
from .scopes import LeakError
from .shutdown.signals import state
from .surroundings import why_off

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any

    from typing_extensions import Self

    from .owners import Left

__all__ = ["LeaksFoundError", "assert_no_leaks", "restart_lancedb_loop", "stop_lancedb_loop"]


class LeaksFoundError(LeakError, AssertionError):
    """Something that was created in a block of `assert_no_leaks` is still alive after it."""

    def __str__(self) -> str:
        """Say what, where it was created, where it waits, and how to fix it."""
        return "\n".join(["left alive by " + self.scope, *self.leaks])


class assert_no_leaks:  # noqa: N801 - used like a function
    """A block, or a function, that must not leave anything behind; for ``with``, ``async with`` and as a decorator.

    Tasks, event loops, threads, executors, processes, clients and connections that are created meanwhile, by whomever, must have ended
    when the block ends or very soon after.  `leakagent.scope` asks instead who has created them.  The agent is started for the
    block if it is not active.

    Args:
        name: What the block is called in the message; by default the function's name, or ``the block``.
        grace: Seconds that what is about to end gets; looked at after 1 ms, 2 ms, ... 100 ms.
        ignore: Fingerprints, kinds, functions or ``file:line`` patterns that may be left.

    Raises:
        LeaksFoundError: At the end of the block, unless the block itself raises: an `AssertionError` and a `leakagent.LeakError`.
        TypeError: At the beginning: ``ignore`` is a single text.
        RuntimeError: A block that is entered a second time before it was left.

    """

    def __init__(self, name: str = "", *, grace: float = GRACE, ignore: Sequence[str] = ()) -> None:
        """Prepare a block."""
        if isinstance(ignore, str):
            message = f"assert_no_leaks(ignore={ignore!r}): a list of patterns is expected"
            raise TypeError(message)
        self.name = name
        self.grace = grace
        self.ignore = tuple(ignore)
        self._owners: Owners | None = None
        self._turn: Any = None
        self._owner = Owner("")
        self._started = False
        self._made = False

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Make the calls of a function, or of a coroutine function, blocks."""
        name = self.name or function.__qualname__

        def block() -> assert_no_leaks:
            return assert_no_leaks(name, grace=self.grace, ignore=self.ignore)

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the function's own
                async with block():
                    return await function(*args, **kwargs)

            return run_async

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            with block():
                return function(*args, **kwargs)

        return run

    def __enter__(self) -> Self:
        """Begin."""
        if self._owners is not None:
            message = "a block of assert_no_leaks was entered before it was left: make one for each"
            raise RuntimeError(message)
        self._started = agents.install(report="off", level="stack")
        agent = agents.current()
        if agent is None:
            message = f"leakagent is off in this interpreter: {why_off()}"
            raise RuntimeError(message)
        self._made = agent.owners is None
        self._owners = agent.owners = agent.owners or Owners(agent, Owner("the program"))
        self._owner = Owner(self.name or "the block")
        self._turn = self._owners.turn(self._owner)
        self._turn.__enter__()
        return self

    async def __aenter__(self) -> Self:
        """Begin."""
        return self.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """End, and raise if something is left."""
        left = self._end()
        try:
            if error is None and not state.interrupts and left.wait(self.grace):
                self._raise(left)
        finally:
            self._leave()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End, and raise if something is left."""
        left = self._end()
        try:
            if error is None and not state.interrupts:
                for pause in left.pauses(self.grace):
                    await sys.modules["asyncio"].sleep(pause)
                    left.look()
                if left:
                    self._raise(left)
        finally:
            self._leave()

    def _end(self) -> Left:
        self._turn.__exit__(None, None, None)
        assert self._owners is not None  # noqa: S101 - the block was entered
        return self._owners.left_of(lambda owner: owner is self._owner)

    def _leave(self) -> None:
        owners, self._owners = self._owners, None
        if self._made and owners is not None:
            owners.stop()
        if self._started:
            agents.uninstall()

    def _raise(self, left: Left) -> None:
        from .detect.leftovers import ignored
        from .report.live import render

        findings = [one for one in left.tell() if not ignored(one, self.ignore)]
        if findings:
            raise LeaksFoundError(self._owner.name, [render(one) for one in findings])


def stop_lancedb_loop(timeout: float = 5.0) -> bool:
    """Stop the background loop that ``import lancedb`` has started, and its thread, until the next call of lancedb.

    For the end of a test suite, and for checks that no thread is left.  Calls in flight are waited for, and cancelled when the time is over.
    The next synchronous call starts the loop again; connections and tables stay usable.  Where lancedb was not imported, or has no such
    loop (0.16 and older), nothing happens.

    Args:
        timeout: Seconds that calls in flight may take.

    Returns:
        True if the thread is gone; False if something keeps it, which works on then.

    Raises:
        RuntimeError: The caller runs on that very loop.

    """
    from .instrumentation import lance_loop

    return lance_loop.stop(timeout)


def restart_lancedb_loop() -> bool:
    """Start lancedb's background loop again after `stop_lancedb_loop`, or after somebody else has stopped it.

    Returns:
        True if it was started; False if it runs already, or there is none.

    """
    from .instrumentation import lance_loop

    return lance_loop.restart()
