"""The OpenTelemetry span that was current when a resource was created, read where the program uses OpenTelemetry itself.

The problem.  A leak should be seen on the trace of the request that made it, and tasks, of which there are millions, may not get
slower by it.

What we do.  Nothing is imported: without ``opentelemetry.trace`` in `sys.modules` there is no span.  Tasks note nothing at all: each
keeps a copy of its creator's context variables for as long as it lives, and the current span is one of them; it is read when a
finding is made of the task.  Every other resource notes three numbers at its creation.

What is still open.  A task that has opened a span of its own is told with that one, which is a part of the same trace.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    #: Trace id, span id and trace flags.
    Span = tuple[int, int, int]


def span_now() -> Span | None:
    """Return the span that is current here, or None."""
    trace = sys.modules.get("opentelemetry.trace")
    return None if trace is None else _read(trace, lambda current: current())


def span_of_task(task: Any) -> Span | None:  # noqa: ANN401 - a task or None
    """Return the span that is current in a task, or None."""
    trace = sys.modules.get("opentelemetry.trace")
    context = None if trace is None or task is None else _context_of(task)
    # A copy (which costs the same for any number of variables): the context itself can't be entered while the task runs.
    return None if context is None else _read(trace, context.copy().run)


def _context_of(task: Any) -> Any:  # noqa: ANN401 - a task, a contextvars.Context
    if hasattr(task, "get_context"):
        return task.get_context()
    # Before 3.12 a task shows its context to the collector only.
    import gc

    made: Any = sys.modules.get("contextvars")
    return None if made is None else next((one for one in gc.get_referents(task) if type(one) is made.Context), None)


def _read(trace: Any, run: Callable[[Any], Any]) -> Span | None:  # noqa: ANN401 - a module
    try:
        found = run(trace.get_current_span).get_span_context()
        return (found.trace_id, found.span_id, int(found.trace_flags)) if found.is_valid else None
    except Exception:  # noqa: BLE001 - half-way imported, or somebody else's span
        return None


def trace_id(span: Span | None) -> str | None:
    """Return the trace of a span in lowercase hex, as the report shows it."""
    return None if span is None else f"{span[0]:032x}"
