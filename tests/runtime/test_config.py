"""The tuned numbers: replaced for the time of a block, and what was derived from them forgotten with them."""

import threading
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from fastlstm.engine.geometry import BatchShape, Geometry
from fastlstm.engine.plan import step_plan_for
from fastlstm.engine.unit_parallel import cut_units
from fastlstm.kernels.cells import lstm
from fastlstm.runtime import config
from fastlstm.runtime.config import tuned

GEOMETRY = Geometry(lstm(), 256, 64, 256, np.dtype(np.float32))


def test_numbers_are_replaced_within_the_block_and_put_back():
    before = config.TUNED
    with tuned(trials=9, pool_spins=3):
        assert (config.TUNED.trials, config.TUNED.pool_spins) == (9, 3)
        assert config.TUNED.few_ids == before.few_ids
        with tuned(trials=1):
            assert (config.TUNED.trials, config.TUNED.pool_spins) == (1, 3)
        assert config.TUNED.trials == 9
    assert config.TUNED is before


def test_an_error_within_the_block_puts_them_back():
    before, seen = config.TUNED, []

    def fail():
        with tuned(trials=9):
            seen.append(config.TUNED.trials)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert seen == [9]
    assert config.TUNED is before


def test_a_number_that_does_not_exist_is_an_error_and_changes_nothing():
    before = config.TUNED
    with pytest.raises(TypeError, match="no_such_number"), tuned(no_such_number=1):
        pass
    assert config.TUNED is before


def test_numbers_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        config.TUNED.trials = 9


def test_other_threads_see_them_too():
    seen = []
    with tuned(trials=9):
        thread = threading.Thread(target=lambda: seen.append(config.TUNED.trials))
        thread.start()
        thread.join()
    assert seen == [9]


def test_values_that_were_derived_are_forgotten_at_both_ends_of_the_block():
    forgotten = []
    config.forget_with(lambda: forgotten.append(config.TUNED.trials))
    try:
        with tuned(trials=9):
            assert forgotten == [9], "what is derived within the block would be of the old numbers"
        assert forgotten == [9, 4]
    finally:
        config._derived.pop()


def test_plans_of_steps_follow_the_numbers():
    before = step_plan_for(GEOMETRY, 1, 64, 2)
    with tuned(step_ns_per_core=1e12):
        assert step_plan_for(GEOMETRY, 1, 64, 2).cores == 1
    with tuned(step_ns_per_core=1.0, step_chunk_ns=1.0, step_chunks=3):
        assert step_plan_for(GEOMETRY, 1, 64, 2)[:2] == (2, 3)
    assert step_plan_for(GEOMETRY, 1, 64, 2) == before


def test_cuts_of_units_follow_the_numbers():
    batch = BatchShape.dense(2, 100)
    before = cut_units(GEOMETRY, batch, 2).height
    with tuned(chunk_gates=10 * GEOMETRY.gate_columns // 2):
        assert cut_units(GEOMETRY, batch, 2).height == 10
    assert cut_units(GEOMETRY, batch, 2).height == before != 10


def test_each_number_says_its_unit_its_meaning_and_its_benchmark():
    described = config.describe()
    assert [name for name, *_ in described] == [item.name for item in fields(config.Config)]
    for name, value, *words in described:
        assert value == getattr(config.TUNED, name)
        assert all(word.strip() for word in words), name


def test_the_description_is_of_the_numbers_that_hold_now():
    with tuned(trials=9):
        assert dict((name, value) for name, value, *_ in config.describe())["trials"] == 9
