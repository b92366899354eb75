"""Would this pending task have been collected?  A proof by counting references, not a guess.

The problem.  An event loop keeps only weak references to its tasks.  A task that waits hangs in a cycle with what it waits
for (task -> waiter -> the waiter's callbacks -> task); if nothing outside refers into that cycle, the collector destroys the
task in the middle of its work.  To say so afterwards we must know that *nobody* refers into the cycle: one reference held
by C or Rust code, a timer, a socket callback or a running frame is enough to keep the task alive.

What does not work.  ``gc.get_referrers`` scans the whole heap per step (12 to 70 ms in a small program) and returns its own
argument tuple on 3.13.0.  Asking the collector itself (``gc.DEBUG_SAVEALL``) runs finalizers first: the question would
destroy the task.  Rules of thumb ("nobody stored the result of create_task") are wrong for every task that waits on a timer.

What we do.  What the collector does, for one task instead of the whole heap: follow references *forward* from the task
(``gc.get_referents``), find among the objects met those that lead back to the task, and compare the reference count of each
with the references found inside this group.  All explained: nothing outside refers to it, so the task is lost.  Any surplus:
something we can't see holds it.  Stopping early (at modules, classes, event loops, or at the limit) can only leave a
reference unexplained, so every shortcut errs towards "alive": there are misses, never false alarms.

Other threads run in the middle of it.  A task of a loop in another thread (lancedb's, anyio's portal) that ends between the look at its references and
the counting has none any more, and all of them are explained.  So what was found is looked for a second time: a task that was on its way
has come on, or its references have moved, and what is lost for good looks the same.

What is still open.  A group larger than the limit is called alive.  In a free-threaded build reference counts are split
over threads and this proof does not hold: the answer is always "alive" there.
"""

from __future__ import annotations

import gc
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: References of one object up to which the search goes on through it: a list of a hundred thousand tasks takes milliseconds to read.
MANY = 10_000

#: Objects looked at per task before the search stops.  A dropped task's own group has 10 to 60.
LIMIT = 4_000

_MODULE = type(sys)
_STOP_TYPES: tuple[type, ...] = (_MODULE, type, str, bytes, int, float, bool, type(None))
_CODE = type((lambda: None).__code__)


def is_lost(box: list[Any], *, limit: int = LIMIT) -> bool:
    """Say whether nothing but the task's own group refers to it.

    Args:
        box: A list whose last item is the task.  It is taken out of the list, so that the caller holds no reference of its
            own: a caller's local variable is a reference like any other and would make every task look alive.
        limit: Objects to look at before the search stops (towards "alive").

    Returns:
        True if the task would be collected were it not for the agent.

    """
    if not counts_are_exact():
        return False
    objects: list[Any] = [box.pop()]
    first = _unreferenced(objects, limit)
    # A task that has ended is referred to by nobody either.
    return (
        first is not None and first == _unreferenced(objects, limit) and not (hasattr(objects[0], "done") and objects[0].done())
    )


def _unreferenced(objects: list[Any], limit: int) -> dict[int, list[int]] | None:
    """Return the group of the only object in a list, as ids and the ids that each refers to; None if somebody else refers to one of them."""
    numbers: dict[int, int] = {id(objects[0]): 0}
    arrows: list[list[int]] = []
    explore(objects, numbers, arrows, limit)
    group = leading_to_first(arrows)
    inside = references_inside(group, arrows)
    base = own_references()
    alone = all(sys.getrefcount(objects[number]) - base <= inside[number] for number in group)
    found = {id(objects[number]): sorted(id(objects[one]) for one in arrows[number] if one in group) for number in group}
    del objects[1:]
    return found if alone else None


def explore(objects: list[Any], numbers: dict[int, int], arrows: list[list[int]], limit: int) -> None:
    """Follow references forward, breadth first.

    Args:
        objects: Begins with the object to start from; what is met is added.
        numbers: Place in ``objects`` by ``id``.
        arrows: Filled with the places that each object refers to, once per reference.
        limit: Objects to look at before the search stops.

    """
    position = 0
    while position < len(objects):
        targets: list[int] = []
        found = gc.get_referents(objects[position]) if leads_on(objects[position]) else []
        for target in found if len(found) <= MANY else ():
            key = id(target)
            number = numbers.get(key)
            if number is None:
                if len(objects) >= limit or issubclass(type(target), _STOP_TYPES) or _is_namespace(target):
                    continue
                number = numbers[key] = len(objects)
                objects.append(target)
            targets.append(number)
        arrows.append(targets)
        position += 1


def leads_on(value: object) -> bool:
    """Say whether the search goes on through an object."""
    # A loop refers to every timer and callback of the program; it is alive while it runs, whatever it refers to.
    return type(value) is not _CODE and not any(base.__name__ == "AbstractEventLoop" for base in type(value).__mro__)


def _is_namespace(value: object) -> bool:
    return type(value) is dict and "__builtins__" in value


def references_inside(group: set[int], arrows: list[list[int]]) -> dict[int, int]:
    """Return how often each object of the group is referred to from inside the group."""
    inside = dict.fromkeys(group, 0)
    for source in group:
        for target in arrows[source]:
            if target in inside:
                inside[target] += 1
    return inside


def leading_to_first(arrows: list[list[int]], wall: int = -1) -> set[int]:
    """Return the places of the objects that lead to the first one; who leads there through ``wall`` only is none of them."""
    sources: dict[int, list[int]] = {}
    for source, targets in enumerate(arrows):
        for target in targets:
            sources.setdefault(target, []).append(source)
    group, todo = {0}, [0]
    while todo:
        for source in sources.get(todo.pop(), ()):
            if source not in group:
                group.add(source)
                if source != wall:
                    todo.append(source)
    return group


def own_references() -> int:
    """Return how many references to an object of such a list ``sys.getrefcount`` counts that are ours."""
    # Measured with an object of our own in the same kind of place, because what a call adds differs between versions.
    objects: list[Any] = [object()]
    return next(sys.getrefcount(objects[number]) for number in (0,))


def counts_are_exact() -> bool:
    """Say whether reference counts tell everything: not in a free-threaded build."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())
