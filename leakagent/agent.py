"""Composition root: builds the parts in order, and is the only module that knows them all."""

from __future__ import annotations

import os
import sys
import time

from . import config, guard, instrumentation
from .core.findings import BLOCKS_EXIT
from .core.records import THREAD_POOL
from .core.registry import Registry
from .instrumentation import LOOPS, PARTS, SERVERS, STARTERS, TARGETS, WATCHED
from .instrumentation.importhook import ImportHook
from .instrumentation.patching import Patches, hide_frames
from .instrumentation.plugins import PluginError, Plugins
from .instrumentation.protocol import Instrumentation
from .shutdown import interpreter
from .shutdown.noticer import COMPUTING, noticer
from .shutdown.signals import Signals, state
from .surroundings import Surroundings, may_start
from .watcher import watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from .config import Settings
    from .core.findings import Finding
    from .detect.stalled import Stall
    from .ending import Ending
    from .instrumentation.growing import Growing, Growth
    from .instrumentation.plugins import Plugin
    from .live.server import Live
    from .owners import Owners
    from .processes.parent_watch import ParentWatch
    from .samples import Samples
    from .telemetry.worker import Telemetry
    from .watcher import Watcher

#: Records from which on a program without event loops and executors is watched for growth.
GROWING_FROM = 8

_current: list[Agent] = []
_fork_hook: list[bool] = []
_end_hooks: dict[str, Any] = {}


