"""leakagent: finds, holds and closes the background work that a Python program forgot.

Start it with the program (``python -m leakagent app.py``, or ``LEAKAGENT=1`` in the environment), or call `install`
as early as you can.  Importing this package starts nothing and imports nothing.

PYTEST_DONT_REWRITE: pytest would warn that a package with a plugin was imported before it, as it is under ``LEAKAGENT=1``.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["LeakError", "__version__", "install", "is_active", "scope", "shutdown", "snapshot", "uninstall"]

_OF_SCOPES = ("LeakError", "scope")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .agent import install, is_active, shutdown, snapshot, uninstall
    from .scopes import LeakError, scope


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    """Load the public functions at their first use, so that ``import leakagent`` costs nothing."""
    if name in _OF_SCOPES:
        from . import scopes

        return getattr(scopes, name)
    if name in __all__:
        from . import agent

        return getattr(agent, name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
