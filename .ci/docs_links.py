"""A hook of mkdocs: links from a page to a file of the repository outside of ``docs/`` become its text; the site has no such file."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)#\s]+)\)")


def on_page_markdown(markdown: str, *, page: object, **_more: object) -> str:
    """Return the page's text without these links; one to a file that is not there stays, and breaks the build."""
    source = Path(page.file.abs_src_path)  # type: ignore[attr-defined]

    def text(match: re.Match[str]) -> str:
        target = (source.parent / match[2]).resolve()
        outside = target.exists() and not target.is_relative_to(ROOT / "docs")
        return match[1] if outside else match[0]

    return _LINK.sub(text, markdown)
