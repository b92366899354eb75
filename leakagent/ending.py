"""The end of one process: looks at what is left, closes it, and tells.  `leakagent.shutdown.closing` says when and why."""

from __future__ import annotations

import _thread
import os
import sys
import time

from . import __version__, config, guard, leftovers
from .core import findings as f
from .core.findings import Finding, Report
from .core.records import DROPPED, PROCESS_POOL, THREAD, THREAD_POOL, Record
from .core.sites import shown_path
from .detect.leftovers import finding_of, ignored, pool_is_a_leak, task_is_a_leak
from .instrumentation import SERVERS
from .processes import family
from .shutdown import interpreter
from .shutdown.closing import (
    CHILD_SECONDS,
    CLIENT_SECONDS,
    GIVEN_UP,
    LOOK_AFTER,
    QUIET_SHARE,
    Stages,
    end_processes,
    in_time,
    wait_like_python,
)
from .shutdown.signals import die_by, state
from .shutdown.watchdog import Watchdog
from .telling import chain_text, growths_of, seen_by_clients, stalls_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterable
    from threading import Thread
    from typing import Any

    from .agent import Agent
    from .instrumentation.protocol import Instrumentation
    from .instrumentation.task_notes import Observation

#: Exit status with ``--fail-on-leak``.
LEAK_STATUS = 23

_NOT_SEEN = (
    "no line of the program was seen making it (a server's handler, run_coroutine_threadsafe, asyncio.Task(...) itself, or before "
    "leakagent): the line is that of its coroutine"
)

#: What to write where a thread runs an event loop.
_FIX_LOOP = "loop.call_soon_threadsafe(loop.stop) (or cancel its main task), then thread.join(), when the program ends"

_ADOPTED = "made before leakagent was attached, nobody saw where"
_FIRST_LINE = ": the line is the first of what it runs"


