"""The import hook: it tells when a module has arrived, and leaves no trace on it."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from leakagent import guard
from leakagent.instrumentation.importhook import ImportHook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

pytestmark = pytest.mark.usefixtures("fresh_guard")


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImportHook]:
    monkeypatch.syspath_prepend(tmp_path)
    known, made = set(sys.modules), ImportHook()
    made.enable()
    yield made
    made.disable()
    assert made not in sys.meta_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_called_once_when_the_code_has_run(hook: ImportHook, tmp_path: Path) -> None:
    (tmp_path / "wanted_one.py").write_text("value = 1\n", encoding="utf-8")
    (tmp_path / "plain_one.py").write_text("value = 1\n", encoding="utf-8")
    seen: list[tuple[str, int]] = []
    hook.when_imported("wanted_one", "part", lambda module: seen.append((module.__name__, module.value)))
    assert seen == []
    wanted, plain = importlib.import_module("wanted_one"), importlib.import_module("plain_one")
    importlib.import_module("wanted_one")
    assert seen == [("wanted_one", 1)]
    # It looks like any other module.
    assert vars(wanted).keys() == vars(plain).keys()
    assert type(wanted.__loader__) is type(plain.__loader__)
    assert vars(wanted.__loader__).keys() == vars(plain.__loader__).keys()
    assert wanted.__spec__ is not None
    assert wanted.__spec__.loader is wanted.__loader__
    importlib.reload(wanted)
    assert len(seen) == 2


def test_a_module_that_is_there_already(hook: ImportHook) -> None:
    seen: list[ModuleType] = []
    hook.when_imported("json", "part", seen.append)
    assert seen == [importlib.import_module("json")]


def test_a_module_that_is_being_imported_is_told_when_it_is_complete(hook: ImportHook, tmp_path: Path) -> None:
    (tmp_path / "half_one.py").write_text("import half_hooks\nhalf_hooks.register()\nvalue = 1\n", encoding="utf-8")
    (tmp_path / "half_hooks.py").write_text("def register(): pass\n", encoding="utf-8")
    seen: list[object] = []
    hooks = importlib.import_module("half_hooks")
    hook.when_imported("half_one", "first", lambda module: seen.append(("first", module.value)))
    hooks.register = lambda: hook.when_imported("half_one", "second", lambda module: seen.append(("second", module.value)))  # type: ignore[attr-defined]
    importlib.import_module("half_one")
    assert seen == [("first", 1), ("second", 1)]


def test_packages_and_their_modules(hook: ImportHook, tmp_path: Path) -> None:
    (tmp_path / "wanted_package").mkdir()
    (tmp_path / "wanted_package" / "__init__.py").write_text("from . import inner\n", encoding="utf-8")
    (tmp_path / "wanted_package" / "inner.py").write_text("", encoding="utf-8")
    seen: list[str] = []
    for name in ("wanted_package", "wanted_package.inner"):
        hook.when_imported(name, "part", lambda module: seen.append(module.__name__))
    importlib.import_module("wanted_package")
    assert seen == ["wanted_package.inner", "wanted_package"]


def test_an_error_of_the_module_is_its_own_and_it_can_be_tried_again(hook: ImportHook, tmp_path: Path) -> None:
    path = tmp_path / "broken_one.py"
    path.write_text("raise OSError('broken')\n", encoding="utf-8")
    seen: list[ModuleType] = []
    hook.when_imported("broken_one", "part", seen.append)
    for _ in range(2):
        with pytest.raises(OSError, match="broken"):
            importlib.import_module("broken_one")
    assert (seen, guard.disabled) == ([], {})
    path.write_text("value = 'longer than before'\n", encoding="utf-8")
    importlib.invalidate_caches()
    importlib.import_module("broken_one")
    assert len(seen) == 1
    hook.when_imported("missing_one", "part", seen.append)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("missing_one")


def test_an_error_of_a_callback_does_not_reach_the_import(hook: ImportHook, tmp_path: Path) -> None:
    (tmp_path / "wanted_two.py").write_text("", encoding="utf-8")
    seen: list[ModuleType] = []
    hook.when_imported("wanted_two", "failing", lambda _module: {}[0])
    hook.when_imported("wanted_two", "working", seen.append)
    importlib.import_module("wanted_two")
    assert (len(seen), list(guard.disabled)) == (1, ["failing"])


def test_imported_by_several_threads_at_once(hook: ImportHook, tmp_path: Path) -> None:
    (tmp_path / "wanted_three.py").write_text("import time\ntime.sleep(0.05)\nvalue = 1\n", encoding="utf-8")
    seen: list[int] = []
    hook.when_imported("wanted_three", "part", lambda module: seen.append(module.value))
    threads = [threading.Thread(target=importlib.import_module, args=("wanted_three",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1]


def test_disabled_it_tells_nothing(tmp_path: Path, hook: ImportHook) -> None:
    (tmp_path / "wanted_four.py").write_text("", encoding="utf-8")
    seen: list[ModuleType] = []
    hook.when_imported("wanted_four", "part", seen.append)
    hook.disable()
    hook.disable()
    importlib.import_module("wanted_four")
    assert seen == []
