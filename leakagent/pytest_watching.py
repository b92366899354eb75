"""Watches the tests of a pytest run (`leakagent.pytest_plugin`).

The problem.  What a test has left can be known only when its fixtures are gone, and at that time pytest has already told that the
test has passed; a failure from then on is an error of the teardown.

What we do.  The reports of a test are kept until its teardown is over, and told then; what was left makes the report of the call a
failure.  Where another plugin runs the tests in its own way (reruns), the report of the call is changed if it has not been
told yet; else the report of the teardown is.

Fixtures of a class, a module, a package or the session own what they make in their setup, and so does the session what is made between the tests
and while modules are imported.  That is looked at when the session ends.
"""

from __future__ import annotations

import os

import pytest
from _pytest.runner import runtestprotocol

from . import agent as agents
from . import guard
from .owners import GRACE, Owner, Owners
from .report import baseline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from types import CodeType
    from typing import Any

    from .agent import Agent
    from .core.findings import Finding

_MARK = "leakagent"
_SESSION = "the session (imports, and what is made between tests)"


class Leak(AssertionError):  # noqa: N818 - the first word of pytest's summary line
    """A test has left something alive."""

    # pytest shows the name without a module.
    __module__ = "builtins"


def start(config: pytest.Config) -> None:
    """Start the agent if it is not active; one that was started by ``LEAKAGENT=1`` keeps its settings.

    Raises:
        pytest.UsageError: A setting that is not allowed.

    """
    if not agents.is_active():
        options: dict[str, object] = {}
        if "LEAKAGENT_LEVEL" not in os.environ:
            options["level"] = config.getini("leakagent_level")
        if "LEAKAGENT_REPORT" not in os.environ:
            options["report"] = "off"  # pytest tells
        try:
            agents.install(**options)
        except ValueError as error:
            raise _wrong(error) from None
    agent = agents.current()
    if agent is not None and agent.owners is None:
        agent.owners = Owners(agent, Owner(_SESSION))


class _Item:
    """The test that runs."""

    def __init__(self, item: pytest.Item) -> None:
        self.owner = Owner(item.nodeid, item.nodeid, _code(item))
        self.reports: list[pytest.TestReport] = []
        self.told: list[pytest.TestReport] = []
        self.ignore: list[str] = []
        self.checked = False
        #: Whether its reports are kept until its teardown is over.
        self.kept = False


class Watching:
    """The hooks, registered only with ``--leakagent``.

    Attributes:
        left: What was left and belongs to no test that could still fail, as texts.

    """

    def __init__(self, config: pytest.Config) -> None:
        """Read the settings."""
        self.config = config
        self.left: list[str] = []
        self.grace = _seconds(config.getini("leakagent_grace"))
        self.ignore: list[str] = list(config.getini("leakagent_ignore"))
        asked = config.getoption("leakagent_baseline")
        path = asked or config.getini("leakagent_baseline")
        folder = config.invocation_params.dir if asked else config.rootpath
        self.accepted: frozenset[str] = frozenset()
        if path:
            try:
                self.accepted = baseline.read(str(folder / path))
            except (OSError, ValueError) as error:
                raise _wrong(baseline.problem(path, error)) from None
        self._item: _Item | None = None
        config.pluginmanager.register(Protocol(self))

    @property
    def agent(self) -> Agent | None:
        """The agent, while it is active."""
        agent = agents.current()
        return agent if agent is not None and agent.is_active() and agent.owners is not None else None

    @property
    def owners(self) -> Owners | None:
        """Who owns what."""
        return None if self.agent is None else self.agent.owners

    # -- who makes what ----------------------------------------------------------------------------------------------

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, None]:
        """Note what is made for a test as the test's."""
        owners = self.owners
        if owners is None:
            yield
            return
        self._item = _Item(item)
        with owners.turn(self._item.owner):
            yield
        self._item = None

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, None]:
        """Note what a fixture of a wider scope makes as the fixture's."""
        owners = self.owners
        if owners is None or fixturedef.scope == "function":
            yield
            return
        with owners.turn(Owner(f"fixture {fixturedef.argname} ({fixturedef.scope}, {fixturedef.baseid or 'no file'})")):
            yield

    # -- what is left ------------------------------------------------------------------------------------------------

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, None]:
        """Keep the reports, and look at the end of a test that another plugin runs."""
        outcome = yield
        now = self._item
        if now is None:
            return
        report = outcome.get_result()
        if report.when == "setup":
            # Run again: what the first run has left was its own.
            now.reports, now.checked = [], False
        now.reports.append(report)
        if report.when == "teardown" and not now.kept:
            self.check(item, now)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember which reports were told."""
        if self._item is not None:
            self._item.told.append(report)

    def check(self, item: pytest.Item, now: _Item) -> None:
        """Look for what a test has left, and have it fail."""
        owners = self.owners
        if now.checked or owners is None:
            return
        now.checked = True
        guard.call("pytest", self._check, item, now, owners)

    def _check(self, item: pytest.Item, now: _Item, owners: Owners) -> None:
        grace, ignore = self._of_marker(item)
        if ignore is None:
            return
        left = owners.left_of(lambda owner: owner is now.owner)
        if left and left.wait(grace):
            findings = self._wanted(left.tell(), [*ignore, *now.ignore])
            if findings:
                _fail(now, findings)

    def _of_marker(self, item: pytest.Item) -> tuple[float, list[str] | None]:
        grace, ignore = self.grace, []
        for mark in item.iter_markers(_MARK):
            if mark.kwargs.get("ignore") is True:
                return 0.0, None
            given = mark.kwargs.get("ignore") or ()
            ignore += [given] if isinstance(given, str) else list(given)
        nearest = item.get_closest_marker(_MARK)
        if nearest is not None and nearest.kwargs.get("grace") is not None:
            grace = float(nearest.kwargs["grace"])
        return grace, ignore

    def _wanted(self, findings: list[Finding], ignore: list[str]) -> list[Finding]:
        from .detect.leftovers import ignored

        agent = self.agent
        patterns = (*self.ignore, *ignore, *(() if agent is None else agent.settings.ignore))
        return [one for one in findings if not ignored(one, patterns) and one.fingerprint not in self.accepted]

    # -- the end -----------------------------------------------------------------------------------------------------

    @pytest.hookimpl(hookwrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, None]:
        """Look for what is left of all, when the last fixtures are gone and before pytest's own summary."""
        yield
        if self.owners is not None and session.testscollected and not self.config.getoption("collectonly"):
            guard.call("pytest", self._finish, self.owners)
        output = getattr(self.config, "workeroutput", None)
        if output is not None:
            output["leakagent"] = self.left
        elif self.left and session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _finish(self, owners: Owners) -> None:
        from .report.live import render

        left = owners.left_of(lambda _: True)
        if left and left.wait(self.grace):
            self.left += [render(one) for one in self._wanted(left.tell(named=True), [])]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:  # noqa: ANN401 - a worker of pytest-xdist
        """Take over what a worker of pytest-xdist has found at its end."""
        self.left += getattr(node, "workeroutput", {}).get("leakagent", [])

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:  # noqa: ANN401 - pytest's own
        """Tell what was left and belongs to no test."""
        if self.left:
            terminalreporter.section("leakagent: left alive at the end of the session", red=True)
            for text in self.left:
                terminalreporter.line(text)
                terminalreporter.line("")


