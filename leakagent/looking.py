"""What a process answers when it is asked from outside (`leakagent.live.server`): about itself, and its report."""

from __future__ import annotations

import os
import sys

from . import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .agent import Agent


def answers(agent: Agent) -> dict[str, Callable[[], Any]]:
    """Return what can be asked, and what answers it."""
    return {
        "status": lambda: status(agent),
        "dump": lambda: dump(agent),
        "why": lambda: _why(agent),
        "inventory": lambda: _inventory(agent),
    }


def status(agent: Agent) -> dict[str, Any]:
    """Say who this process is and how much of each kind is open in it."""
    from .report.json_report import timestamp

    argv = [str(word)[:300] for word in getattr(sys, "argv", None) or [""]][:50]
    live = {kind: counts["live"] for kind, counts in agent.registry.totals().items()}
    return {
        "pid": os.getpid(),
        "parent_pid": os.getppid(),
        "program": os.path.basename(argv[0]) or "python",
        "argv": argv,
        "python": ".".join(map(str, sys.version_info[:3])),
        "leakagent": __version__,
        "started": timestamp(agent.started),
        "state": "ending" if agent.signals.main_has_ended else "running",
        "child": agent.child,
        "live": {kind: number for kind, number in live.items() if number},
    }


def _why(agent: Agent) -> dict[str, Any]:
    from .why import why  # only in a program that is asked

    return why(agent)


def _inventory(agent: Agent) -> list[dict[str, Any]]:
    from .inventory import inventory  # only in a program that is asked

    return inventory(agent)


def dump(agent: Agent) -> dict[str, Any]:
    """Return the JSON report of what is open now, with how the count of each place has changed; nothing is closed."""
    from .inventory import growth
    from .report.json_report import to_dict

    document = to_dict(agent.ending().look(children=False))
    grows = growth(agent)
    return {**document, "growth": grows} if grows else document