class Ending:
    """What happens at the end of one process, each part once."""

    def __init__(self, agent: Agent) -> None:
        """Prepare the end of the process of ``agent``."""
        self.agent = agent
        self.stages = Stages(agent.settings.budget, agent.interrupted)
        self.watchdog = Watchdog(self)
        self._noted = False
        self._finished = False
        self._busy_jobs: dict[int, tuple[int, int]] = {}
        self._missing_results: dict[int, int] = {}
        self._children: list[tuple[Record, float]] = []
        self._stuck: dict[Thread, str] = {}
        self._closed: dict[int, str] = {}
        self._pending: list[Observation] = []
        self._hurried = False
        self._asked = False
        self._told_already = False
        self._began = 0.0
        self._told_loops: set[Thread] = set()
        self._ended_loops: dict[Thread, Record | None] = {}
        self._ended_children: dict[int, tuple[str, float]] = {}
        self._handed_over: list[str] = []
        self._outliving: list[tuple[Record, str]] = []
        #: What the report has about this very process, one by one.
        self.own: list[Finding] = []

    # -- before other threads are joined -----------------------------------------------------------------------------

    def note(self) -> None:
        """Note what Python is going to wait for."""
        if self._noted:
            return
        self._noted = True
        processes = self.agent.parts.get("processes")
        if processes is not None:
            self._children = [
                (record, time.monotonic())
                for record in processes.alive(exact=True)
                if not record.detail["pool"] and not record.resource().daemon
            ]
            for record, _ in self._children:
                record.detail["memory"] = "" if record.detail["told_to_end"] else leftovers.memory(record.resource().pid)
        self._busy_jobs = self.agent.busy_jobs or {
            record.id: interpreter.pool_load(record.resource()) for record in self._pools()
        }
        self._missing_results = {
            record.id: interpreter.unfinished_results(record.resource())
            for record in self.agent.registry.of_kind(THREAD_POOL, PROCESS_POOL)
        }
        self._began = time.monotonic()
        if not state.number and self.agent.signals.main_has_ended and not hasattr(sys, "ps1"):
            # Ctrl+C counts: the program was asked to end.  A console keeps the last one that was pressed in it.
            state.set(self.agent.exit_status()[1] or 0)
            if state.number and "executors" in self.agent.parts:
                # A second Ctrl+C got the main thread out of that wait.
                GIVEN_UP.update(self.agent.parts["executors"].main_waits_for)
        if self.agent.signals.main_has_ended:
            for server in self._servers():
                guard.call("servers", server.finish)
        self._asked = self.agent.signals.main_has_ended and not state.number and state.is_asked
        if state.number or self._asked:
            self._hurry()

    # -- after a signal ----------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Wait until the budget is over and end the process by force; called in a thread when a signal has come."""
        came_at = self.agent.signals.came_at
        self.watchdog.watch(self.agent.settings.budget, time.monotonic() - came_at if came_at else 0.0)

    def cut_off(self) -> None:
        """End the process by force now; called in a thread when a signal has come and its handler has not run for the budget."""
        self.watchdog.watch(self.agent.settings.budget, self.agent.settings.budget)

    def arm(self) -> None:
        """Have the process ended by force when the budget is over."""
        settings = self.agent.settings
        self.watchdog.arm(settings.budget, state.spent(settings.grace))

    def _hurry(self) -> None:
        """Give up what has not begun, and end the children."""
        if self._hurried:
            return
        self._hurried = True
        if not self.agent.signals.is_watched:
            self.arm()
        self.agent.signals.settle()
        interpreter.cancel_queued()
        interpreter.end_workers()  # what told them stood in the queue
        pools = self.agent.parts.get("executors")
        processes = self.agent.parts.get("processes")
        workers: list[Any] = [] if processes is None else processes.workers_of_loky()
        if pools is not None:
            for record in pools.left_over():
                found = [one for one in interpreter.pool_processes(record.resource()) if one not in workers]
                if found:
                    workers += found
                    pools.cancel(record.resource())
        if workers or self._children:
            self.stages.run("children", CHILD_SECONDS, lambda seconds: self._end_children(workers, seconds))

    def _end_children(self, workers: list[Any], seconds: float) -> tuple[int, int]:
        children = [record.resource() for record, _ in self._children]
        if (state.number or state.asked) != interpreter.CTRL_C:
            self._ended_children = end_processes(children, seconds)
        # Workers have a job each to finish, and a terminal sends Ctrl+C to children as well: they have begun to end.
        while any(process.is_alive() for process in children + workers) and time.monotonic() < self._grace_end():
            time.sleep(0.02)
        self._ended_children.update(end_processes(children, seconds))
        ended = {**self._ended_children, **end_processes(workers, seconds)}
        return len(children) + len(workers), sum(action == f.KILLED for action, _ in ended.values())

    def _grace_end(self) -> float:
        return (state.asked_since if self._asked else max(state.since, self._began)) + self.agent.settings.grace

    def _deadline(self, threads: list[Thread]) -> float | None:
        """Return when the waiting for threads ends, if a signal has come, be it now."""
        if not state.number and not self._asked:
            return None
        self._hurry()
        self.end_loops(threads)
        return self._grace_end()

    def end_loops(self, threads: list[Thread]) -> None:
        """Have the event loops in these threads end, once, after a signal: nobody else tells them.

        What ``run_until_complete`` or ``asyncio.run`` wait for ends as it does in the main thread, by a `SystemExit`, which ends the thread
        without a word.  Where the loop runs for ever, its tasks are cancelled, and it is stopped when they have ended.
        """
        stalls = self.agent.parts.get("stalls")
        new = {thread.ident: thread for thread in threads if thread not in self._told_loops}
        if stalls is None or not new:
            return
        self._told_loops.update(new.values())
        number, known = state.number or state.asked or interpreter.CTRL_C, self.agent.parts.get("threads")

        from .instrumentation.waits import is_main  # loaded with the part

        def end(loop: AbstractEventLoop) -> None:
            thread = new.get(_thread.get_ident())
            if thread is None:
                return
            self._ended_loops[thread] = None if known is None else known.record_of(thread)
            pending = interpreter.tasks_of(loop)
            if any(is_main(task) for task in pending):
                raise SystemExit(128 + number)
            for task in pending:
                task.cancel()
            stop(loop, pending)

        def stop(loop: AbstractEventLoop, pending: list[Any]) -> None:
            if all(task.done() for task in pending):
                loop.stop()
            else:
                loop.call_later(LOOK_AFTER, guard.call, "event loops", stop, loop, pending)

        for loop in stalls.loops.running():
            try:  # noqa: SIM105 - on 3.10 contextlib would be loaded for it
                loop.call_soon_threadsafe(guard.call, "event loops", end, loop)
            except RuntimeError:  # closed in this moment
                pass

    # -- the forced end, called by the watchdog in its own thread ----------------------------------------------------

    def what(self) -> str:
        """Say what takes too long; empty in a child, which leaves the talking to the process that the user started."""
        if self.agent.child:
            return ""
        return f"the end after {_signal_name(state.number)}" if state.number else "its own clean-up"

    def last_words(self) -> None:
        """Tell what is still open."""
        if not self._told_already:
            report = self._report({})
            self._tell(report)
            guard.call("telemetry", self._send, report)

    def forced(self) -> None:
        """End the process, and before it the children that nobody would end any more."""
        processes = self.agent.parts.get("processes")
        for record in processes.alive() if processes is not None and (state.number or self._asked) else ():
            guard.call("children", record.resource().kill)
        if state.number:
            die_by(state.number)
        os._exit(self.agent.exit_status()[0] or 0)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait_for_workers(self) -> None:
        """Wait for the workers of executors, but not for those that are proven stuck."""
        self.note()
        workers = [thread for thread in interpreter.worker_threads() if thread.is_alive()]
        if workers:
            self.stages.run("executors", self.agent.settings.budget, lambda seconds: self._wait_for_workers(workers, seconds))

    def before_join(self, last: Callable[[], None] | None = None) -> None:
        """Have the other threads waited for in the same way when Python comes to that; call ``last`` when they have ended."""
        self.note()
        if self._own_threads():
            interpreter.before_thread_join(lambda: self._wait_for_threads(last))
        elif last is not None:
            last()

    def _pools(self) -> list[Record]:
        return [record for record in self.agent.registry.of_kind(THREAD_POOL) if hasattr(record.resource(), "submit")]

    def _wait_for_workers(self, workers: list[Thread], seconds: float) -> tuple[int, int]:
        stuck = wait_like_python(
            lambda: [thread for thread in workers if thread.is_alive()], seconds * QUIET_SHARE, lambda: self._deadline(workers)
        )
        self._note_stuck(stuck)
        for thread in stuck:
            interpreter.no_longer_joined(thread)
        return sum(sum(load) for load in self._busy_jobs.values()), len(stuck)

    def _own_threads(self) -> list[Thread]:
        """Return the threads that Python waits for."""
        threading: Any = sys.modules["threading"]
        ends = {threading.current_thread(), threading.main_thread()}
        # One whose start failed half-way (RecursionError) is on the list, has no identity and can't be joined.
        # One whose join was interrupted is taken for ended, up to 3.12, and Python does not wait for it.
        there = [thread for thread in threading.enumerate() if thread.ident is not None and thread.is_alive()]
        return [thread for thread in there if not thread.daemon and thread not in ends]

    def _wait_for_threads(self, last: Callable[[], None] | None) -> None:
        def wait(seconds: float) -> tuple[int, int]:
            known = set(self._stuck)

            def left() -> list[Thread]:
                return [thread for thread in self._own_threads() if thread not in known]

            asked = left()
            stuck = wait_like_python(left, seconds * QUIET_SHARE, lambda: self._deadline(asked))
            self._note_stuck(stuck)
            for thread in self._stuck:
                interpreter.let_go(thread)
            return len(asked), len(stuck)

        self.stages.run("threads", self.agent.settings.budget, wait)
        if last is not None:
            last()

    def _note_stuck(self, threads: Iterable[Thread]) -> None:
        frames = interpreter.frames()
        for thread in threads:
            frame = frames.get(thread.ident or 0)
            self._stuck[thread] = "" if frame is None else _frame_text(frame, self.agent.base)

    # -- the last exit handler ---------------------------------------------------------------------------------------

    def last(self, *, killed: bool = False) -> None:
        """Close what is left, tell it, and end with the status that the user asked for.

        Args:
            killed: A signal ends the process next: nobody waits for its threads, workers and children.

        """
        if self._finished:
            return
        self._finished = True
        if not killed:
            self.note()
        by_signal = state.number or (0 if hasattr(sys, "ps1") else self.agent.exit_status()[1] or 0)
        if self.agent.clients() and not state.number:
            self.arm()
        try:
            report = self.close(final=True)
            fails = self._has_new(report) and self._fails_on_leak()
            if fails:
                report.own_status, report.status = report.status, LEAK_STATUS
            self._told_already = True
            self._tell(report)
            guard.call("telemetry", self._send, report)
            guard.call("ledger", leftovers.close_ledger, self.agent)
            if not self.agent.child:
                guard.call("folders of roots that are gone", family.sweep)
        finally:
            if not state.number:
                self.watchdog.disarm()
            if "asyncio" in self.agent.parts:
                self.agent.parts["asyncio"].stop()
                # Tasks that go with the interpreter fail to log there (3.13), and Python shows the frames of that.
                self.agent.patches.undo("call_exception_handler")
        if by_signal:
            # Also after Ctrl+C: Python forgets it when code is evaluated in an exit handler (a named tuple in an imported module
            # is enough), and ends with status 1.
            interpreter.end_with(-by_signal)
        elif fails:
            interpreter.end_with(LEAK_STATUS)

    def close(self, *, final: bool = False) -> Report:
        """Close what is left and return the report of it; ``final`` says that the program ends now."""
        begin = time.perf_counter()
        parts = self.agent.parts
        if "threads" in parts:
            parts["threads"].sweep()
        if "asyncio" in parts:
            self._pending = parts["asyncio"].observe_rest(final=final)
            if final:
                guard.call("asyncio exceptions", parts["asyncio"].look_at_failed)
        for name, part in self.agent.clients().items() if final else ():
            guard.call(name, part.at_end)
        left = self._left_clients()
        if any(left.values()) or any(part.has_more() for part in self.agent.clients().values()):
            self.stages.run("clients", CLIENT_SECONDS, lambda seconds: self._close_clients(left, seconds, final=final))
        if "subprocesses" in parts and final:
            self._outliving = guard.call("subprocesses", leftovers.end_subprocesses, self.agent, self.stages) or []
        report = self._report(left)
        report.agent["seconds"] = self.agent.seconds + time.perf_counter() - begin
        return report

    def close_now(self) -> Report:
        """Close what is open in the middle of a program, which goes on."""
        self.note()
        self._children = []  # nobody waits for them yet
        try:
            return self.close()
        finally:
            if self._pending:
                self.agent.parts["asyncio"].take_back(self._pending)

    def look(self, *, children: bool = True) -> Report:
        """Return the report of what is open now; nothing is closed.

        Args:
            children: Take up what children have handed over, which one thread alone may do.

        """
        left = self._left_clients()
        report = self._report(left, children=children)
        report.running = True
        return report

    def _left_clients(self) -> dict[str, list[Record]]:
        return {name: guard.call(name, part.left_over) or [] for name, part in self.agent.clients().items()}

    def _close_clients(self, left: dict[str, list[Record]], seconds: float, *, final: bool) -> tuple[int, int]:
        clients = self.agent.clients()
        records = sorted(((one, name) for name, found in left.items() for one in found), key=lambda pair: -pair[0].id)
        loops = sum(part.has_loop() for part in clients.values())
        for name, part in clients.items():
            found = left.get(name, [])
            guard.call(name, lambda refuse=part.refuse, found=found: refuse(found, seconds, final=final))
            guard.call(name, part.drain, seconds)

        def work() -> None:
            for record, name in records:
                part = clients[name]
                try:
                    self._closed[record.id] = f.CLOSED if part.close(record) else f.NONE
                    record.detail["closed"] = True
                except BaseException as error:  # noqa: BLE001 - a Rust panic is no Exception
                    self._closed[record.id] = f"closing it raised {type(error).__name__}"
            for name, part in clients.items():
                guard.call(name, part.close_rest)

        in_time(seconds, lambda: guard.call("shutdown stage clients", work))
        forced = sum(1 for record, _ in records if record.id not in self._closed)
        for name, part in clients.items():
            stopped = guard.call(name, part.stop_loop, seconds)
            forced += not stopped
            if stopped and final:
                guard.call(name, part.shut_down)
        return len(records) + loops, forced

    # -- findings ----------------------------------------------------------------------------------------------------

    def _report(self, left: dict[str, list[Record]], *, children: bool = True) -> Report:
        agent = self.agent
        argv = [str(word) for word in getattr(sys, "argv", None) or [""]]
        report = Report(os.path.basename(argv[0]) or "python", argv, os.getpid(), os.getppid())
        report.python = ".".join(map(str, sys.version_info[:3]))
        report.leakagent = __version__
        report.started, report.ended = agent.started, time.time()
        report.status, report.signal = agent.exit_status()
        found: list[Finding] = []
        resources = (self._thread_pools, self._threads, self._processes, self._orphans, self._cut_off, self._half_way)
        for build in (self._tasks, self._failures, self._scoped, *resources):
            found += guard.call(f"detector {build.__name__.strip('_')}", build) or []
        found += guard.call("detector stalls", stalls_of, agent) or []
        found += guard.call("detector growth", growths_of, agent) or []
        found += guard.call("detector clients", seen_by_clients, agent) or []
        for name, records in left.items():
            found += guard.call(name, self._clients_of, agent.parts[name], records) or []
        self.own = found[:]
        if children and not agent.child:
            found += guard.call("findings of children", self._of_children) or []
        report.findings = self._told(found)
        report.receipt = self._receipt()
        report.totals = agent.registry.totals()
        report.timeline = guard.call("timeline", agent.timeline) or []
        report.processes = guard.call("processes of the report", leftovers.processes, agent, self._handed_over) or []
        report.agent = {"seconds": agent.seconds, "bytes": agent.registry.memory(), "disabled": dict(guard.disabled)}
        return report

    def _told(self, found: list[Finding]) -> list[Finding]:
        """Return the findings that are told, one per fingerprint."""
        if not found:
            return []
        from .report.fingerprint import complete, merge  # only for programs that left something

        for finding in found:
            complete(finding)
        return merge(one for one in found if not ignored(one, self.agent.settings.ignore))

    def finding(self, record: Record, reason: str, **more: Any) -> Finding:  # noqa: ANN401 - passed on
        """Make a finding of a record (`leakagent.detect.leftovers.finding_of`), with its fix."""
        from .report.fixes import fix_for  # only for programs that left something

        part = self.agent.client_part(record.kind)
        daemon = record.kind == THREAD and bool(getattr(record.resource(), "daemon", False))
        fix = (part.fix(record) if part is not None else "") or fix_for(reason, record.kind, daemon=daemon)
        found = finding_of(record, reason, base=self.agent.base, fix=fix, **more)
        if record.detail.get("adopted"):
            found.evidence.append(_ADOPTED if record.code is None else _ADOPTED + _FIRST_LINE)
        return found

    def _tasks(self) -> list[Finding]:
        tasks = self.agent.parts.get("asyncio")
        if tasks is None:
            return []
        return [found for one in [*tasks.lost, *tasks.left] if (found := self.task_finding(one)) is not None]

    def task_finding(self, observation: Observation) -> Finding | None:
        """Return the finding about a task that was lost, or left at the end of its loop; None if it is not told."""
        tasks = self.agent.parts["asyncio"]
        lost = observation in tasks.lost
        task = observation.entry.ref()
        reason = _task_reason(observation, lost=lost)
        evidence = [self.waits(observation.waits, whole=bool(observation.reason))] if observation.waits else []
        evidence += observation.evidence
        if observation.entry.direct:
            evidence.append(_NOT_SEEN)
        action = f.CANCELLED
        if observation.refused:
            action = f.RELEASED
        elif lost and (task is None or task.done()) and not observation.entry.told:
            action = f.NONE
            evidence.append("held by leakagent, it went on to its end")
        elif task is not None and not task.done():
            action = f.RELEASED
        finding = self.finding(tasks.record(observation), reason, evidence=evidence, action=action)
        finding.oldest_age_s = observation.age
        return finding if task_is_a_leak(finding, running_elsewhere=observation.loop_runs) else None

    def _failures(self) -> list[Finding]:
        tasks = self.agent.parts.get("asyncio")
        if tasks is None:
            return []
        found = []
        for failure in list(tasks.errors.failures.values()):
            evidence = [
                f"{failure.type} raised in {chain_text(failure.raised, self.agent.base)}"
                if failure.raised
                else f"{failure.type} was raised"
            ]
            if failure.entry is not None and failure.entry.direct:
                evidence.append(_NOT_SEEN)
            finding = self.finding(tasks.record_of_failure(failure), f.UNRETRIEVED_EXCEPTION, evidence=evidence)
            finding.count = failure.count
            found.append(finding)
        return found

    def _scoped(self) -> list[Finding]:
        return list(self.agent.scoped.values())

    def waits(self, chain: list[tuple[str, int, str]], *, whole: bool = False) -> str:
        """Say where a task waits: the last three steps of its await chain, or all."""
        return "waiting in " + chain_text(chain if whole else chain[-3:], self.agent.base)

    def so_far(self) -> list[Finding]:
        """Return what is known while the program runs, each by itself; nothing is looked for."""
        return self._wanted([*self._tasks(), *self._failures(), *self._scoped(), *self.agent.stalled])

    def _wanted(self, found: list[Finding]) -> list[Finding]:
        if not found:
            return []
        from .report.fingerprint import complete

        for finding in found:
            complete(finding)
        return [one for one in found if not ignored(one, self.agent.settings.ignore)]

    def _send(self, report: Report) -> None:
        if self.agent.telemetry is not None:
            self.agent.telemetry.finish(self._wanted(self.own), report)

    def _thread_pools(self) -> list[Finding]:
        pools = self.agent.parts.get("executors")
        if pools is None:
            return []
        stuck = self._stuck
        found = []
        serves = self._serving()
        for record in pools.left_over():
            resource = record.resource()
            if serves(resource):
                continue
            queued, running = self._busy_jobs.get(record.id, (0, 0))
            hung = [stuck[thread] for thread in (interpreter.pool_threads(resource) if resource else ()) if thread in stuck]
            evidence = ["dropped without shutdown()"] if record.state == DROPPED else []
            action = f.NONE
            if queued or running:
                evidence.append(f"{queued} jobs queued and {running} running when the main thread ended")
                action = f.CANCELLED if self._hurried else f.DRAINED
            if self._missing_results.get(record.id):
                missing = self._missing_results[record.id]
                evidence.append(f"{missing} results had not come when the main thread ended; multiprocessing drops such jobs")
            if hung:
                evidence += [f"a worker was stuck at {where}" for where in hung]
                action = f.RELEASED
            elif record.detail.get("scope"):
                continue  # told when its scope ended
            finding = self.finding(record, f.BLOCKS_EXIT if hung else f.NOT_SHUT_DOWN, evidence=evidence, action=action)
            finding.fix = record.detail.get("fix", finding.fix)
            if pool_is_a_leak(finding, stuck=bool(hung)):
                found.append(finding)
        return found

    def _serving(self) -> Callable[[object], bool]:
        """Return what says whether an executor is a running loop's own: asyncio ends it with the loop."""
        tasks = self.agent.parts.get("asyncio")
        loops = [] if tasks is None or self.agent.signals.main_has_ended else tasks.running_loops()
        return lambda pool: any(interpreter.is_default_executor(loop, pool) for loop in loops)

    def _threads(self) -> list[Finding]:
        threads = self.agent.parts.get("threads")
        self._note_stuck(self.agent.parts["posthog"].given_up if "posthog" in self.agent.parts else ())
        of_servers: set[Thread] = set().union(*(server.threads for server in self._servers()))
        workers = of_servers.union(interpreter.worker_threads())
        pools = self.agent.parts.get("executors")
        of_pools: dict[int, tuple[Record, list[str]]] = {}
        found = []
        for thread in [*self._stuck, *(thread for thread in self._ended_loops if thread not in self._stuck)]:
            where = self._stuck.get(thread)
            pool = None if pools is None or where is None or thread in of_servers else pools.shut_down_pool_of(thread)
            if pool is not None:
                of_pools.setdefault(pool.id, (pool, []))[1].append(f"a worker was stuck at {where}")
                continue
            record = self._ended_loops.get(thread) or (None if threads is None else threads.record_of(thread))
            if record is None or thread in workers or _is_worker(thread, self.agent.registry.of_kind(THREAD_POOL)):
                continue
            evidence, action = [f"stuck at {where}"], f.RELEASED
            if where is None:
                evidence, action = ["its event loop was not told to end"], f.CANCELLED
            finding = self.finding(record, f.BLOCKS_EXIT, evidence=evidence, action=action)
            finding.fix = _FIX_LOOP if thread in self._ended_loops else finding.fix
            found.append(finding)
        for pool, evidence in of_pools.values():
            evidence.append("it was shut down, which does not end a job that runs")
            found.append(self.finding(pool, f.BLOCKS_EXIT, evidence=evidence, action=f.RELEASED))
        return found

    def _processes(self) -> list[Finding]:
        found = []
        for record, since in self._children:
            if record.resource().pid in self._ended_children:
                found.append(self._ended_child(record))
                continue
            status = record.resource().exitcode
            if record.detail["told_to_end"] and status is not None and status < 0:
                continue  # terminate() was enough, it had only not been joined
            seconds = time.monotonic() - since
            ended = "still running" if status is None else f"ended by itself with status {status}"
            evidence = [f"kept the program waiting, {ended}, {seconds:.1f} s after the main thread{record.detail['memory']}"]
            found.append(self.finding(record, f.BLOCKS_EXIT, evidence=evidence))
        return found

    def _orphans(self) -> list[Finding]:
        found = [leftovers.subprocess_finding(self.finding, record, action) for record, action in self._outliving]
        found += leftovers.orphaned(self.agent) + leftovers.shared_memory(self.agent, self.finding)
        return found + leftovers.zombies(self.agent, self.finding)

    def _half_way(self) -> list[Finding]:
        # In the middle of a program nothing is stopped.
        return leftovers.half_way(self.agent, self.finding) if self._finished else []

    def _ended_child(self, record: Record) -> Finding:
        action, seconds = self._ended_children[record.resource().pid]
        how = "ended on SIGTERM" if action == f.TERMINATED else "killed"
        reason = f.BLOCKS_EXIT if action == f.TERMINATED else f.REFUSED_CLEANUP
        return self.finding(record, reason, evidence=[f"{how} after {seconds:.1f} s{record.detail['memory']}"], action=action)

    def _servers(self) -> list[Any]:
        return [self.agent.parts[name] for name in sorted(SERVERS.intersection(self.agent.parts))]

    def age_of(self, task: Any) -> float:  # noqa: ANN401 - a task
        """Return how old a task is, in seconds; 0 if it was not noted."""
        tasks = self.agent.parts.get("asyncio")
        return 0.0 if tasks is None else tasks.age_of(task)

    def _cut_off(self) -> list[Finding]:
        found = []
        for cut in [cut for server in self._servers() for cut in server.cut]:
            finding = self.finding(cut.record, cut.reason, evidence=cut.evidence, action=cut.action)
            finding.fix = cut.fix or finding.fix
            found.append(finding)
        return found

    def _clients_of(self, part: Instrumentation, records: list[Record]) -> list[Finding]:
        return [self._client(part, one) for one in records if part.is_told(one) and not one.detail.get("scope")]

    def _client(self, part: Instrumentation, record: Record) -> Finding:
        done = self._closed.get(record.id, f.NONE)
        evidence = part.evidence(record)
        if done not in f.ACTIONS:
            evidence.append(done)
            done = f.NONE
        finding = self.finding(record, f.NOT_CLOSED, evidence=evidence, action=done)
        finding.count = record.detail.get("count", 1)
        return finding

    def _of_children(self) -> list[Finding]:
        found: list[Finding] = []
        # Kept: a snapshot takes them up as well, and they belong to the report at the end.
        self._handed_over += family.take_over(os.environ.get(config.ROOT_VARIABLE, ""))
        for text in self._handed_over:
            from .report.json_report import loads  # only if there are any

            try:
                report = loads(text)
            except ValueError as error:
                guard.say(f"a child's report could not be read: {error}")
                continue
            found += report.findings
            for broken in report.agent["disabled"]:
                part, _, cause = broken.partition(": ")
                guard.failed_in_child(part, cause)
        return found

    def _receipt(self) -> list[f.StageReceipt]:
        tasks = self.agent.parts.get("asyncio")
        loops = []
        if tasks is not None and tasks.cancelling:
            asked = sum(1 for observation in [*tasks.lost, *tasks.left] if observation.entry.told)
            refused = sum(1 for observation in tasks.left if observation.refused)
            loops = [f.StageReceipt("loops", sum(tasks.cancelling), asked, refused, self.agent.settings.grace)]
        return [*loops, *self.stages.receipt]

    # -- telling -----------------------------------------------------------------------------------------------------

    def _fails_on_leak(self) -> bool:
        if not self.agent.settings.fail_on_leak or self.agent.child or self.agent.exit_status() != (0, None):
            return False
        return all(map(_can_be_flushed, (sys.__stdout__, sys.__stderr__)))

    def _has_new(self, report: Report) -> bool:
        """Say whether something was found that the baseline does not accept."""
        path = self.agent.settings.baseline
        if not path or self.agent.child or not report.findings:
            return bool(report.findings)
        from .report import baseline

        try:
            accepted = baseline.read(os.path.join(self.agent.base, path))
        except (OSError, ValueError) as error:
            guard.say(f"{baseline.problem(path, error)}; nothing is accepted")
            return True
        for finding in report.findings:
            if finding.fingerprint in accepted:
                finding.evidence = [*finding.evidence, f"accepted by {path}"]
        return any(finding.fingerprint not in accepted for finding in report.findings)

    def _tell(self, report: Report) -> None:
        agent = self.agent
        files = any(part.strip().partition(":")[0] in {"json", "html", "markdown"} for part in agent.settings.report.split(","))
        nothing = not report.findings and not (agent.child and guard.disabled)
        if nothing and (agent.child or not files):
            return
        from .report import write

        if agent.child:
            from .report.json_report import dumps

            if family.hand_over(os.environ, dumps(report)) or not report.findings:
                return
        targets = write.parse_spec(agent.settings.report)
        write.emit(report, targets, sys.stderr, is_child=agent.child, is_late=agent.late, base=agent.base)


def _can_be_flushed(stream: Any) -> bool:  # noqa: ANN401 - a stream or None
    """Say whether Python is going to get rid of what the program said; if not, it ends with status 120."""
    try:
        stream.flush()
    except OSError:
        return False
    except (AttributeError, ValueError):  # there is none, or it is closed
        return True
    return True


def _signal_name(number: int) -> str:
    import signal  # only when it is told

    return signal.Signals(number).name


def _task_reason(observation: Observation, *, lost: bool) -> str:
    if lost:
        return f.LOST_TASK
    return f.REFUSED_CLEANUP if observation.refused else observation.reason or f.OUTLIVED_SCOPE


def _is_worker(thread: Thread, pools: list[Record]) -> bool:
    return any(thread in interpreter.pool_threads(record.resource()) for record in pools if record.resource() is not None)


def _frame_text(frame: Any, base: str) -> str:  # noqa: ANN401 - a frame
    """Return the innermost frame, and the innermost one of the program's own, as ``file:line function``."""
    import traceback  # only for stuck threads

    lines = [
        f"{shown_path(entry.filename, base)}:{entry.lineno} {entry.name}" for entry in traceback.extract_stack(frame, limit=12)
    ]
    return " > ".join(lines[-3:])
