"""What unit tests share: no time limit for property tests, and the guard's memory of one process emptied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from leakagent import guard

if TYPE_CHECKING:
    from collections.abc import Iterator

# A machine may be ten times slower at any moment.
settings.register_profile("leakagent", deadline=None)
settings.load_profile("leakagent")


@pytest.fixture
def fresh_guard() -> Iterator[None]:
    """Let the guard have said nothing yet, and forget afterwards what the test had it say."""
    known = (dict(guard.disabled), set(guard._told), list(guard._silent))
    guard.disabled.clear()
    guard._told.clear()
    guard._silent.clear()
    yield
    guard.disabled.clear()
    guard.disabled.update(known[0])
    guard._told.clear()
    guard._told.update(known[1])
    guard._silent[:] = known[2]
