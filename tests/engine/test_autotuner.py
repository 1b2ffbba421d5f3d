"""Which plan is the fastest is found out by trying; here plans take the time that a test says."""

import copy
import pickle
import threading

import numpy as np
import pytest

from fastlstm.engine import autotuner
from fastlstm.engine.autotuner import AutoTuner
from fastlstm.engine.geometry import NO_IDS, BatchShape, Direction, Geometry
from fastlstm.kernels.cells import lstm
from fastlstm.runtime import config
from fastlstm.runtime.config import tuned
from fastlstm.threads import set_num_threads

GEOMETRY = Geometry(lstm(), 8, 4, 8, np.dtype(np.float32))
COST = 100_000.0
WARMUP, TRIALS = config.TUNED.warmup_calls, config.TUNED.trials


class FakeCoordinator:
    """Takes what its kernel says, alone or with workers, in seconds."""

    backs_off = False

    def __init__(self, kernel, workers_by, dtype):
        self._plan, self._calls, self.alone = kernel, 0, np.inf

    def run(self, descriptor, workers, cost):
        self._calls += 1
        self.alone = self._plan.alone / cost
        return None if self._calls <= self._plan.measured else self._plan.takes


class FakePlan:
    """A plan that notes its runs and the weights that it was prepared for."""

    alone, takes, measured = 1e-3, 0.5e-3, 1

    @classmethod
    def kernels(cls, cell):
        return cls, (cls,)

    def __init__(self, geometry, batch, directions, cost):
        self.weights = tuple(direction.weights for direction in directions)
        self.prepared.append(self.weights)

    def run(self, directions, coordinate):
        self.runs.append(self.weights)
        coordinate(np.zeros(40, np.int64), 1)


@pytest.fixture
def plans(monkeypatch):
    """Two plans, one slow and one fast, each with lists of its own."""
    monkeypatch.setattr(autotuner, "Coordinator", FakeCoordinator)
    set_num_threads(2)

    def plan(name, takes):
        return type(name, (FakePlan,), {"takes": takes, "runs": [], "prepared": []})

    return plan("Slow", 0.8e-3), plan("Fast", 0.4e-3)


def directions(weights):
    hidden = np.empty((9, 8), np.float32)
    return (Direction((hidden, 0, 4, 4), NO_IDS, (hidden, 8, 8, False), hidden, weights),)


WEIGHTS = (np.ones(3, np.float32),)


def call(tuner, plans, sequences=1, weights=WEIGHTS, steps=8):
    """Let the tuner run a batch; tell whether it did."""
    return tuner.run(plans, GEOMETRY, BatchShape.dense(sequences, steps), directions(weights), COST)


def settle(tuner, plans, **given):
    """Call until every plan has been tried."""
    for _ in range(WARMUP + len(plans) * (1 + TRIALS)):
        call(tuner, plans, **given)


def test_the_first_calls_of_a_shape_class_are_declined(plans):
    tuner = AutoTuner()
    answers = [call(tuner, plans) for _ in range(WARMUP + 2)]
    assert answers == [False] * WARMUP + [True] * 2
    assert not call(tuner, plans, sequences=2), "another number of sequences is another class"
    assert call(tuner, plans, steps=100), "another number of steps is not"
    set_num_threads(3)
    assert not call(tuner, plans), "other cores are another class"


def test_each_plan_is_tried_then_the_fastest_is_kept(plans):
    slow, fast = plans
    tuner = AutoTuner()
    settle(tuner, plans)
    assert (len(slow.runs), len(fast.runs)) == (1 + TRIALS, 1 + TRIALS)
    for _ in range(20):
        assert call(tuner, plans)
    assert (len(slow.runs), len(fast.runs)) == (1 + TRIALS, 21 + TRIALS)


def test_it_is_declined_where_working_alone_is_faster(plans):
    for plan in plans:
        plan.alone = 0.3e-3
    tuner = AutoTuner()
    settle(tuner, plans)
    runs = [len(plan.runs) for plan in plans]
    assert not any(call(tuner, plans) for _ in range(20))
    assert [len(plan.runs) for plan in plans] == runs


def test_what_it_wins_has_to_be_more_than_coordination_costs(plans):
    slow, fast = plans
    fast.takes = fast.alone - 1e-9 * config.TUNED.coordination_ns / 2
    slow.takes = 2 * fast.alone
    tuner = AutoTuner()
    settle(tuner, plans)
    assert not call(tuner, plans)


