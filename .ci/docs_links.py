"""A hook of mkdocs: takes sections of README into pages, and makes links of files that the site does not have their text.

A page has ``--8<-- "README.md:NAME"`` where the section between the two comments of that name belongs.  Links in it are those of README: to
``docs/`` they are made anew for the page.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
_LINK = re.compile(r"\[([^\]]*)\]\(([^):#\s]+)(#[^)\s]*)?\)")
_SECTION = re.compile(r'^--8<-- "README\.md:(\w+)"$', re.MULTILINE)


def on_page_markdown(markdown: str, *, page: object, **_more: object) -> str:
    """Return the page's text; a link to a file that is nowhere stays, and breaks the build."""
    folder = Path(page.file.abs_src_path).parent  # type: ignore[attr-defined]
    markdown = _LINK.sub(lambda match: _link(match, folder, folder), markdown)
    return _SECTION.sub(lambda match: _LINK.sub(lambda link: _link(link, ROOT, folder), _section(match[1])), markdown)


def _section(name: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.split(f"<!-- --8<-- [start:{name}] -->")[1].split(f"<!-- --8<-- [end:{name}] -->")[0].strip()


def _link(match: re.Match[str], written: Path, shown: Path) -> str:
    """Return a link that was written for one folder for the page in another."""
    target = (written / match[2]).resolve()
    if not target.exists():
        return match[0]
    if not target.is_relative_to(DOCS):
        return match[1]
    return f"[{match[1]}]({os.path.relpath(target, shown)}{match[3] or ''})"
