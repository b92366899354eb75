"""Starts the agent and a program, with one function of the agent broken; run by `everywhere`, standard library only.

    python inject.py record FILE app.py      note in FILE each function of the agent that is called
    python inject.py FUNCTION app.py         have FUNCTION (``module:qualified name``) raise when it is called

The functions are changed in their source, before it is compiled: so every one can be broken, whenever its module is loaded.  A function
that is one ``try`` statement is a guard: it is broken inside.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import os
import runpy
import sys

PACKAGE = "leakagent"

#: What is not the agent in the program: the command line, and what only tests and pytest use.
OUTSIDE = ("leakagent.cli", "leakagent.pytest_plugin", "leakagent.testing", "leakagent.__main__")

BREAK = "raise MemoryError('injected')"
NOTE = "__import__('builtins')._leakagent_note({name!r})"


class _Changer(ast.NodeTransformer):
    """Puts a statement at the beginning of functions; ``wanted`` is the name of the only one, or empty for all."""

    def __init__(self, module: str, wanted: str, statement: str) -> None:
        self.module = module
        self.wanted = wanted
        self.statement = statement
        self.names: list[str] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._inside(node, node.name)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        name = f"{self.module}:{'.'.join([*self.names, node.name])}"
        if self.wanted in {"", name}:
            body = node.body
            place = 1 if ast.get_docstring(node, clean=False) is not None else 0
            if len(body) == place + 1 and isinstance(body[place], ast.Try):
                body, place = body[place].body, 0
            body[place:place] = ast.parse(self.statement.format(name=name)).body
        return self._inside(node, node.name)

    def _inside(self, node: ast.AST, name: str) -> ast.AST:
        self.names.append(name)
        self.generic_visit(node)
        self.names.pop()
        return node


def change(wanted: str, statement: str) -> None:
    """Change the functions of every module of the package that is loaded from now on."""
    original = importlib.machinery.SourceFileLoader.get_code

    def get_code(loader, fullname):  # type: ignore[no-untyped-def]
        if not fullname.startswith(PACKAGE) or fullname.startswith(OUTSIDE):
            return original(loader, fullname)
        if wanted and not wanted.startswith(f"{fullname}:"):
            return original(loader, fullname)
        path = loader.get_filename(fullname)
        tree = ast.parse(loader.get_data(path))
        changed = ast.fix_missing_locations(_Changer(fullname, wanted, statement).visit(tree))
        return compile(changed, path, "exec", dont_inherit=True)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]


def main() -> None:
    """Change the agent, start it as ``LEAKAGENT=1`` does, and run the program."""
    what, *rest = sys.argv[1:]
    if what == "record":
        descriptor = os.open(rest.pop(0), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        seen: set[str] = set()

        def note(name: str, seen: set[str] = seen, write=os.write, descriptor: int = descriptor) -> None:  # type: ignore[no-untyped-def]
            if name not in seen:
                seen.add(name)
                write(descriptor, f"{name}\n".encode())

        builtins._leakagent_note = note  # type: ignore[attr-defined]
        change("", NOTE)
    elif what != "bare":
        change(what, BREAK)
    program = rest[0]
    sys.argv[:] = rest
    if what != "bare":
        os.environ["LEAKAGENT"] = "1"
        from leakagent import bootstrap

        bootstrap.start()
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
