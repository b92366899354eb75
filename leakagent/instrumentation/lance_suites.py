"""What a test has done to lancedb's background loop, for those who ask what a test has left (`leakagent.owners`).

The problem.  The loop that ``import lancedb`` starts is there for the whole process and nobody's leak.  But a test can leave it so that others
pay: stopped and not closed, as the recipe that is passed around does (lancedb/lancedb#2133), so that the next call waits for ever; replaced by
another one while it runs (``LOOP.__init__()``), so that its thread stays; and with a call that nobody has waited for.

What we do.  Nothing is patched.  The loop is looked at whenever somebody asks; who holds the pen when it is first seen like that has done it.
The line of a call is that of the thread that waits for it, if there is one: a task of that loop has none of its own.
"""

from __future__ import annotations

import sys

from leakagent.core.records import LANCEDB_LOOP, THREAD
from leakagent.core.sites import BEFORE_THE_CODE, YOURS, owner_of
from leakagent.shutdown import interpreter

from .inherited import outside_of
from .lance_loop import background_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

    from leakagent.core.records import Record
    from leakagent.core.registry import Registry

_STOPPED = "its thread has ended and its loop is open: the next call of lancedb waits for ever"
_STOPPED_FIX = (
    "leakagent.testing.stop_lancedb_loop(), or the fixture no_lancedb_loop of leakagent.pytest_lancedb: the next call starts it"
)
_SECOND = "a loop that lancedb does not use (any more) still runs in its thread"
_SECOND_FIX = "use lancedb.background_loop.LOOP; leakagent.testing.stop_lancedb_loop() before another one is started"

#: What to write where a call was not waited for.
FIX_CALL = "wait for the call of lancedb before the scope ends: thread.join(), future.result()"


class LoopCheck:
    """Looks at lancedb's background loop, and remembers who has left it as it is."""

    def __init__(self, registry: Registry) -> None:
        """Know of nothing yet."""
        self.registry = registry
        #: Identity of a loop or thread -> itself, which keeps the identity its own, and the record.
        self._known: dict[int, tuple[object, Record]] = {}

    def abandoned(self, owner: object, code: CodeType | None) -> list[Record]:
        """Return what was left of the loop, with ``owner`` in the detail of what was not there at the last look.

        Args:
            owner: Who holds the pen now.
            code: What stands for the line, where that is not known.

        """
        background = background_loop()
        thread, loop = getattr(background, "thread", None), getattr(background, "loop", None)
        if thread is None or loop is None:
            return []
        found: dict[int, tuple[object, Record]] = {}
        if not thread.is_alive() and not loop.is_closed():
            found[id(loop)] = self._known.get(id(loop)) or (
                loop,
                self._record(owner, (code, BEFORE_THE_CODE), _STOPPED, _STOPPED_FIX),
            )
        for record in self._threads():
            other = record.resource()
            if other is not thread and other is not None and other.is_alive():
                found[id(other)] = self._known.get(id(other)) or (
                    other,
                    self._record(owner, self._line(record, thread) or (code, BEFORE_THE_CODE), _SECOND, _SECOND_FIX),
                )
        self._known = found
        return [record for _, record in found.values()]

    def _threads(self) -> list[Record]:
        """Return the records of the threads that run loops of lancedb."""
        path = getattr(sys.modules.get("lancedb.background_loop"), "__file__", "")
        records = self.registry.of_kind(THREAD)
        return [record for record in records if record.code is not None and record.code.co_filename == path]

    def _record(self, owner: object, place: tuple[CodeType | None, int], evidence: str, fix: str) -> Record:
        record = self.registry.note(LANCEDB_LOOP, None)
        if self.registry.level != "count":
            record.code, record.lasti = place
        record.detail.update(owner=owner, evidence=[evidence], fix=fix)
        return record

    def _line(self, record: Record, used: object) -> tuple[CodeType, int] | None:
        """Return the line that has made a second loop: the one of the loop itself, or of the one that took its place."""
        newest = max([record, *(one for one in self._threads() if one.resource() is used)], key=lambda one: one.id)
        inside = record.code.co_filename if record.code is not None else ""
        frames = [step for step in newest.stack or () if step[0].co_filename != inside]
        return frames[0] if frames and owner_of(frames[0][0].co_filename) == YOURS else None


def call_of(task: Any) -> tuple[CodeType | None, int] | None:  # noqa: ANN401 - a task
    """Return the line that waits for a task of lancedb's background loop; None if the task runs on another loop.

    Nobody may wait for it any more: then it is the first line of what the task runs.
    """
    background = background_loop()
    if background is None or task.get_loop() is not getattr(background, "loop", None):
        return None
    coro = task.get_coro()
    run = getattr(type(background).run, "__code__", None)
    for innermost in interpreter.frames().values():
        frame: FrameType | None = innermost
        while frame is not None:
            if frame.f_code is run and any(value is coro for value in frame.f_locals.values()):
                outside = outside_of(frame, "lancedb")
                if outside is not None:
                    return outside.f_code, outside.f_lasti
            frame = frame.f_back
    return getattr(coro, "cr_code", None), BEFORE_THE_CODE
