"""Training passes of a recurrence: the same bits on any number of cores, and passes that do not disturb each other."""

import numpy as np
import pytest

from fastlstm.data.packed import pack
from fastlstm.engine import training
from fastlstm.engine.context import PassContext
from fastlstm.engine.recurrence import Recurrence
from fastlstm.runtime.config import tuned
from fastlstm.runtime.workspace import Workspace
from fastlstm.threads import set_num_threads
from tests.kernels.recurrent.harness import Batch, variants
from tests.tolerances import assert_bitwise_equal

SHARED = {"serial_below_ns": 0.0, "pool_from_ns": 0.0, "unit_parallel_weights": 0, "unit_parallel_steps": (1, 1)}
some_cells = variants(["lstm", "lstm peephole", "gru"], ["lstm"])


def recurrence_of(batch):
    return Recurrence(batch.geometry, batch.params)


def packed_of(batch, scale=1.0):
    packed, _ = pack([scale * x for x in batch.case.xs], features=True, dtype=batch.dtype)
    return packed


def forward(recurrence, batch, context, scale=1.0):
    return training.forward(recurrence, packed_of(batch, scale), tuple(batch.states), context)


def backward(recurrence, batch, cache, context):
    """Return copies of all gradients by name."""
    dy = batch.gradients()[0]
    dx, d_start, gradients = training.backward(recurrence, dy, None, cache, context, True)
    found = {"dx": dx, **{f"start {place}": part for place, part in enumerate(d_start)}, **gradients}
    return {name: np.array(value) for name, value in found.items()}


def assert_same_gradients(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_bitwise_equal(found[name], value, what=name)


@pytest.mark.parametrize("lengths", [[9], [9, 9], [9, 9, 4]], ids=str)
@some_cells
def test_a_pass_has_the_same_bits_whether_cores_share_units_or_sequences(name, dtype, lengths):
    """One core; two and three that share units; three that share sequences."""
    batch = Batch(name, dtype, lengths, 100)
    results = []
    for threads, few in ((1, (4, 6)), (2, (4, 6)), (3, (4, 6)), (3, (0, 0))):
        set_num_threads(threads)
        with tuned(**SHARED, few_sequences=few):
            recurrence, context = recurrence_of(batch), PassContext(True)
            y, final, cache = forward(recurrence, batch, context)
            y = y.copy()
            results.append((y, final, backward(recurrence, batch, cache, context)))
    for y, final, gradients in results[1:]:
        assert_bitwise_equal(y, results[0][0])
        for part, whole in zip(final, results[0][1], strict=True):
            assert_bitwise_equal(part, whole)
        assert_same_gradients(gradients, results[0][2])


@some_cells
def test_a_recurrence_that_runs_twice_before_it_goes_back_has_the_gradients_of_each_alone(name, dtype):
    batch = Batch(name, dtype, units=20)
    context = PassContext(True, workspace=Workspace())
    recurrence, alone = recurrence_of(batch), []
    for scale in (1.0, 2.0):
        y, final, cache = forward(recurrence, batch, context, scale)
        alone.append((y.copy(), final, backward(recurrence, batch, cache, context)))
    first, second = forward(recurrence, batch, context, 1.0), forward(recurrence, batch, context, 2.0)
    for (y, final, _), (expected, expected_final, _) in zip((first, second), alone, strict=True):
        assert_bitwise_equal(y, expected)
        for part, whole in zip(final, expected_final, strict=True):
            assert_bitwise_equal(part, whole)
    assert_same_gradients(backward(recurrence, batch, second[2], context), alone[1][2])
    assert_same_gradients(backward(recurrence, batch, first[2], context), alone[0][2])


@some_cells
def test_a_loop_of_passes_uses_the_same_memory_and_gives_the_same_bits(name, dtype):
    batch = Batch(name, dtype, units=20)
    context, recurrence, places, seen = PassContext(True, workspace=Workspace()), recurrence_of(batch), set(), []
    for _ in range(4):
        y, _, cache = forward(recurrence, batch, context)
        places.add((y.ctypes.data, cache.gates.ctypes.data))
        seen.append(backward(recurrence, batch, cache, context))
    assert len(places) == 1
    for found in seen[1:]:
        assert_same_gradients(found, seen[0])


@some_cells
def test_a_pass_does_not_write_to_what_it_is_given(name, dtype):
    batch = Batch(name, dtype, units=20)
    recurrence, context, x = recurrence_of(batch), PassContext(True), packed_of(batch)
    rows, states = x.rows.copy(), [part.copy() for part in batch.states]
    params = {key: value.copy() for key, value in batch.params.items()}
    _, _, cache = training.forward(recurrence, x, tuple(batch.states), context)
    dy, _ = batch.gradients()
    kept = dy.copy()
    training.backward(recurrence, dy, tuple(np.ones_like(part) for part in states), cache, context, True)
    assert_bitwise_equal(x.rows, rows, what="x")
    assert_bitwise_equal(dy, kept, what="dy")
    for part, before in zip(batch.states, states, strict=True):
        assert_bitwise_equal(part, before, what="state")
    for key, before in params.items():
        assert_bitwise_equal(batch.params[key], before, what=key)


@some_cells
def test_new_parameters_count_from_the_moment_that_they_are_announced(name, dtype):
    batch = Batch(name, dtype, units=20)
    recurrence, context = recurrence_of(batch), PassContext(True)
    forward(recurrence, batch, context)
    for value in batch.params.values():
        value *= -1.0
    recurrence.changed()
    y, _, _ = forward(recurrence, batch, context)
    expected, _, _ = forward(recurrence_of(batch), batch, PassContext(True))
    assert_bitwise_equal(y, expected)
