"""Where the agent stays off, and says so: what it relies upon does not hold there.

The problem.  Three surroundings take away what everything here is built on.

- gevent and eventlet replace the functions of `_thread`: a thread is then a greenlet of the one real thread, and whoever waits outside of
  their hub waits for ever.  The agent's own threads would stop the whole program (measured with gevent 26.9 and eventlet 0.41: the
  first pool hung), and what it knows of threads, pools and signals is not true there.
- A subinterpreter has no signals, and an isolated one neither daemon threads nor fork nor extension modules of the older kind (PEP 684).
- In a free-threaded build the lists that are written without a lock, and the proof by counting references, were never tried.

What does not work.  Copies of the real functions, kept from before the patch: the agent's threads would run, but at the end it waits
in the main thread for the program's threads, and those only run while the main thread is in the hub.

What we do.  gevent tells its subscribers before it patches a module (`gevent.events`); eventlet's ``monkey_patch`` is
wrapped.  Right before threads are patched the agent takes itself out, as `leakagent.uninstall` does; sockets alone may be patched.  Who comes
later (`leakagent.install` behind the patch) finds the functions changed.  In the other two the agent does not start.  One line says so.

What is still open.  Programs of the public module ``concurrent.interpreters`` (3.14) are told by the main interpreter, once.
Before, each subinterpreter says it, since nothing but private modules and C code (mod_wsgi) makes one.
"""

from __future__ import annotations

import os
import sys

from leakagent import config, guard
from leakagent.shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from leakagent.instrumentation.importhook import ImportHook
    from leakagent.instrumentation.patching import Patches

_PART = "surroundings"
_GREEN = "has made threads green, and leakagent needs real ones"
_SUBINTERPRETERS = "subinterpreters are not watched: leakagent stays in the main interpreter"


def why_off() -> str:
    """Return why the agent can't work in this interpreter, as the end of a sentence; empty if it can."""
    if not interpreter.is_main_interpreter():
        return "it is a subinterpreter, and leakagent stays in the main one"
    if not interpreter.has_gil():
        return "Python runs without its global lock, which leakagent was not tested with (PYTHON_GIL=1 brings it back)"
    if interpreter.has_green_threads():
        return f"somebody (gevent, eventlet) {_GREEN}"
    return ""


def may_start(*, quiet: bool = False) -> bool:
    """Say whether the agent can work in this interpreter, and tell the user if it can't.

    Args:
        quiet: Not where the main interpreter has told it for all.

    """
    why = why_off()
    if why and not (quiet and not interpreter.is_main_interpreter() and sys.version_info >= (3, 14)):
        guard.say(f"off in this interpreter: {why}")
    return not why


class Surroundings:
    """Watches for what changes them while the program runs."""

    def __init__(self, hook: ImportHook, patches: Patches, leave: Callable[[], None]) -> None:
        """Watch imports; ``leave`` takes the agent out of the process."""
        self._hook = hook
        self._patches = patches
        self._leave = leave
        self._subscribers: list[Any] | None = None

    def watch(self) -> None:
        """Begin."""
        self._hook.when_imported("gevent.events", _PART, self._gevent_arrived)
        self._hook.when_imported("eventlet", _PART, self._eventlet_arrived)
        self._hook.when_imported("concurrent.interpreters", _PART, self._interpreters_arrived)

    def stop(self) -> None:
        """Leave gevent's list of subscribers."""
        if self._subscribers is not None and self._before_patch in self._subscribers:
            self._subscribers.remove(self._before_patch)

    def _gevent_arrived(self, module: ModuleType) -> None:
        self._subscribers = module.subscribers
        module.subscribers.append(self._before_patch)

    def _before_patch(self, event: object) -> None:
        """Take any of gevent's events (``GeventWillPatchModuleEvent`` of its documentation)."""
        if type(event).__name__ == "GeventWillPatchModuleEvent" and getattr(event, "module_name", "") in {"_thread", "threading"}:
            guard.call(_PART, self._go, "gevent")

    def _eventlet_arrived(self, module: ModuleType) -> None:
        self._patches.replace(module, "monkey_patch", self._make_monkey_patch)
        self._patches.replace(module.patcher, "monkey_patch", self._make_monkey_patch)

    def _make_monkey_patch(self, original: Callable[..., None]) -> Callable[..., None]:
        def monkey_patch(**on: object) -> None:
            # As eventlet reads its arguments: all of them, unless some are named.
            if on.get("thread", on.get("all", True not in on.values())):
                guard.call(_PART, self._go, "eventlet")
            original(**on)

        return monkey_patch

    def _interpreters_arrived(self, module: ModuleType) -> None:
        def make(original: Callable[[], object]) -> Callable[[], object]:
            def create() -> object:
                guard.say(_SUBINTERPRETERS)
                return original()

            return create

        self._patches.replace(module, "create", make)

    def _go(self, who: str) -> None:
        self._leave()
        # Also in a child: whoever has started it has real threads, and does not know.
        guard.say(f"off in this process: {who} {_GREEN}", at_any_rate=True)
        # Python children stay children: they print nothing.
        os.environ.setdefault(config.ROOT_VARIABLE, config.root_marker())
