"""Fixtures for suites that use lancedb: ``pytest_plugins = ["leakagent.pytest_lancedb"]`` in the top ``conftest.py``."""

from __future__ import annotations

import pytest

from .testing import stop_lancedb_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def lancedb_loop() -> Iterator[None]:
    """Stop lancedb's background loop when the suite is over, so that its thread is gone: for checks at the end of the session."""
    yield
    _stop()


@pytest.fixture
def no_lancedb_loop() -> Iterator[None]:
    """Stop lancedb's background loop after this test; the next test's first call starts it again."""
    yield
    _stop()


def _stop() -> None:
    if not stop_lancedb_loop():
        pytest.fail("lancedb's background loop could not be stopped: a call that does not end runs on it", pytrace=False)
