"""Forks a child that does what may never come back, and says what became of it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that a child is waited for, on a machine that is ten times slower than usual; and one that was told to wait for ever.
SECONDS = 200.0
AFTER = 5.0

TOLD = "kept the process from ending"


def forked(use: Callable[[], None]) -> None:
    """Fork a child that calls ``use``; prints whether it was told, and its status if it has come to its end, as one line of JSON."""
    errors = Path("child.err")
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        try:
            use()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    end, told, status = time.monotonic() + SECONDS, False, None
    while status is None and time.monotonic() < end:
        if not told and errors.exists() and TOLD in errors.read_text(errors="replace"):
            told, end = True, time.monotonic() + AFTER
        ended, found = os.waitpid(child, os.WNOHANG)
        status = os.waitstatus_to_exitcode(found) if ended else None
        time.sleep(0.02)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    told = told or TOLD in errors.read_text(errors="replace")
    print(json.dumps({"told": told, "status": status, "errors": errors.read_text(errors="replace")[-300:]}), flush=True)
