"""What the agent asks an instrumentation of clients and connections, its own and those that other packages bring.

One object stands for one library.  It is made when the program has imported the first of the modules that it names, patches each of
them as it arrives, notes what the program creates (`Registry.add`) and what is ended properly (`Registry.finish`), and at the end
says what is left over and closes it.  `leakagent.instrumentation.closables` is most of that, for classes written in Python.

The end of a program asks in this order: `at_end`, `left_over`; then, in the stage ``clients`` of the shutdown and within its deadline,
`refuse` and `drain` of all, `close` of all records, newest first, `close_rest` and `stop_loop` of all; at last `is_told`, `evidence` and `fix` for the report.
"""

from __future__ import annotations

from leakagent.core.records import DROPPED, LIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import ClassVar

    from leakagent.config import Settings
    from leakagent.core.records import Record
    from leakagent.core.registry import Registry
    from leakagent.detect.stalled import Stall

    from .patching import Patches


class Instrumentation:
    """One library's clients and connections.  Subclasses have `kinds`, `arrived`, `left_over` and `close`; the rest is optional.

    Attributes:
        kinds: What it tracks -> what to write at the site so that it ends (empty: the general text of the reason).
        registry: Where its records are.
        ends: Whether the program ends (`at_end`).
        tell: Tells at once, while the program runs, what can't wait for its end.
        part: What the agent calls it, and what is switched off when it fails (`leakagent.guard.call`).

    """

    kinds: ClassVar[Mapping[str, str]] = {}
    ends = False
    tell: Callable[[Stall], object] | None = None
    part = ""

    def __init__(self, registry: Registry, settings: Settings) -> None:  # noqa: ARG002 - for subclasses
        """Start with nothing seen; called once in a process, when the first module arrives."""
        self.registry = registry

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch a module that has just been imported, or was there already when the agent started.

        Args:
            module: One of the modules that it named, after its code has run.
            patches: Takes the patches, and undoes them with `leakagent.uninstall`.

        """
        raise NotImplementedError

    def left_over(self) -> list[Record]:
        """Return the records of what is open and worth telling; asked at the end, and by whoever looks at a running program."""
        raise NotImplementedError

    def close(self, record: Record) -> bool:
        """Close what ``record`` notes, in a thread of the agent's; it has `leakagent.shutdown.closing.CLIENT_SECONDS` for all.

        Returns:
            Whether something was closed.

        """
        raise NotImplementedError

    def is_used(self) -> bool:
        """Say whether the program has made anything that the end has to look at; if nobody has, the end loads nothing."""
        return True

    def at_end(self) -> None:
        """Be told that the program ends, once, before `left_over`: what takes long to find can be looked for now."""
        self.ends = True

    def seen(self) -> list[Stall]:
        """Return what the report tells of it besides what is left over."""
        return []

    def is_alive(self, record: Record) -> bool:
        """Say whether a record of its kinds is still open, for `leakagent.scope`."""
        return record.state == LIVE and record.resource() is not None

    def is_told(self, record: Record) -> bool:  # noqa: ARG002 - for subclasses
        """Say whether a record of `left_over` is told; if not, it is only closed."""
        return True

    def evidence(self, record: Record) -> list[str]:
        """Return how the agent knows, in short texts."""
        return list(record.detail.get("evidence", ["dropped without close()"] if record.state == DROPPED else []))

    def fix(self, record: Record) -> str:
        """Return what to write at the site; empty for the general text."""
        return str(record.detail.get("fix") or self.kinds.get(record.kind, ""))

    def refuse(self, records: list[Record], seconds: float, *, final: bool) -> None:
        """Refuse new work before anything is closed.

        Args:
            records: What `left_over` returned.
            seconds: How long this may take.
            final: The program ends now; else it goes on (`leakagent.shutdown`).

        """

    def drain(self, seconds: float) -> bool:  # noqa: ARG002 - for subclasses
        """Wait for the calls in flight; returns whether they have ended within ``seconds``."""
        return True

    def close_rest(self) -> None:
        """Close what no record stands for, after the records and in the same thread."""

    def has_loop(self) -> bool:
        """Say whether the library has something of its own besides the records that has to be stopped (a loop, a thread)."""
        return False

    def stop_loop(self, seconds: float) -> bool:  # noqa: ARG002 - for subclasses
        """Stop it, when everything is closed; returns whether it has ended within ``seconds``."""
        return True

    def shut_down(self) -> None:
        """Do what is left to do when the program ends and everything is closed and stopped."""

    def has_more(self) -> bool:
        """Say whether the end has something to do for it although no record is left."""
        return self.has_loop()

    def forked(self) -> None:
        """Forget what belongs to the parent; called in a forked child, before its registry is emptied."""
