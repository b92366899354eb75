"""asyncio's own registry of tasks, taken over: cheaper than without the agent, and every task is seen.

The problem.  Up to Python 3.13 every task puts itself into a `weakref.WeakSet` of asyncio's, from which ``all_tasks`` reads.  It
costs a weak reference with a callback, a Python call at its birth and another at its death: 11 to 16 % of a task.  Noting the
task a second time comes on top.

What we do.  C calls the method ``add`` of that one object: an attribute of the object itself gets in front of the class's, and is
`TaskTable.add`, which notes a plain weak reference.  The object becomes one of a subclass that reads from the table when somebody
asks what is in it.  So tasks are noted once, and on all paths: ``asyncio.Task(...)`` itself, task factories, any loop.  Whoever
does more than read (`discard`, `pop`, ...: nobody in the standard library does) gets the original back, filled, for good.

The functions that create most tasks (`leakagent.instrumentation.task_functions`) note them themselves, with their site.  While they
call the constructor they put ``append`` of a list in the place of ``add``, so that no Python code is called from C at all, and
take the task out of that list again: it is held for no longer than the call lasts.

What is still open.  3.14 and newer keep tasks in a list in C: there is nothing to take over, and nothing to be saved.
"""

from __future__ import annotations

import weakref

from leakagent.shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .task_table import TaskTable


class _Taken(weakref.WeakSet):  # type: ignore[type-arg]
    """asyncio's registry while it is ours; its own set has the tasks from before."""

    table: TaskTable

    def __iter__(self) -> Iterator[Any]:
        yield from self.table.being_born()
        for known in self.table.noted():
            task = known()
            if task is not None:
                yield task
        yield from super().__iter__()

    def __len__(self) -> int:
        return len(self.table.being_born()) + sum(known() is not None for known in self.table.noted()) + super().__len__()

    def __contains__(self, item: object) -> bool:
        known = [*self.table.being_born(), *map(interpreter.call, self.table.noted())]
        return any(task is item for task in known) or super().__contains__(item)


def _original(name: str) -> Any:  # noqa: ANN401 - a method
    method = getattr(weakref.WeakSet, name)

    def give_back_first(self: _Taken, *arguments: Any) -> Any:  # noqa: ANN401
        give_back(self)
        return method(self, *arguments)

    give_back_first.__name__ = name
    return give_back_first


_READING = {"__init__", "__iter__", "__len__", "__contains__", "__repr__", "__class_getitem__", "_commit_removals", "add"}

for _name, _method in vars(weakref.WeakSet).items():
    if callable(_method) and _name not in _READING:
        setattr(_Taken, _name, _original(_name))


class _Probe:
    """What `take` tries the way into the table with."""

    def done(self) -> bool:
        """Be no task that has to be held."""
        return True


def _has_class(registry: object, wanted: type) -> bool:
    return type(registry) is wanted


def take(table: TaskTable) -> bool:
    """Have asyncio's registry note tasks in ``table``; False where it can't be done."""
    registry: Any = interpreter.task_registry()
    if not _has_class(registry, weakref.WeakSet):
        return False
    registry.__class__ = _Taken
    registry.table = table
    registry.add = table.add
    table.slot = vars(registry)
    table.taken = True
    probe = _Probe()
    interpreter.register_task(probe)
    seen = probe in registry
    table.remove(probe)
    if not seen:
        give_back(registry)
    return seen


def give_back(registry: Any = None) -> None:  # noqa: ANN401 - asyncio's registry
    """Make the registry what it was before `take`, with all tasks in it."""
    if registry is None:
        registry = interpreter.task_registry()
    if not _has_class(registry, _Taken):
        return
    table = registry.table
    table.taken = False
    # Another one: functions that are still at work write into the former.
    registry.__dict__ = {name: value for name, value in vars(registry).items() if name not in {"add", "table"}}
    table.drain()
    registry.__class__ = weakref.WeakSet
    for known in table.noted():
        task = known()
        if task is not None:
            registry.add(task)
