"""Ask questions about a folder of pages.

python app.py "What happens at the end of a Python program?"
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

PAGES = Path(__file__).parent / "pages"
QUESTIONS = (
    "Why does the garbage collector destroy a pending task?",
    "What does the interpreter wait for after the last line?",
    "How does rank fusion combine two databases?",
)
LAST_LINE = "Goodbye."
_USAGE_ERROR = 2


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, run one session, and return the exit status."""
    parser = argparse.ArgumentParser(description="Ask questions about a folder of pages.")
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help="a question (default: three about Python)")
    parser.add_argument("--pages", type=Path, default=PAGES, metavar="DIR", help="folder of Markdown pages (default: %(default)s)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder to write to (default: a new temporary one, which stays)")
    parser.add_argument("--status", type=int, default=0, metavar="N", help="end with this exit status (default: 0)")
    options = parser.parse_args(arguments)
    if not any(options.pages.glob("*.md")):
        print(f"app.py: no Markdown pages (*.md) in {options.pages}", file=sys.stderr)
        return _USAGE_ERROR
    try:
        data = options.data or Path(tempfile.mkdtemp(prefix="rag-"))
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"app.py: cannot write to {error.filename}: {error.strerror}", file=sys.stderr)
        return _USAGE_ERROR

    from session import Plan, run  # noqa: PLC0415 - the spawned indexer imports this file too, and needs no database

    run(Plan(options.pages, data, options.questions or QUESTIONS))
    print(f"\n{LAST_LINE}", flush=True)
    return int(options.status)


if __name__ == "__main__":
    sys.exit(main())
