"""Imports point one way, three packages have one importer each, and private names of CPython stand in one file."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import leakagent
from leakagent.instrumentation import TARGETS

PACKAGE = Path(leakagent.__file__).parent

#: Layer of each part; a module may import from its own layer and from lower ones.
LAYERS = {
    "core": 0,
    "guard": 0,
    "config": 0,
    "_toml310": 0,
    "detect": 1,
    "instrumentation": 2,
    "shutdown": 2,
    "processes": 2,
    "report": 3,
    "telemetry": 3,
    "live": 3,
    "watcher": 2,
    "plugin": 3,
    "samples": 2,
    "surroundings": 2,
    "telling": 4,
    "looking": 4,
    "inventory": 4,
    "why": 4,
    "adopting": 4,
    "attached": 5,
    "leftovers": 4,
    "ending": 4,
    "agent": 4,
    "scopes": 4,
    "owners": 4,
    "testing": 5,
    "pytest_lancedb": 5,
    "pytest_plugin": 5,
    "pytest_watching": 5,
    "bootstrap": 5,
    "cli": 5,
    "__init__": 5,
    "__main__": 6,
}

#: Modules that import nothing but the lowest layer, although their package stands higher.
LEAVES = {"report.spec"}

#: Package -> the only places that may import it.
ONLY_FROM = {
    "wrapt": ("instrumentation/patching",),
    "psutil": ("processes/", "instrumentation/"),
    "opentelemetry": ("telemetry/",),
    "textual": ("cli/top_screen",),
    "pytest": ("pytest_plugin", "pytest_watching", "pytest_lancedb"),
    "_pytest": ("pytest_watching",),
}

PRIVATE_NAMES_IN = "shutdown/interpreter"

#: Private C modules that are documented interfaces (`_thread`: "Low-level threading API").
DOCUMENTED = {"_thread"}


def sources() -> list[tuple[str, ast.Module]]:
    return [
        (path.relative_to(PACKAGE).with_suffix("").as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def imported(name: str, tree: ast.Module, *, at_run_time: bool = False) -> list[str]:
    """Return the absolute names that a module imports, those for type checkers included unless told otherwise."""
    found = []
    parts = ["leakagent", *name.split("/")]
    skipped = set(_type_checking_nodes(tree)) if at_run_time else set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parts[: len(parts) - node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            found += [f"{module}.{alias.name}" for alias in node.names] if module == "leakagent" else [module]
    return found


def _type_checking_nodes(tree: ast.Module) -> list[ast.AST]:
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"]
    return [inner for block in blocks for inner in ast.walk(block)]


def layer_errors(name: str, tree: ast.Module) -> list[str]:
    own = LAYERS[name.split("/", maxsplit=1)[0]]
    errors = []
    for target in imported(name, tree, at_run_time=True):
        if target.startswith("leakagent."):
            part = target.split(".")[1]
            # A name of the package itself (`from leakagent import __version__`) is no module.
            if part in LAYERS and LAYERS[part] > own and target.removeprefix("leakagent.") not in LEAVES:
                errors.append(f"{name} imports {target}")
    return errors


def importer_errors(name: str, tree: ast.Module) -> list[str]:
    return [
        f"{name} imports {target}"
        for target in imported(name, tree)
        if (allowed := ONLY_FROM.get(target.split(".")[0])) and not name.startswith(allowed)
    ]


def private_errors(name: str, tree: ast.Module) -> list[str]:
    if name == PRIVATE_NAMES_IN:
        return []
    modules = {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.split(".")[0] in sys.stdlib_module_names
    }
    errors = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and _root(node) in modules and node.attr != "_exit":
            errors.append(f"{name}:{node.lineno} uses {ast.unparse(node)}")
        if isinstance(node, ast.Import):
            errors += [
                f"{name}:{node.lineno} imports {alias.name}"
                for alias in node.names
                if _is_private(alias.name) and alias.name in sys.stdlib_module_names and alias.name not in DOCUMENTED
            ]
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] in sys.stdlib_module_names:
            errors += [f"{name}:{node.lineno} imports {alias.name}" for alias in node.names if _is_private(alias.name)]
    return errors


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def test_imports_point_one_way() -> None:
    assert [error for source in sources() for error in layer_errors(*source)] == []


def test_leaves_import_nothing_higher() -> None:
    for name, tree in sources():
        if name.replace("/", ".") in LEAVES:
            assert [target for target in imported(name, tree) if target.startswith("leakagent")] == []


def test_packages_have_one_importer() -> None:
    assert [error for source in sources() for error in importer_errors(*source)] == []


def test_no_library_that_is_patched_is_imported() -> None:
    libraries = {target.partition(".")[0] for target in TARGETS} - sys.stdlib_module_names
    assert {"chromadb", "lancedb"} <= libraries
    found = [(name, one) for name, tree in sources() for one in imported(name, tree, at_run_time=True)]
    assert [(name, one) for name, one in found if one.partition(".")[0] in libraries] == []


def test_private_names_stand_in_one_file() -> None:
    assert [error for source in sources() for error in private_errors(*source)] == []


def test_every_part_has_a_layer() -> None:
    assert {name.split("/")[0] for name, _ in sources()} - set(LAYERS) == set()


def test_the_checks_see_what_they_forbid() -> None:
    planted = ast.parse("import wrapt, threading, _asyncio\nfrom leakagent.agent import start\nthreading._shutdown()\n")
    assert layer_errors("core/sites", planted) == ["core/sites imports leakagent.agent"]
    assert importer_errors("core/sites", planted) == ["core/sites imports wrapt"]
    assert private_errors("core/sites", planted) == [
        "core/sites:1 imports _asyncio",
        "core/sites:3 uses threading._shutdown",
    ]