class Protocol:
    """Runs a test as pytest does, and tells its reports when the teardown is over."""

    def __init__(self, watching: Watching) -> None:
        """Use what watches the tests."""
        self.watching = watching

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a test (as ``_pytest.runner`` of 8.3 to 9.2 does)."""
        now = self.watching._item  # noqa: SLF001 - its other half
        if now is None:
            return None
        # First those that run some tests in their own way (reruns): pytest would ask them after this one, and before itself.
        for other in self._others(item):
            words = {"item": item, "nextitem": nextitem}
            done = other.function(*(words[name] for name in other.argnames))
            if done is not None:
                return bool(done)
        now.kept = True
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        try:
            runtestprotocol(item, log=False, nextitem=nextitem)
            self.watching.check(item, now)
        finally:
            # Also if somebody ends the session in the teardown.
            for report in now.reports:
                item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _others(self, item: pytest.Item) -> list[Any]:
        """Return the implementations of other plugins that pytest has not asked yet."""
        found = [one for one in item.config.hook.pytest_runtest_protocol.get_hookimpls() if not (one.hookwrapper or one.wrapper)]
        here = next(at for at, one in enumerate(found) if one.plugin is self)
        return [one for one in found[:here][::-1] if not str(getattr(one.plugin, "__name__", "")).startswith("_pytest.")]


def _fail(now: _Item, findings: list[Finding]) -> None:
    from .report.live import render
    from .report.words import kind_name

    text = "\n\n".join(f"{render(one)}\n   accept   {one.fingerprint}" for one in findings)
    first = findings[0]
    more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
    line = f"{kind_name(first.kind)} left alive: {first.site.file}:{first.site.line} {first.site.function}{more}"
    call = next((one for one in now.reports if one.when == "call"), None)
    broken = next((one for one in now.reports if one.failed and one not in now.told), now.reports[-1])
    target = call if call is not None and call not in now.told else broken
    if target.outcome != "passed" or hasattr(target, "wasxfail"):
        if target not in now.told:
            target.sections.append(("leakagent: left alive", text))
        return
    excinfo = pytest.ExceptionInfo.from_exception(_raised(Leak(f"{line}\n\n{text}")))
    target.outcome = "failed"
    target.longrepr = excinfo.getrepr(style="value")


def _raised(error: Leak) -> Leak:
    """Return an exception with a traceback, without which pytest shows none."""
    try:
        raise error
    except Leak as caught:
        return caught


def _code(item: pytest.Item) -> CodeType | None:
    """Return the code of a test's function; not every test has one."""
    function = getattr(item, "function", None)
    code: CodeType | None = getattr(getattr(function, "__wrapped__", function), "__code__", None)
    return code


def _wrong(what: object) -> pytest.UsageError:
    return pytest.UsageError(f"leakagent: {what}")


def _seconds(text: str) -> float:
    if not text:
        return GRACE
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:  # noqa: PLR2004 - not a number fails this too
        what = f"leakagent_grace={text!r} is not valid (allowed: a number of seconds)"
        raise _wrong(what)
    return seconds


class Leaks:
    """What the fixture ``leakagent`` gives to a test; without ``--leakagent`` it says that nothing is left.

    Attributes:
        active: Whether this run looks for leaks.

    """

    def __init__(self, watching: Watching | None, item: pytest.Item) -> None:
        """Belong to a test."""
        self._watching = watching
        self._item = item

    @property
    def active(self) -> bool:
        """Whether this run looks for leaks."""
        return self._watching is not None and self._watching.agent is not None

    def ignore(self, *patterns: str) -> None:
        """Let this test leave something alive: fingerprints, kinds, functions or ``file:line``."""
        if self._watching is not None and self._watching._item is not None:  # noqa: SLF001 - its other half
            self._watching._item.ignore += patterns  # noqa: SLF001

    def alive(self) -> list[str]:
        """Return what this test has made and is alive now, one text for each: the kind and where it was created."""
        watching = self._watching
        if watching is None or watching.owners is None or watching._item is None:  # noqa: SLF001
            return []
        owner = watching._item.owner  # noqa: SLF001
        return watching.owners.left_of(lambda one: one is owner).lines()
