"""Stages, watchdog, and the one file that knows CPython's private names.

This package has the name of a public function: once it is loaded, it stands where ``leakagent.shutdown()`` is looked for.  So it
can be called itself.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Callable(type(sys)):  # type: ignore[misc]
    """A package that is called like the function of its name."""

    def __call__(self) -> dict[str, Any]:
        """Close everything now: see `leakagent.agent.shutdown`."""
        # Found at the call: the agent is built of this package, and not the other way round.
        run = sys.modules[self.__name__.rpartition(".")[0] + ".agent"].shutdown
        return run()  # type: ignore[no-any-return]


sys.modules[__name__].__class__ = _Callable
