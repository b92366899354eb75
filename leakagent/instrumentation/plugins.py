"""Instrumentations that other packages bring, by the entry-point group `leakagent.instrumentation`.

The problem.  `importlib.metadata` costs 14 ms to import (3.11) and reads every package's metadata; the agent stands in each start of
Python.  And a plug-in imports the library that it knows, or at least itself, which a program that does not use it must not pay for.

What we do.  The name of an entry point is the module that it patches (``"acme.client" = "acme_leakagent:AcmeClients"``), so nothing of
a plug-in is imported before the program has imported that module.  Which entry points there are is read from the ``entry_points.txt``
of installed packages (https://packaging.python.org/en/latest/specifications/entry-points/), without `importlib.metadata`, when the program imports its first
package: 1 to 2 ms with 150 packages installed, once for each entry of ``sys.path``; a program that needs the standard library alone pays nothing.

What is still open.  Packages inside of zip files are not looked through.  A plug-in for a module of the standard library is found when the
program imports any package.
"""

from __future__ import annotations

import os
import sys

from leakagent import guard
from leakagent.core.records import KINDS

from .protocol import Instrumentation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Any

    from .importhook import ImportHook

GROUP = "leakagent.instrumentation"
_FOLDERS = (".dist-info", ".egg-info")


class PluginError(Exception):
    """A plug-in can't be used; the text says why, in one line."""


class Plugin:
    """One entry point.

    Attributes:
        target: The module that it patches.
        value: Where its class is, ``module:Class``.
        package: Name and version of the package that brings it.
        part: What the agent calls it; entry points with the same value are one part.

    """

    __slots__ = ("package", "part", "target", "value")

    def __init__(self, target: str, value: str, package: str) -> None:
        """Note an entry point; nothing is imported."""
        self.target = target
        self.value = value
        self.package = package
        self.part = f"{guard.PLUGIN}{value} of {package}"

    def load(self) -> type[Instrumentation]:
        """Import it and return its class.

        Raises:
            PluginError: It can't be imported, or is no instrumentation.

        """
        name, _, path = self.value.partition(":")
        try:
            found: Any = __import__(name, fromlist=["_"])
            for step in filter(None, path.split(".")):
                found = getattr(found, step)
        except (KeyboardInterrupt, MemoryError):
            raise
        except BaseException as error:  # a Rust panic, or a module that ends the program
            message = f"it could not be imported ({type(error).__name__}: {error})"
            raise PluginError(message) from error
        if not (isinstance(found, type) and issubclass(found, Instrumentation)):
            message = "it is no subclass of leakagent.plugin.Instrumentation"
            raise PluginError(message)
        taken = sorted(set(KINDS).intersection(found.kinds))
        if taken or not found.kinds:
            message = f"the kind {taken[0]} is leakagent's own" if taken else "it names no kind"
            raise PluginError(message)
        return found


class Plugins:
    """Finds the plug-ins of a process, and has each called when its module arrives."""

    def __init__(self, hook: ImportHook, arrived: Callable[[Plugin, ModuleType], None]) -> None:
        """Know none; ``arrived`` is called with a plug-in and the module that it waits for."""
        self.found: list[Plugin] = []
        self._hook = hook
        self._arrived = arrived
        self._seen: set[str] = set()

    def watch(self, *, at_once: bool) -> None:
        """Look for plug-ins when the first package is imported, or now."""
        self._hook.on_package = self.look
        if at_once:
            guard.call("plug-ins", self.look)

    def look(self) -> None:
        """Read the entry points of what has come to ``sys.path`` since the last time."""
        for folder in list(sys.path):
            if folder in self._seen:
                continue
            self._seen.add(folder)
            for plugin in _plugins_in(folder):
                # The same package twice: the first one on the path is the one that is imported.
                if any((plugin.target, plugin.value) == (known.target, known.value) for known in self.found):
                    continue
                self.found.append(plugin)
                self._hook.when_imported(plugin.target, plugin.part, self._caller(plugin))

    def _caller(self, plugin: Plugin) -> Callable[[ModuleType], None]:
        return lambda module: self._arrived(plugin, module)

    def examine(self) -> list[dict[str, Any]]:
        """Load every plug-in and say what it brings and what is wrong with it, for ``leakagent doctor``."""
        self.look()
        examined = []
        for plugin in self.found:
            kinds, problem = [], ""
            try:
                kinds = sorted(plugin.load().kinds)
            except PluginError as error:
                problem = str(error)
            facts = {"target": plugin.target, "plugin": plugin.value, "package": plugin.package}
            examined.append({**facts, "kinds": kinds, "problem": problem})
        return examined


def _plugins_in(folder: str) -> Iterator[Plugin]:
    try:
        names = os.listdir(folder or os.curdir)
    except OSError:  # not there, or a zip file
        return
    for name in names:
        if name.endswith(_FOLDERS):
            for target, value in _entry_points(os.path.join(folder, name, "entry_points.txt")):
                yield Plugin(target, value, name.rpartition(".")[0].replace("-", " "))


def _entry_points(path: str) -> list[tuple[str, str]]:
    """Return name and value of the entry points of our group in a file."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return []
    if GROUP.encode() not in content:
        return []
    found, inside = [], False
    for line in content.decode("utf-8", "replace").splitlines():
        text = line.strip()
        if text.startswith("["):
            inside = text == f"[{GROUP}]"
        elif inside and "=" in text and not text.startswith(("#", ";")):
            name, _, value = text.partition("=")
            # What follows are names of extras, which have no meaning any more.
            found.append((name.strip(), "".join(value.partition("[")[0].split())))
    return found
