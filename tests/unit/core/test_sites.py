"""Where something was created: two words that become function, file, line and owner."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import leakagent
from leakagent.core.sites import (
    LIBRARY,
    UNKNOWN,
    YOURS,
    Site,
    capture_stack,
    creating_frame,
    line_of,
    owner_of,
    resolve,
    shown_path,
    starts_the_program,
)

OWNERS = {
    "/app/rag/chat.py": YOURS,
    "/app/my-site-packages-tool/chat.py": YOURS,
    "/venv/lib/python3.11/site-packages/chromadb/api/client.py": LIBRARY,
    "/usr/lib/python3/dist-packages/yaml/__init__.py": LIBRARY,
    "C:\\venv\\Lib\\site-packages\\httpx\\_client.py": LIBRARY,
    os.__file__: LIBRARY,
    os.path.join(os.path.dirname(os.__file__), "asyncio", "tasks.py"): LIBRARY,
    "<frozen importlib._bootstrap>": LIBRARY,
    "<string>": YOURS,
    "": YOURS,
}


@pytest.mark.parametrize("path", OWNERS)
def test_the_owner(path: str) -> None:
    assert owner_of(path) == OWNERS[path]


def test_the_agents_own_files_are_a_library() -> None:
    import leakagent.agent

    assert owner_of(leakagent.agent.__file__) == LIBRARY
    assert (
        owner_of(leakagent.agent.__file__.replace("leakagent/agent", "leakagent_app/agent").replace("site-packages", "src"))
        == YOURS
    )


@pytest.mark.parametrize(
    ("path", "base", "shown"),
    [
        ("/app/rag/chat.py", "/app", "rag/chat.py"),
        ("/app/rag/chat.py", "/app/", "rag/chat.py"),
        ("/application/chat.py", "/app", "/application/chat.py"),
        ("/app/chat.py", "", "/app/chat.py"),
        ("/app/.venv/lib/python3.11/site-packages/httpx/_client.py", "/app", "httpx/_client.py"),
        ("/a/site-packages/b/site-packages/c.py", "", "c.py"),
        (os.path.join(os.path.dirname(os.__file__), "asyncio", "tasks.py"), "", "asyncio/tasks.py"),
        ("<string>", "/app", "<string>"),
        ("/chat.py", "/", "chat.py"),
    ],
)
def test_the_path_that_people_see(path: str, base: str, shown: str) -> None:
    assert shown_path(path, base) == shown


@given(st.text(max_size=60), st.text(max_size=20))
def test_any_path_is_shown(path: str, base: str) -> None:
    site = Site("f", path, 1, base=base)
    assert site.owner in {YOURS, LIBRARY}
    assert path.replace("\\", "/").endswith(site.file)
    assert site == Site("f", path, 1)
    assert hash(site) == hash(Site("f", path, 1, base="/elsewhere"))


def test_two_places_are_told_apart() -> None:
    site = Site("f", "/a.py", 1)
    assert len({site, Site("f", "/a.py", 2), Site("g", "/a.py", 1), Site("f", "/b.py", 1)}) == 4
    assert site != "/a.py"


def test_a_place_is_resolved_to_its_very_line() -> None:
    def made() -> list[object]:
        frame = (sys._getframe(),)[0]
        return [frame.f_code, frame.f_lasti, frame.f_lineno]

    code, lasti, line = made()
    site = resolve(code, lasti, base=os.path.dirname(__file__))  # type: ignore[arg-type]
    assert (site.line, site.file, site.owner) == (line, os.path.basename(__file__), YOURS)
    expected = "made" if sys.version_info < (3, 11) else "test_a_place_is_resolved_to_its_very_line.<locals>.made"
    assert site.function == expected
    assert resolve(None, 0) is UNKNOWN


def test_an_offset_that_the_code_does_not_have_is_the_functions_first_line() -> None:
    code = test_two_places_are_told_apart.__code__
    assert line_of(code, 10**9) == line_of(code, -5) == code.co_firstlineno


def _frame_of(module: str, inner: object = None) -> object:
    """Return a frame of a function in a module with that name, called by the given chain."""
    namespace: dict[str, object] = {"__name__": module, "sys": sys}
    exec("def make(call): return call() if call else sys._getframe()", namespace)
    return namespace["make"]


@pytest.mark.parametrize("module", ["asyncio.tasks", "concurrent.futures.thread", "leakagent.x", "contextlib", "uvloop"])
def test_frames_that_pass_a_creation_on_are_walked_over(module: str) -> None:
    make = _frame_of(module)
    frame = make(None)  # type: ignore[operator]
    found = creating_frame(frame)
    assert found is sys._getframe()


@pytest.mark.parametrize("module", ["app", "asyncio_extras", "concurrently", "__main__", None])
def test_other_frames_are_the_answer(module: str | None) -> None:
    frame = _frame_of(module)(None)  # type: ignore[arg-type,operator]
    assert creating_frame(frame) is frame


def test_no_frame_at_all() -> None:
    assert creating_frame(None) is None
    assert capture_stack(None) == []


def test_a_stack_is_bounded_and_innermost_first() -> None:
    def dive(depth: int) -> list[object]:
        return dive(depth - 1) if depth else capture_stack(sys._getframe(), limit=5)  # type: ignore[return-value]

    stack = dive(20)
    assert len(stack) == 5
    assert {code.co_name for code, _ in stack} == {"dive"}  # type: ignore[misc,attr-defined]


def test_what_runs_the_program_is_no_part_of_a_stack() -> None:
    assert starts_the_program(f"{Path(leakagent.__file__).parent}/cli/run.py")
    assert starts_the_program("<frozen runpy>")
    assert not starts_the_program("/app/runpy_helper.py")


@given(st.lists(st.sampled_from(["call", "blank", "comment", "long", "inside", "lambda"]), min_size=1, max_size=12))
def test_every_call_is_resolved_to_the_line_that_a_traceback_has(parts: list[str]) -> None:
    """Programs of any layout: what two captured words say later is what the frame said when it ran."""
    texts = {
        "call": "note()",
        "blank": "",
        "comment": "# nothing",
        "long": "note(\n    1,\n    note(),\n)",
        "inside": "def inner():\n    note()\n    note(\n        2)\ninner()",
        "lambda": "(lambda:\n    note())()",
    }
    seen: list[tuple[Any, int, int]] = []

    def note(*_: object) -> None:
        frame = sys._getframe(1)
        seen.append((frame.f_code, frame.f_lasti, frame.f_lineno))

    exec(compile("\n".join(texts[part] for part in parts), "/app/any.py", "exec"), {"note": note})
    for code, lasti, line in seen:
        site = resolve(code, lasti, base="/app")
        assert (site.line, site.file, site.owner) == (line, "any.py", YOURS)
