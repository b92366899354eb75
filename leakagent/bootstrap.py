"""The start-up hook: decides, in every interpreter that starts with ``LEAKAGENT`` set, whether the agent belongs there.

The problem.  A hook in site-packages runs in every Python of the environment: the program, its children, pip, editors,
helper processes of the standard library.  It runs before the program, so that whatever it imports is paid by everybody,
and an exception in it spoils the start of an interpreter that has nothing to do with us.  In a virtual environment it can
even run twice per process (measured on 3.10 to 3.13).

What does not work.  ``sitecustomize`` alone: the first one on the path hides all others, and `opentelemetry-instrument`
brings one.  A ``.pth`` that imports a module which then looks at the variable: costs a third of an interpreter start for
everybody who does not want the agent.  Deciding by command line what to patch: programs start programs.

What we do.  ``leakagent.pth`` tests the variable in the hook line itself and calls `start` only if it is set; Python 3.15 reads
``leakagent.start`` in its place (PEP 829), which can only name a function: one in a module of a few lines that tests it.  `start` uses the standard library's already loaded modules, runs once per process, never
raises, and knows two kinds of helper process: multiprocessing's resource tracker, which is left alone for good, and its
fork server, which is left alone itself but whose forked children are the program's, so that the agent starts in them.

What is still open.  ``python -S`` and frozen programs run no hook: they need ``python -m leakagent`` or
`leakagent.install`.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .config import Settings

_state = {"started": False}

# From 3.14.8 on "import sys; " stands in front (multiprocessing.forkserver.ForkServer.ensure_running).
_TRACKERS = ("from multiprocessing.resource_tracker import", "import sys; from multiprocessing.resource_tracker import")
#: loky's own, which joblib also brings a copy of (loky.backend.resource_tracker.ResourceTracker).
_LOKY_TRACKER = "loky.backend.resource_tracker import main"
_FORK_SERVER = ("from multiprocessing.forkserver import", "import sys; from multiprocessing.forkserver import")


def start() -> None:
    """Start the agent in this process if ``LEAKAGENT`` asks for it; never raises, works once per process."""
    if _state["started"]:
        return
    _state["started"] = True
    try:
        _start()
    except Exception as error:  # noqa: BLE001 - the interpreter must start whatever happens here
        from .guard import failed

        failed("start-up", error)


def _start() -> None:
    code = _code_argument()
    if code.startswith(_TRACKERS) or (code.startswith("from ") and _LOKY_TRACKER in code[:100]):
        return
    from . import config, guard

    settings, errors = config.load()
    if not settings.enabled and not errors:
        return
    if not config.is_child(os.environ):
        for error in errors:
            guard.say(error)
    if not settings.enabled:
        # Children must not repeat the line.
        os.environ.setdefault(config.ROOT_VARIABLE, config.root_marker())
        return
    from .surroundings import may_start

    if config.is_child(os.environ):
        guard.be_silent()
    if guard.call("surroundings", lambda: may_start(quiet=True)) is False:
        return
    if code.startswith(_FORK_SERVER):
        os.register_at_fork(after_in_child=lambda: _install(settings))
        return
    _install(settings)


def _install(settings: Settings) -> None:
    from . import agent

    agent.start(settings, owner="environment")


def _code_argument() -> str:
    """Return the text behind ``-c`` of this interpreter's command line; the standard library's helpers are started so."""
    arguments = iter(sys.orig_argv[1:])
    for argument in arguments:
        if argument == "-c":
            return next(arguments, "")
        if argument in {"-X", "-W"}:
            next(arguments, "")
        elif not argument.startswith("-"):
            break
    return ""
