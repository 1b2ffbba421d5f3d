"""What tests of the runtime share."""

import pytest

from fastlstm import threads
from fastlstm.runtime import pool


@pytest.fixture
def fresh_pool(monkeypatch):
    """A pool without workers, for two threads on two cores."""
    monkeypatch.setattr(pool, "_pool", pool.Pool())
    monkeypatch.setattr(pool, "_cores", 2)
    threads.set_num_threads(2)
    return pool.current()
