"""What tests of the team share."""

import pytest

from fastlstm.kernels import team


@pytest.fixture
def fresh_team(monkeypatch):
    """Two threads, and no worker yet."""
    before = team.get_num_threads()
    monkeypatch.setattr(team, "_team", team._Team())
    monkeypatch.setattr(team, "_CORES", 2)
    team.set_num_threads(2)
    yield team._team
    team.set_num_threads(before)
