"""A pytest plugin that puts a wrong detector in place of the proof, in every program that a test starts.

``tests/process/test_mutations.py`` starts pytest with it.  The programs are other processes: they get it by a
``sitecustomize.py`` in a folder of their own on ``PYTHONPATH``.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VARIABLE = "WRONG_DETECTOR"

#: What takes the place of ``is_lost`` in `leakagent.detect.lost`, as the text of its last lines.
WRONG = {
    "none": "answer = right(box, **more)",
    "always yes": "box.pop(); answer = True",
    "always no": "box.pop(); answer = False",
    # One reference more than the caller's box: the proof sees it and calls the task alive.
    "one too many": "extra = box[-1]; answer = right(box, **more)",
    # One reference less: what holds a task from outside by one reference is not seen.
    "one too few": "lost.own_references = lambda: own() + 1; answer = right(box, **more)",
}

_TEXT = """\
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != "leakagent.detect.lost":
            return None
        sys.meta_path.remove(self)
        import importlib.util
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            lost = module
            own, right = lost.own_references, lost.is_lost
            def is_lost(box, **more):
                {wrong}
                return answer
            module.is_lost = is_lost
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


@pytest.fixture(autouse=True)
def _wrong_detector(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder: Path = tmp_path_factory.mktemp("wrong")
    text = _TEXT.format(wrong=WRONG[os.environ[VARIABLE]])
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    # Programs get no PYTHON* variable of the tests themselves (`clean_environment`).
    for module in list(sys.modules.values()):
        original = vars(module).get("clean_environment")
        if original is not None:
            monkeypatch.setattr(module, "clean_environment", _with_folder(original, os.fspath(folder)))


def _with_folder(original: Callable[..., dict[str, str]], folder: str) -> Callable[..., dict[str, str]]:
    return lambda extra=None: {**original(extra), "PYTHONPATH": folder}