class Agent:
    """The agent of one process.

    Attributes:
        settings: What the user asked for.
        owner: What activated it: ``environment``, ``command line``, ``code`` or ``attach``.
        child: Whether a process above this one carries the agent as well; a child prints nothing.
        late: Whether there was such a process that had ended before this one started.
        base: Working folder at the start; the program's own paths are shown relative to it.

    """

    def __init__(self, settings: Settings, owner: str) -> None:
        """Build the parts; nothing is patched before `start`."""
        self.settings = settings
        self.owner = owner
        self.pid = os.getpid()
        self.child = config.is_child(os.environ)
        self.late = not self.child and os.environ.get(config.ROOT_VARIABLE, "") not in {"", config.root_marker()}
        if self.child:
            guard.be_silent()
        self.started = time.time()
        self.base = _working_folder()
        self.hook = ImportHook()
        self.patches = Patches()
        self.surroundings = Surroundings(self.hook, self.patches, self.leave)
        self.registry = Registry(settings.level)
        self.parts: dict[str, Any] = {}
        self.plugins = Plugins(self.hook, self._plugin_arrived)
        self.seconds = 0.0
        self.status: int | None = None
        #: Status of the main thread's last call of ``sys.exit``, and the uncaught exception that was known by then.
        self.exit_called: list[tuple[int, BaseException | None]] = []
        self._main_ended = False
        self.signals = Signals(lambda: self.ending().watch(), lambda: self.ending().arm())
        #: Jobs that were queued and running in each pool when the workers were told to end, by record.
        self.busy_jobs: dict[int, tuple[int, int]] = {}
        self._offers = False
        #: Fingerprints that were told while the program runs.
        self.told_live: set[str] = set()
        #: What outlived a `leakagent.scope`, by fingerprint.
        self.scoped: dict[str, Finding] = {}
        #: Who has created what, while somebody wants to know (`leakagent.owners`).
        self.owners: Owners | None = None
        #: What watches the process that started this one, in children that serve nobody else.
        self.watch: ParentWatch | None = None
        #: Stalls that were told while the program runs.
        self.stalled: list[Finding] = []
        self.telemetry: Telemetry | None = None
        self._asked_why = False
        self._environment: dict[str, str | None] = {}
        self._ending: Ending | None = None
        self.live: Live | None = None
        self._samples = _is_shown_with_a_timeline(settings) and settings.level != "off" and not self.child
        self._samples_begin = False
        self._sampler: Samples | None = None
        self._offers_live = settings.live and settings.level != "off" and sys.platform == "linux"
        watcher.on_need = self._has_work
        #: Looks for sites whose live count keeps growing, once there can be any.
        self.growing: Growing | None = None
        self._grows_watched = False
        self.registry.on_add = self._added

    def _added(self) -> None:
        self._has_work()
        if len(self.registry.records) >= GROWING_FROM:
            guard.call("growth", self._watch_growth)
            watcher.needed()

    def start(self) -> None:
        """Watch imports, patch what is there already, and register the ends."""
        import atexit

        self._mark_environment()
        atexit.register(self.last)
        self.hook.enable()
        guard.call("surroundings", self.surroundings.watch)
        if self.settings.level != "off":
            self._instrument()
        # Callbacks run in reverse order, so each is registered right after that of the module it has to run before.
        for name, callback in (
            ("threading", "before_join"),
            ("concurrent.futures.thread", "before_workers_join"),
            ("concurrent.futures.process", "main_has_ended"),
        ):
            self.hook.when_imported(name, "exit", lambda module, callback=callback: _register(callback, module))  # type: ignore[misc]
        if self._watches_exit():
            self.patches.replace(sys, "exit", self._make_exit)
            quitter = interpreter.console_quitter()
            if quitter is not None:
                self.patches.replace(quitter, "__call__", self._make_quit)
        self.signals.take()
        self.signals.offer_noticer(self.settings.budget, lambda: self.ending().cut_off())
        self.hook.when_imported("signal", "exit", self._patch_signal)
        for name in LOOPS:
            self.hook.when_imported(name, "loop signals", lambda module: self.arrived("loop signals", module))
        for name in COMPUTING:
            self.hook.when_imported(name, noticer.part, lambda _module: noticer.needed())
        if hasattr(os, "register_at_fork") and not _fork_hook:
            _fork_hook.append(True)
            os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)
        if self.settings.otel != "off":
            guard.call("telemetry", self._start_telemetry)

    def adopt(self, look: Callable[[Agent], dict[str, int]]) -> dict[str, int]:
        """Take up what was there before the agent, and let the process be asked at once; `leakagent.adopting` looks."""
        found = guard.call("attach", look, self) or {}
        watcher.needed()
        return found

    def _start_telemetry(self) -> None:
        from_variables = self.settings.otel == "auto"
        if from_variables and not any(name.startswith("OTEL_") for name in os.environ):
            return
        from .telemetry.numbers import Numbers
        from .telemetry.wanted import LOGS, Wanted
        from .telemetry.worker import Telemetry

        wanted = Wanted(os.environ)
        for problem in wanted.problems if from_variables else ():
            guard.say(problem)
        if from_variables and not wanted.exporters:
            return
        numbers = Numbers(self.registry, self.parts, self._found_so_far, base=self.base, memory=self.settings.otel_memory)
        seconds, logs = self.settings.otel_wait, LOGS in wanted.exporters
        self.telemetry = Telemetry(wanted if from_variables else None, numbers, seconds, logs=logs)
        self.telemetry.start()
        # No exit handler runs there.
        self.patches.replace(os, "_exit", self._make_leave)
        for name in ("execv", "execve"):
            if hasattr(os, name):
                self.patches.replace(os, name, self._make_become)

    def _make_leave(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def _exit(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - takes the place of `os._exit`
            self._send_first()
            return original(*arguments, **named)

        return _exit

    def _make_become(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def execute(path: Any, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - takes the place of `os.execv`
            # `os.execvp` tries every folder of the path.
            if isinstance(path, int) or os.access(path, os.X_OK):
                self._send_first()
            try:
                return original(path, *arguments, **named)
            except BaseException as error:
                hide_frames(error)
                raise

        return execute

    @guard.guarded("telemetry")
    def _send_first(self) -> None:
        if self.telemetry is not None and self.is_active():
            self.telemetry.flush()

    def _found_so_far(self) -> list[Finding]:
        return self.new_ending().so_far()

    def _instrument(self) -> None:
        for name, part in TARGETS.items():
            self.hook.when_imported(name, part, lambda module, part=part: self.arrived(part, module))  # type: ignore[misc]
        self.plugins.watch(at_once=self.owner == "code")
        for name in WATCHED:
            self.hook.when_imported(name, "stalls", self._watch)
        for name in STARTERS if self.settings.orphans == "end" else ():
            self.hook.when_imported(name, "parent watch", self._starter_arrived)

    def _has_work(self) -> None:
        """Start what a program gets with its first piece of background work."""
        guard.call(noticer.part, noticer.needed)
        if self._offers_live:
            guard.call("live", self._offer_live)
        if self._samples:
            guard.call("timeline", self._take_samples)

    def _take_samples(self) -> None:
        if self._sampler is None and self.is_active():
            if self._samples_begin:
                return  # a finalizer or a signal in the middle of the import below
            self._samples_begin = True
            from .samples import samples

            samples.offer(self.registry)
            self._sampler = samples
        if self._sampler is not None:
            self._sampler.needed()

    def timeline(self) -> list[tuple[float, int, dict[str, int]]]:
        """Return what `leakagent.samples` has seen, and how it is now; nothing if nobody wants to see it."""
        if self._sampler is None:
            return []
        guard.call("timeline", self._sampler.take)
        return list(self._sampler.taken)

    def _others(self) -> list[Watcher]:
        """Return the agent's threads besides the one that looks for stalls."""
        return [thread for thread in (self.live, self._sampler) if thread is not None]

    def _offer_live(self) -> None:
        """Let the process be asked what it does (`leakagent.live.server`), from the first piece of background work on."""
        if self.live is None and self.is_active():
            if self._offers:
                return  # a finalizer or a signal in the middle of the imports below
            self._offers = True
            from .live.server import live
            from .looking import answers

            self.live = live
            live.offer(answers(self))
        if self.live is not None:
            self.live.needed()

    def _end_live(self) -> None:
        for thread in self._others():
            thread.end()

    def _watch(self, module: ModuleType) -> None:
        self.arrived("stalls", module)
        self.parts["stalls"].start(self.parts.get("asyncio"), self._stalled)
        guard.call("growth", self._watch_growth)

    def _watch_growth(self) -> None:
        if not self._grows_watched and self.settings.level != "count":
            self._grows_watched = True  # before a finalizer in the middle of the import comes here
            from .instrumentation.growing import Growing

            self.growing = Growing(self.registry, self.parts, self._grows)
            self.growing.start(self.settings.stalled_after)

    def _grows(self, growth: Growth) -> None:
        if self.is_active() and not self.child:
            from .telling import growth_finding, tell_finding

            tell_finding(self, growth_finding(self, growth))

    def _stalled(self, stall: Stall) -> None:
        """Tell at once what makes no progress, since the program may never come to its end; called by the watcher."""
        if not self.child:
            self._seen(stall)

    def _seen(self, stall: Stall) -> None:
        """Tell what a part for clients has seen; in a child only what is about to hang, of which nobody else is going to hear."""
        if self.is_active() and (not self.child or stall.reason == BLOCKS_EXIT):
            from .telling import tell

            tell(self, stall)

    def interrupted(self) -> None:
        """Say, once, why the process does not end: Ctrl+C has come while the agent or Python waits for something at its end.

        No handler: the exception passes through those who wait, and they call this (SIGINT is Python's).
        """
        if self.is_active() and not self.child and not self._asked_why:
            self._asked_why = True
            from .telling import tell_why

            guard.call("why", tell_why, self)

    def _starter_arrived(self, module: ModuleType) -> None:
        from .instrumentation import starters

        starters.patch(module, self.patches, self._watch_starter)

    def _watch_starter(self, starter: int) -> None:
        if not self.is_active():
            return
        from .processes.parent_watch import ParentWatch

        if self.watch is None:
            self.watch = ParentWatch(self.signals, self.settings.grace, self.main_has_ended)
        self.watch.start(starter)

    def _plugin_arrived(self, plugin: Plugin, module: ModuleType) -> None:
        if plugin.part in guard.disabled:
            return
        if plugin.part not in self.parts:
            owner = plugin.load()
            taken = next((kind for kind in owner.kinds if self.client_part(kind) is not None), None)
            if taken is not None:
                message = f"another plug-in has the kind {taken}"
                raise PluginError(message)
            made = owner(self.registry, self.settings)
            made.part, made.tell = plugin.part, self._seen
            self.parts[plugin.part] = made
        self.parts[plugin.part].arrived(module, self.patches)

    def arrived(self, part: str, module: ModuleType) -> None:
        """Load a part when the first of its targets arrives, and have it patch the module."""
        if part not in self.parts:
            name, made = PARTS[part]
            package = __import__(f"{instrumentation.__name__}.{name}", fromlist=[made])
            self.parts[part] = getattr(package, made)(self.registry, self.settings)
            self._connect(part)
        missing = interpreter.missing_of(module)
        if missing and part not in guard.disabled:
            guard.unfit(part, missing)
        if part not in guard.disabled:
            self.parts[part].arrived(module, self.patches)

    def _connect(self, part: str) -> None:
        """Give a new part what it needs of the others."""
        if isinstance(self.parts[part], Instrumentation):
            self.parts[part].part, self.parts[part].tell = part, self._seen
        if part == "loky":
            self.parts[part].main_has_ended = self.main_has_ended
        if part == "asyncio":
            self.parts[part].interrupted = self.interrupted
        if part == "processes":
            # A program that waits for its child itself knows why.
            self.parts[part].interrupted = lambda: self.interrupted() if self.signals.main_has_ended else None
        if part == "billiard":
            self.parts[part].leaves = self.leaves
        if part == "executors":
            self.parts[part].end_loops = lambda threads: self.ending().end_loops(threads)
        if part == "loop signals":
            self.parts[part].signals = self.signals
        if part in SERVERS:
            self.parts[part].ending, self.parts[part].signals = self.ending, self.signals
            self.parts[part].interrupted = self.interrupted

    def _is_used(self) -> bool:
        return any(not isinstance(part, Instrumentation) or part.is_used() for part in self.parts.values())

    def clients(self) -> dict[str, Instrumentation]:
        """Return the parts that know clients and connections, by name."""
        return {name: part for name, part in self.parts.items() if isinstance(part, Instrumentation)}

    def client_part(self, kind: str) -> Instrumentation | None:
        """Return the one of them that tracks this kind."""
        return next((part for part in self.clients().values() if kind in part.kinds), None)

    def stop(self) -> None:
        """Undo everything; what was tracked is forgotten."""
        import atexit

        atexit.unregister(self.last)
        self.signals.give_back()
        watcher.end()
        noticer.end()
        if self.telemetry is not None:
            self.telemetry.stop()
        self._end_live()
        if "subprocesses" in self.parts:
            self.parts["subprocesses"].dismiss()
        self.hook.disable()
        guard.call("surroundings", self.surroundings.stop)
        if "asyncio" in self.parts:
            self.parts["asyncio"].stop()
        self.patches.undo()
        self.registry.forget()
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._environment = {}

    def leave(self) -> None:
        """Take the agent out of the process if it is active: it can't work there any more."""
        if self.is_active():
            _current.pop().stop()

    def _mark_environment(self) -> None:
        wanted = {} if self.child else {config.ROOT_VARIABLE: config.root_marker()}
        if self.owner != "environment":
            wanted["LEAKAGENT"] = "1"
        for name, value in wanted.items():
            self._environment[name] = os.environ.get(name)
            os.environ[name] = value

    def _must_know_status(self) -> bool:
        return self.settings.fail_on_leak or ":" in self.settings.report

    def _watches_exit(self) -> bool:
        return self.owner != "command line" and self._must_know_status()

    def _make_exit(self, original: Any) -> Any:  # noqa: ANN401 - sys.exit
        def exit(status: object = None, /) -> Any:  # noqa: A001, ANN401 - takes the place of sys.exit
            guard.call("exit status", self._exits, status)
            try:
                original(status)
            except BaseException as error:
                hide_frames(error)
                raise

        return exit

    def _make_quit(self, original: Any) -> Any:  # noqa: ANN401 - the builtin ``exit`` and ``quit``, which don't call sys.exit
        def __call__(quitter: object, code: object = None) -> Any:  # noqa: ANN401, N807 - takes the place of the method
            guard.call("exit status", self._exits, code)
            try:
                original(quitter, code)
            except BaseException as error:
                hide_frames(error)
                raise

        return __call__

    def _exits(self, code: object) -> None:
        # In another thread it ends that thread only, in an exit handler nothing at all.
        if interpreter.in_main_thread() and not self._main_ended:
            self.exit_called[:] = [(status_of(code), _uncaught())]

    def _patch_signal(self, module: ModuleType) -> None:
        self.patches.replace(module, "raise_signal", self._make_raise)
        self.patches.replace(module, "set_wakeup_fd", noticer.make_set)

    def _make_raise(self, original: Callable[[int], None]) -> Callable[[int], None]:
        """Look and tell before a program ends itself by a signal that it has handled, as uvicorn and its workers do."""

        def raise_signal(signalnum: int, /) -> None:
            state.raised = state.raised or self.signals.has_taken(signalnum)
            if interpreter.dies_by(signalnum):
                guard.call("end of the program", self.dies, signalnum)
            try:
                original(signalnum)
            except BaseException as error:
                hide_frames(error)
                raise

        return raise_signal

    # -- the ends ----------------------------------------------------------------------------------------------------

    def ending(self) -> Ending:
        """Return what runs the end of this process."""
        if self._ending is None:
            made = self.new_ending()
            # The handler of a signal asks for it in another thread.
            if self._ending is None:
                self._ending = made
        return self._ending

    def new_ending(self) -> Ending:
        """Return one for a call of `shutdown`, after which the program goes on and has its own end."""
        from .ending import Ending

        return Ending(self)

    def is_active(self) -> bool:
        """Say whether this agent is the one in force in this process."""
        return bool(_current) and _current[0] is self and self.pid == os.getpid()

    @guard.guarded("end of the program")
    def main_has_ended(self) -> None:
        """Note what is there when the main thread has ended (`leakagent.shutdown.closing`)."""
        self.signals.main_has_ended = True
        if not self._has_nothing_to_end():
            self._at_the_end(lambda: self.ending().note())

    @guard.guarded("end of the program")
    def before_workers_join(self) -> None:
        """Wait for the workers of executors, in place of Python, which would wait for stuck ones for ever."""
        self.signals.main_has_ended = True
        self._prepare_telemetry()
        # Before anything is loaded: in the meantime jobs would be accepted that Python alone would refuse.
        self._at_the_end(self._wait_for_workers)

    def _wait_for_workers(self) -> None:
        # Workers that were not told to end can't be waited for.
        self._end_workers()
        if not self._has_nothing_to_end():
            self.ending().wait_for_workers()

    def _end_workers(self) -> None:
        if not self.busy_jobs:
            pools = [record for record in self.registry.of_kind(THREAD_POOL) if record.resource() is not None]
            self.busy_jobs = {record.id: interpreter.pool_load(record.resource()) for record in pools}
        interpreter.end_workers()

    @guard.guarded("end of the program")
    def before_join(self) -> None:
        """Prepare the join of the other threads; in a child of multiprocessing, which has no exit handlers, end as well."""
        self._main_ended = self.signals.main_has_ended = True
        self._prepare_telemetry()
        if not self._has_nothing_to_end():
            self._at_the_end(lambda: self.ending().before_join(self.last if interpreter.is_multiprocessing_child() else None))

    def _prepare_telemetry(self) -> None:
        if self.telemetry is not None and self.is_active():
            guard.call("telemetry", self.telemetry.prepare)

    def _has_nothing_to_end(self) -> bool:
        """Say whether this is a child that has made nothing: most are, and their end takes no longer than without the agent."""
        return bool(guard.call("end of the program", self._made_nothing))

    def _made_nothing(self) -> bool:
        threading: Any = sys.modules.get("threading")
        return bool(
            self.child
            and self.registry.is_unused()
            and not (guard.disabled or self._ending or self.telemetry or self._must_know_status())
            and not SERVERS.intersection(self.parts)
            and not any(part.is_used() for part in self.clients().values())
            and not (state.number or state.is_asked or self.exit_status()[1] or (self.watch and self.watch.gone_since))
            and (threading is None or threading.active_count() == 1)
        )

    @guard.guarded("end of the program")
    def last(self) -> None:
        """Run the second part of the end; a program that loaded nothing of interest has none."""
        self.signals.main_has_ended = True
        guard.call("watcher", watcher.end)
        guard.call("live", self._end_live)
        is_needed = (
            guard.call("end of the program", self._is_used) is not False
            or self._must_know_status()
            or state.number
            or self.telemetry is not None
        )
        if is_needed and not self._has_nothing_to_end():
            self._at_the_end(lambda: self.ending().last())
        guard.call(noticer.part, noticer.end)

    def _at_the_end(self, step: Callable[[], None]) -> None:
        def run() -> None:
            if self.is_active():
                step()

        # All of it is guarded, since even the import of a module can fail by then.
        guard.call("end of the program", run)

    def dies(self, signalnum: int) -> None:
        """Run the second part of the end right before a signal ends the process: nothing else of it will run."""
        if self.is_active() and self.parts:
            self.status = -signalnum
            self.ending().last(killed=True)

    def leaves(self) -> None:
        """Look and tell in a child that is about to call ``os._exit`` by itself: nothing else of its end will run."""
        if self.child:
            self._at_the_end(lambda: self.ending().last(killed=True))

    def forked(self) -> None:
        """Start afresh in a forked child: its parent's resources are none of its own."""
        self.pid = os.getpid()
        self.child = True
        self._samples = False
        guard.be_silent()
        self.started = time.time()
        self.status = None
        self.exit_called.clear()
        self._main_ended = False
        self.busy_jobs = {}
        self.scoped = {}
        self.stalled = []
        self._ending = None
        self.signals.forked()
        for thread in self._others():
            thread.forked()
        if self.watch is not None:
            self.watch.forked()
        self._parts_forked()
        if self.growing is not None:
            self.growing.forget()
        if "leakagent.processes.ledger" in sys.modules:
            sys.modules["leakagent.processes.ledger"].own.forked()
        guard.disabled.clear()
        if self.telemetry is not None:
            self.telemetry.forked()

    def _parts_forked(self) -> None:
        for name, client in self.clients().items():
            guard.call(name, client.forked)
        self.registry.forget()
        if "asyncio" in self.parts:
            self.parts["asyncio"].forget()
        if "stalls" in self.parts:
            self.parts["stalls"].forget()
        for name, part in self.parts.items():
            if hasattr(part, "forked") and not isinstance(part, Instrumentation):
                guard.call(name, part.forked)

    def exit_status(self) -> tuple[int | None, int | None]:
        """Return exit status and signal that the program ends with, as far as they can be known."""
        if state.number:
            return None, state.number
        if self.status is not None:
            return (None, -self.status) if self.status < 0 else (self.status, None)
        called, known = self.exit_called[0] if self.exit_called else (0, None)
        error = _uncaught()
        # A test runner or a console keeps the last error of its own there before it calls sys.exit.
        if error is not None and error is not known:
            return (None, 2) if isinstance(error, KeyboardInterrupt) else (1, None)
        return (called if self._watches_exit() else None), None


def _register(name: str, module: ModuleType) -> None:
    """Have a method of the agent in force run at the end: once for each time that ``module`` is loaded, since it can't be undone."""
    if _end_hooks.get(name) is not module.__spec__ and interpreter.register_before_join(
        lambda: _current and getattr(_current[0], name)()
    ):
        _end_hooks[name] = module.__spec__


def status_of(code: object) -> int:
    """Return the exit status that ``sys.exit(code)`` ends with (documentation of `sys.exit`)."""
    if code is None:
        return 0
    if not isinstance(code, int):
        return 1
    # What does not fit into a C long becomes -1 (measured on 3.10 to 3.13).
    return code & 0xFF if -sys.maxsize - 1 <= code <= sys.maxsize else 0xFF


def _uncaught() -> BaseException | None:
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


def _is_shown_with_a_timeline(settings: Settings) -> bool:
    return any(part.strip().partition(":")[0] in {"html", "json"} for part in settings.report.split(","))


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # the folder was removed
        return ""


def _load_for_children() -> None:
    """Load what the end of every child needs, once here and not in every child (5 ms of 8 that a forked child took longer)."""
    from . import ending  # noqa: F401
    from .processes import parent_watch  # noqa: F401


@guard.guarded("fork")
def _before_fork() -> None:
    if _current:
        if _current[0].parts:
            guard.call("fork", _load_for_children)
        if _current[0].watch is not None:
            guard.call("parent watch", _current[0].watch.before_fork)
        guard.call("fork", _current[0].signals.before_fork)
        guard.call("fork", watcher.before_fork)
        guard.call("fork", noticer.before_fork)
        for thread in _current[0]._others():  # noqa: SLF001 - of this module
            guard.call("fork", thread.before_fork)


@guard.guarded("fork")
def _after_fork_in_parent() -> None:
    if _current:
        guard.call("fork", watcher.after_fork)
        guard.call("fork", noticer.after_fork)
        for thread in _current[0]._others():  # noqa: SLF001
            guard.call("fork", thread.after_fork)
        if _current[0].telemetry is not None:
            guard.call("telemetry", _current[0].telemetry.after_fork)
        guard.call("fork", _current[0].signals.after_fork)
        if _current[0].watch is not None:
            guard.call("parent watch", _current[0].watch.after_fork)


@guard.guarded("fork")
def _after_fork() -> None:
    if _current:
        # Whatever fails here is handed over to the process that the user started, which tells it.
        guard.be_silent()
    guard.call("watcher", watcher.forked)
    guard.call("fork", noticer.forked)
    if _current:
        guard.call("fork", _current[0].forked)
        guard.call("fork", _current[0].signals.after_fork)
        if "fork" in guard.disabled:
            # It would tell its parent's resources as its own.
            _current.clear()


def start(settings: Settings, owner: str) -> Agent:
    """Start the agent of this process, in place of the one that runs; where it can't work (`leakagent.surroundings`) it does nothing."""
    if _current:
        # Started by the environment, and now by the command line, whose settings win: its parts have to know them.
        _current.pop().stop()
    agent = Agent(settings, owner)
    if guard.call("surroundings", may_start) is False:
        return agent
    _current.append(agent)
    try:
        agent.start()
    except BaseException:
        _current.clear()
        raise
    return agent


def current() -> Agent | None:
    """Return the agent of this process."""
    return _current[0] if _current else None


# -- the public functions --------------------------------------------------------------------------------------------


def install(**options: object) -> bool:
    """Start the agent in this process; resources created from now on are seen.

    Args:
        **options: Settings by name (``level="stack"``, ``report="json:leaks.json"``, ``fail_on_leak=True``, ``budget=5``):
            the names of `leakagent.config.Settings`.  They win over environment and file.

    Returns:
        True if the agent was started, False if it was active already (its settings stay), or if it stays off here: under gevent or
        eventlet, in a subinterpreter, in a free-threaded build; one line on stderr says why.

    Raises:
        TypeError: An option that does not exist.
        ValueError: A value that is not allowed; nothing was started.

    """
    environ = dict(os.environ)
    for name, value in options.items():
        if name not in config.OPTIONS:
            message = f"install() has no option {name!r} (allowed: {', '.join(config.OPTIONS)})"
            raise TypeError(message)
        text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        environ[config.variable(name)] = ("1" if text else "0") if isinstance(text, bool) else str(text)
    environ["LEAKAGENT"] = "1"
    settings, errors = config.load(environ)
    if errors:
        raise ValueError("; ".join(errors))
    if is_active():
        return False
    start(settings, "code")
    return is_active()


def uninstall() -> bool:
    """Stop the agent: every patched method becomes the identical object that it was, and nothing is reported any more.

    Returns:
        True if the agent was active.

    """
    if not is_active():
        return False
    _current.pop().stop()
    return True


def is_active() -> bool:
    """Say whether the agent runs in this process."""
    return bool(_current) and _current[0].is_active()


def snapshot() -> dict[str, Any]:
    """Return what is open now, as the JSON report's dictionary (``leakagent.report/1``); nothing is closed.

    Raises:
        RuntimeError: The agent is not active.

    """
    from .report.json_report import to_dict

    return to_dict(_require().ending().look())


def shutdown() -> dict[str, Any]:
    """Close everything now, in order, as at the end of the program, and return the report; it is not printed.

    Raises:
        RuntimeError: The agent is not active.

    """
    from .report.json_report import to_dict

    return to_dict(_require().new_ending().close_now())


def _require() -> Agent:
    if not is_active():
        message = "leakagent is not active in this process: call leakagent.install() first"
        raise RuntimeError(message)
    return _current[0]