def test_the_first_time_of_a_plan_does_not_count(plans, monkeypatch):
    """It reads weights from far away; one bad time would else decide."""
    _, fast = plans
    run = FakeCoordinator.run

    def slow_at_first(self, descriptor, workers, cost):
        took = run(self, descriptor, workers, cost)
        return 10.0 if self._calls == 2 else took

    monkeypatch.setattr(FakeCoordinator, "run", slow_at_first)
    tuner = AutoTuner()
    settle(tuner, plans)
    before = len(fast.runs)
    assert call(tuner, plans)
    assert len(fast.runs) == before + 1


def test_after_a_time_plans_are_tried_again_and_a_change_is_found(plans):
    slow, fast = plans
    with tuned(retune_s=(0.0, 1000.0)):
        tuner = AutoTuner()
        settle(tuner, plans)
        slow.takes, fast.takes = 0.1e-3, 0.9e-3
        for _ in range(20 * TRIALS):
            call(tuner, plans)
        before = len(slow.runs)
        for _ in range(5):
            assert call(tuner, plans)
        assert len(slow.runs) >= before + 4


def test_a_large_batch_is_left_to_the_pool_while_coordination_backs_off(plans, monkeypatch):
    tuner = AutoTuner()
    settle(tuner, plans)
    monkeypatch.setattr(FakeCoordinator, "backs_off", True)
    assert call(tuner, plans), "the pool does not take a small one"
    with tuned(pool_above_ns=COST / 2):
        assert not call(tuner, plans)


# --- weights and copies -----------------------------------------------------------------------------------------------


def test_a_descriptor_is_used_again_until_the_weights_or_the_shape_change(plans):
    _, fast = plans
    tuner = AutoTuner()
    settle(tuner, plans)
    before = len(fast.prepared)
    for _ in range(3):
        call(tuner, plans)
    assert len(fast.prepared) == before
    other = (np.ones(3, np.float32),)
    call(tuner, plans, weights=other)
    assert fast.runs[-1][0] is other
    assert len(fast.prepared) == before + 1
    call(tuner, plans, weights=other, steps=9)
    assert len(fast.prepared) == before + 2


def test_weights_are_forgotten_and_what_was_learnt_is_not(plans):
    slow, fast = plans
    tuner = AutoTuner()
    settle(tuner, plans)
    tuner.forget_weights()
    held = [
        candidate._ready for kept in tuner.known.values() for known in kept for candidate in known.candidates.values()
    ]
    assert held == [None, None], "old weights are kept alive"
    before = len(slow.runs), len(fast.runs)
    assert call(tuner, plans)
    assert (len(slow.runs), len(fast.runs)) == (before[0], before[1] + 1)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda tuner: pickle.loads(pickle.dumps(tuner))])
def test_a_copy_starts_empty(plans, copied):
    """A descriptor holds addresses: of the original's weights, and of no memory at all in another process."""
    tuner = AutoTuner()
    settle(tuner, plans)
    other = copied(tuner)
    assert other.known == {}
    assert not call(other, plans), "it has learnt nothing yet"
    assert call(tuner, plans)


def test_no_more_classes_are_kept_than_it_may(plans):
    with tuned(shape_classes=5):
        tuner = AutoTuner()
        for sequences in range(1, 40):
            call(tuner, plans, sequences=sequences)
            assert len(tuner.known) <= 6


def test_two_calls_at_once_use_no_plan_together(plans):
    """A plan's descriptor is written at each call: two threads in one would read each other's addresses."""
    _, fast = plans
    inside, most, wrong = [], [], []
    both = threading.Barrier(2)

    def run(self, directions, coordinate):
        if self in inside:
            wrong.append(self)
        inside.append(self)
        most.append(len(inside))
        if len(most) < 3:
            both.wait(10)
        coordinate(np.zeros(40, np.int64), 1)
        inside.remove(self)

    tuner = AutoTuner()
    with tuned(warmup_calls=0):
        fast.run = run
        threads = [threading.Thread(target=call, args=(tuner, (fast,))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert max(most) == 2, "they were not there at once: nothing was tested"
    assert wrong == []
    assert len(tuner.known[1, 2]) == 2
