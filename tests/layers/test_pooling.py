import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from tests import gradcheck, naive, strategies
from tests.layers.harness import forward_backward
from tests.tolerances import assert_bitwise_equal, assert_outputs_close

POOLS = {
    fl.LastStep: naive.last_step,
    fl.GlobalMaxPooling1D: naive.max_pool,
    fl.GlobalAveragePooling1D: naive.average_pool,
}


@pytest.mark.parametrize("pool", POOLS)
@given(strategies.lengths_n(), st.integers(1, 9), strategies.seeds(), strategies.float_types())
def test_only_true_steps_count(pool, lengths, features, seed, dtype):
    rng = np.random.default_rng(seed)
    sequences = naive.random_sequences(rng, lengths, features)
    expected = POOLS[pool](sequences)
    assert_outputs_close(pool(dtype=dtype)(sequences), expected)
    padded = np.full((len(lengths), max(lengths) + 1, features), np.nan)
    for row, x in zip(padded, sequences, strict=True):
        row[: len(x)] = x
    assert_outputs_close(pool(dtype=dtype)(padded, lengths=lengths), expected)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("lengths", [[1], [4, 4], [3, 5, 1]])
def test_gradients_are_the_numeric_ones(pool, lengths, rng):
    layer = pool(dtype="float64")
    x = naive.random_sequences(rng, lengths, 3)
    dy = rng.standard_normal((len(lengths), 3))
    _, dx, gradients = forward_backward(layer, x, dy)
    assert gradients == {}
    arrays = {f"x{n}": part for n, part in enumerate(x)}
    gradcheck.assert_gradients(lambda: (dy * layer(x)).sum(), arrays, {f"x{n}": part for n, part in enumerate(dx)})


def test_the_first_of_equal_maxima_gets_the_gradient():
    _, dx, _ = forward_backward(
        fl.GlobalMaxPooling1D(dtype="float64"), [np.array([[1.0], [2], [2], [0]])], np.ones((1, 1))
    )
    assert dx[0].ravel().tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("step", [0, 1, 3])
def test_nan_anywhere_in_a_sequence_is_its_maximum_and_no_others(step):
    x = np.arange(8.0).reshape(2, 4, 1)
    x[0, step] = np.nan
    y = fl.GlobalMaxPooling1D()(x)
    assert np.isnan(y[0, 0])
    assert y[1, 0] == 7


@pytest.mark.parametrize("pool", POOLS)
def test_a_sequence_pools_to_the_same_bits_in_any_batch(pool, rng):
    sequences = naive.random_sequences(rng, [5, 2, 7, 1], 6)
    together = pool()(sequences)
    for n, x in enumerate(sequences):
        assert_bitwise_equal(pool()([x])[0], together[n])
