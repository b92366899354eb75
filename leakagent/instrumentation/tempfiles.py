"""Files of ``tempfile.NamedTemporaryFile`` and folders of ``tempfile.TemporaryDirectory``.

What is told.  Python removes what is dropped, and what is there at the end: one that lives as long as the program is documented and left alone.
But it does not like it ("Implicitly cleaning up", a `ResourceWarning` that hardly anybody sees), and when it is done is up to the collector: so
two or more of one place that were dropped open are told, and ten or more files that are open at the end (`tempfile` has removed its
folders by then).  ``delete=False`` is meant to stay, and so are ``mkdtemp`` and ``mkstemp``.
"""

from __future__ import annotations

import os

from leakagent.core.records import TEMPORARY_DIRECTORY, TEMPORARY_FILE
from leakagent.shutdown import interpreter

from .closables import Closables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from typing import Any, ClassVar

    from .patching import Patches


class TemporaryFiles(Closables):
    """Sees named temporary files and temporary directories."""

    kinds: ClassVar[Mapping[str, str]] = {
        TEMPORARY_FILE: "`with tempfile.NamedTemporaryFile() as file:`, or file.close()",
        TEMPORARY_DIRECTORY: "`with tempfile.TemporaryDirectory() as folder:`, or folder.cleanup()",
    }

    def arrived(self, module: ModuleType, patches: Patches) -> None:
        """Patch ``tempfile``."""
        self.watch(patches, module.TemporaryDirectory, TEMPORARY_DIRECTORY, ("cleanup",))
        self.watch(patches, interpreter.temporary_file(), TEMPORARY_FILE, ("close", "__exit__"))

    def name(self, resource: Any) -> str:  # noqa: ANN401
        """Return its path."""
        return str(resource.name)

    def is_open(self, resource: Any) -> bool:  # noqa: ANN401
        """Say whether the file is open, or the folder there."""
        file = getattr(resource, "file", None)
        return os.path.isdir(resource.name) if file is None else not file.closed
