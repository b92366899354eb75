"""What ``leakagent.start`` (PEP 829, Python 3.15) calls: a module of its own, so that an unset variable loads nothing more.

PYTEST_DONT_REWRITE: pytest would warn that it was imported before.
"""

import os


def start():
    """Start the agent if ``LEAKAGENT`` is set; says nothing when the package is gone."""
    if os.environ.get("LEAKAGENT"):
        try:
            from leakagent.bootstrap import start as start_agent
        except ImportError:
            return
        start_agent()
