"""Runs in a program to which the agent is attached (`leakagent.cli.attach`): starts it there, and says how that went."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def attach(options: Mapping[str, str], *, is_borrowed: bool) -> dict[str, Any]:
    """Start the agent in this process and take up what is there.

    Args:
        options: Variables (``LEAKAGENT_LEVEL``) that win over the process's own environment.
        is_borrowed: leakagent is not installed here: OpenTelemetry is then left out, since nothing that it needs may be here.

    Returns:
        ``program``, ``adopted`` (kind -> number) and ``live`` (whether it can be asked), or ``error``.

    """
    from . import adopting, agent, config
    from .surroundings import why_off

    if agent.is_active():
        return {"error": "the agent is active there already"}
    environ = {**os.environ, **options, "LEAKAGENT": "1", **({"LEAKAGENT_OTEL": "off"} if is_borrowed else {})}
    settings, errors = config.load(environ)
    if errors:
        return {"error": "; ".join(errors)}
    why = why_off()
    if why:
        return {"error": f"the agent can't work there: {why}"}
    adopted = agent.start(settings, "attach").adopt(adopting.adopt)
    program = os.path.basename((getattr(sys, "argv", None) or [""])[0]) or "python"
    return {"program": program, "adopted": adopted, "live": settings.live}
