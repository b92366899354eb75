"""The pytest plugin: with ``--leakagent``, a test that leaves something alive fails, and not the one after it.

This file is imported by every pytest run of an environment that has leakagent; all the rest is loaded when ``--leakagent`` is
seen (`leakagent.pytest_watching`).
"""

from __future__ import annotations

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HELP = "fail the test that leaves tasks, threads, pools, processes, clients or event loops alive (leakagent)"
_MARKER = (
    "leakagent(ignore=None, grace=None): what this test may leave alive (patterns, or True for all), and how many seconds what is "
    "about to end gets"
)
_WATCHING = "leakagent-watching"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and settings."""
    group = parser.getgroup("leakagent")
    group.addoption("--leakagent", action="store_true", default=None, dest="leakagent", help=_HELP)
    group.addoption("--no-leakagent", action="store_false", dest="leakagent", help="not even if the settings ask for it")
    group.addoption(
        "--leakagent-baseline", metavar="FILE", help="leaks that are accepted, as `leakagent baseline REPORT` writes them"
    )
    parser.addini("leakagent", _HELP, type="bool", default=False)
    parser.addini("leakagent_baseline", "file with the leaks that are accepted")
    parser.addini("leakagent_grace", "seconds that what is about to end gets after each test (default 0.5)")
    parser.addini("leakagent_ignore", "fingerprints, kinds, functions or file:line that may be left alive", type="linelist")
    parser.addini("leakagent_level", "count, site or stack: what is noted of each creation (default stack)", default="stack")


def _is_wanted(config: pytest.Config) -> bool:
    asked = config.known_args_namespace.leakagent if hasattr(config, "known_args_namespace") else None
    return bool(config.getini("leakagent") if asked is None else asked)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Start the agent before the first ``conftest.py`` is imported."""
    if _is_wanted(early_config):
        from .pytest_watching import start

        start(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and what watches the tests."""
    config.addinivalue_line("markers", _MARKER)
    if _is_wanted(config):
        from .pytest_watching import Watching, start

        start(config)
        config.pluginmanager.register(Watching(config), _WATCHING)


@pytest.fixture
def leakagent(request: pytest.FixtureRequest) -> Any:  # noqa: ANN401 - loaded only if it is asked for
    """Tell a test what it has left alive: see `leakagent.pytest_watching.Leaks`."""
    from .pytest_watching import Leaks

    return Leaks(request.config.pluginmanager.get_plugin(_WATCHING), request.node)
