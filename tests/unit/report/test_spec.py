from __future__ import annotations

import subprocess
import sys

import pytest

from leakagent.report.spec import Target, parse_spec


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("text", [Target("text")]),
        ("off", []),
        (" OFF ", []),
        ("github", [Target("github")]),
        ("json:r.json", [Target("json", "r.json")]),
        (
            "text, json:out/{pid}.json ,html:r.html",
            [
                Target("text"),
                Target("json", "out/{pid}.json"),
                Target("html", "r.html"),
            ],
        ),
        ("markdown:C:\\r.md", [Target("markdown", "C:\\r.md")]),
        ("JSON:Name.JSON", [Target("json", "Name.JSON")]),
    ],
)
def test_a_value_is_read(text: str, targets: list[Target]) -> None:
    assert parse_spec(text) == targets


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is no report format"),
        ("text,", "'' is no report format"),
        ("yaml:x", "'yaml:x' is no report format"),
        ("json", "'json' needs a path"),
        ("text,json: ", "'json:' needs a path"),
        ("text,text", "'text' is given twice"),
        ("github,github", "'github' is given twice"),
        ("json:a,json:a", "'json:a' is given twice"),
        ("json:a,html:a", "'html:a' names a file that another report goes to"),
        ("text:x", "'text:x' takes no path"),
        ("off:x", "'off:x' takes no path"),
        ("off,text", "'off' can't be combined with other reports"),
        ("text,off", "'off' can't be combined with other reports"),
        ("json:out/", "'json:out/' names a folder where a file is needed"),
        ("json:a\0b", "'json:a\\x00b' has a path that no file can have"),
        ("\x1b[31m\n", "'\\x1b[31m' is no report format"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_the_part_and_what_is_allowed(text: str, problem: str) -> None:
    allowed = "allowed: a comma list of text, json:PATH, html:PATH, markdown:PATH, github, or off alone"
    with pytest.raises(ValueError, match="allowed") as caught:
        parse_spec(text)
    assert str(caught.value) == f"{problem}; {allowed}"


def test_targets_compare_and_show_themselves() -> None:
    assert len({Target("text"), Target("text"), Target("json", "a")}) == 2
    assert repr([Target("text"), Target("json", "a")]) == "[<Target text>, <Target json:a>]"


def test_reading_a_value_imports_nothing() -> None:
    # It runs at the start of every program.
    code = (
        "import sys, leakagent.report\nbefore = set(sys.modules)\nimport leakagent.report.spec\n"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"leakagent.report.spec", "__future__"}
