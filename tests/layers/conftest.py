"""Tuned numbers by which cores share whatever they can, so that small cases test how they do it."""

import pytest

from fastlstm.engine import candidates
from fastlstm.runtime import config, pool

NEVER = 10**9


@pytest.fixture
def coordinate_everything(monkeypatch):
    """Coordinate every dense batch and every step, by each plan in turn, even if there are more threads than cores."""
    monkeypatch.setattr(pool, "_cores", 4)
    with config.tuned(
        coordinate_from_ns=0.0,
        coordinate_to_ns=float("inf"),
        coordination_ns=0.0,
        meeting_us=0.0,
        try_within=float("inf"),
        warmup_calls=0,
        trials=2,
        retune_s=(0.0, 0.0),
        keep_within=float("inf"),
        measured_alone=(0, NEVER),
        close_work_s=60.0,
        loss_budget_s=float("inf"),
        step_ns_per_core=1.0,
        step_chunk_ns=1.0,
    ):
        yield


@pytest.fixture
def plans_run(monkeypatch):
    """Count how often each coordinated plan ran a batch, by its name."""
    counts = {}

    def count(plan):
        run = plan.run

        def counted(self, directions, coordinate):
            counts[plan.__name__] = counts.get(plan.__name__, 0) + 1
            run(self, directions, coordinate)

        monkeypatch.setattr(plan, "run", counted)

    for plan in (candidates.InputPipeline, candidates.UnitParallel, candidates.BatchParallel):
        count(plan)
    return counts
