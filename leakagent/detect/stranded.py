"""Can nobody complete what this task waits for?  A proof by counting references, as in `leakagent.detect.lost`.

The problem.  A task is kept (in a set, by a ``TaskGroup``), so it is not lost, but the future that it waits for is referred to by nobody
who could ever complete it: the object that was to do it was dropped.  It waits for ever.

What does not work.  Asking whether the task would be collected: it is kept.  ``gc.get_referrers`` of the future: it scans the heap, and
does not see what C or Rust code holds.

What we do.  The proof of a lost task, for the future, with the task as a wall: who refers to the task only can cancel it or read its
result, and complete nothing.  Found are the objects that lead to the future without passing through the task: its coroutines, what they
keep, the future's own callbacks.  If the reference count of each is explained by references inside this group, nobody outside can get
at the future.  A timer, a socket's callback, a queue or event that is reachable, a worker that is to deliver a result, a
Rust or Cython future: each is a reference from outside of the group, so the answer is "alive".  Something that is referred to weakly can be got at as well.

What is still open.  While other threads run, references move during the proof: who asks from another thread asks twice.  A group larger
than the limit is called alive, as is everything in a free-threaded build.
"""

from __future__ import annotations

import sys
import weakref

from .lost import LIMIT, counts_are_exact, explore, leading_to_first, own_references, references_inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The loop refers weakly to all of these, and completes no future through it.
_WEAKLY_KNOWN = {"Task", "async_generator"}


def is_stranded(box: list[Any], *, limit: int = LIMIT) -> bool:
    """Say whether nobody can complete what a task waits for.

    Args:
        box: The task and, last, what it waits for.  Both are taken out of the list: a caller's local variable that refers to the
            future would make it look alive.
        limit: Objects to look at before the search stops (towards "alive").

    """
    objects: list[Any] = [box.pop()]
    task = box.pop()
    if not counts_are_exact():
        return False
    numbers: dict[int, int] = {id(objects[0]): 0}
    arrows: list[list[int]] = []
    explore(objects, numbers, arrows, limit)
    wall = numbers.get(id(task), -1)
    group = leading_to_first(arrows, wall)
    inside = references_inside(group, arrows)
    base = own_references()
    group.discard(wall)
    return all(
        sys.getrefcount(objects[number]) - base <= inside[number] and not _is_known_weakly(objects[number]) for number in group
    )


def _is_known_weakly(value: object) -> bool:
    return weakref.getweakrefcount(value) > 0 and not any(base.__name__ in _WEAKLY_KNOWN for base in type(value).__mro__)
