"""What a test suite can ask for; every function works whether the agent is active or not."""

from __future__ import annotations


def stop_lancedb_loop(timeout: float = 5.0) -> bool:
    """Stop the background loop that ``import lancedb`` has started, and its thread, until the next call of lancedb.

    For the end of a test suite, and for checks that no thread is left.  Calls in flight are waited for, and cancelled when the time is over.
    The next synchronous call starts the loop again; connections and tables stay usable.  Where lancedb was not imported, or has no such
    loop (0.16 and older), nothing happens.

    Args:
        timeout: Seconds that calls in flight may take.

    Returns:
        True if the thread is gone; False if something keeps it, which works on then.

    Raises:
        RuntimeError: The caller runs on that very loop.

    """
    from .instrumentation import lance_loop

    return lance_loop.stop(timeout)


def restart_lancedb_loop() -> bool:
    """Start lancedb's background loop again after `stop_lancedb_loop`, or after somebody else has stopped it.

    Returns:
        True if it was started; False if it runs already, or there is none.

    """
    from .instrumentation import lance_loop

    return lance_loop.restart()
