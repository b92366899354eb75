"""Tell when a module arrives, without importing anything: a finder in front of ``sys.meta_path``.

The real finders find the module; ours only has the loader's ``exec_module`` call back once when the module's code has run.
The loader object stays the same and gets its own method back afterwards, so that ``module.__spec__`` and ``__loader__``
are what they would have been.  An exception in a callback switches that callback's part off and never reaches the import.
"""

from __future__ import annotations

import sys

from leakagent import guard
from leakagent.shutdown import interpreter

from .patching import hide_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


#: What `site` asks for before all of ``sys.path`` is there, and the standard library.
_NO_PACKAGES = sys.stdlib_module_names.union(("sitecustomize", "usercustomize"))


class ImportHook:
    """Calls back when one of the wanted modules has been imported."""

    def __init__(self) -> None:
        """Start without any wanted module."""
        self._wanted: dict[str, list[tuple[str, Callable[[ModuleType], None]]]] = {}
        self._busy: set[str] = set()
        #: Called before a module of the top level is looked for that is none of the standard library's.
        self.on_package: Callable[[], None] | None = None

    def when_imported(self, name: str, part: str, callback: Callable[[ModuleType], None]) -> None:
        """Call ``callback(module)`` when ``name`` is imported, now if it already is; ``part`` is named if it fails."""
        self._wanted.setdefault(name, []).append((part, callback))
        module = sys.modules.get(name)
        if module is not None and not interpreter.is_being_imported(module):
            guard.call(part, callback, module)

    def enable(self) -> None:
        """Start watching imports."""
        sys.meta_path.insert(0, self)

    def disable(self) -> None:
        """Stop watching imports."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self._wanted.clear()
        self.on_package = None

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a wanted module by the other finders and prepare the call (``importlib.abc.MetaPathFinder``)."""
        if self.on_package is not None and "." not in name and name not in _NO_PACKAGES and name[:1] != "_":
            guard.call("plug-ins", self.on_package)
        if name not in self._wanted or name in self._busy:
            return None
        self._busy.add(name)
        try:
            spec = self._real_spec(name, path, target)
        except Exception:  # noqa: BLE001 - what another finder raises, it raises again when it is asked by Python
            return None
        finally:
            self._busy.discard(name)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            guard.call("imports", self._prepare, name, spec)
        return spec

    def _real_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
        return None

    def _prepare(self, name: str, spec: ModuleSpec) -> None:
        loader = spec.loader
        original = loader.exec_module  # type: ignore[union-attr]

        def exec_module(module: ModuleType) -> None:
            vars(loader).pop("exec_module", None)
            try:
                original(module)
            except BaseException as error:
                hide_frames(error)
                raise
            for part, callback in self._wanted.get(name, ()):
                guard.call(part, callback, module)

        try:
            loader.exec_module = exec_module  # type: ignore[union-attr, method-assign]
        except AttributeError:  # a loader without a dictionary of its own, such as the one for frozen modules
            guard.say(f"{name} comes from {type(loader).__name__}, which can't be watched; its resources are not tracked")
