"""Normalisation kernels against float64 loops: widths, few and many rows, large means, split over cores."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlstm.kernels import norm
from tests import naive, strategies
from tests.tolerances import assert_bitwise_equal, assert_gradients_close, assert_outputs_close

EPSILON = 1e-3


def case(rows, features, dtype, seed):
    """Return rows (M, F), a weight, a bias and a gradient, all rounded to the type."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, features)) * rng.uniform(0.5, 3) + rng.standard_normal(features)
    arrays = x, rng.standard_normal(features), rng.standard_normal(features), rng.standard_normal((rows, features))
    return [array.astype(dtype) for array in arrays]


def exact(*arrays):
    return [array.astype(np.float64) for array in arrays]


def layer_norm(x, weight, bias, about_mean, cuts):
    """Forward in the given parts of rows."""
    y, stats = np.full_like(x, np.nan), np.full((len(x), 3), np.nan, x.dtype)
    for begin, end in pairwise(cuts):
        norm.layer_norm(x, weight, bias, y, stats, EPSILON, about_mean, begin, end)
    return y, stats


def sums_of(kernel, like, cuts, *arrays):
    """Run a kernel that sums over rows in the given parts of columns."""
    features = like.shape[1]
    part, sums = np.full((2, features), np.nan, like.dtype), np.full((2, features), np.nan)
    for begin, end in pairwise(cuts):
        kernel(*arrays, part, sums, begin, end)
    return sums


@given(st.integers(1, 40), st.integers(1, 70), st.booleans(), strategies.float_types(), strategies.seeds(), st.data())
def test_layer_norm_and_its_gradients(rows, features, about_mean, dtype, seed, data):
    x, weight, bias, dy = case(rows, features, dtype, seed)
    y, stats = layer_norm(x, weight, bias, about_mean, data.draw(strategies.cuts_of(rows)))
    assert_outputs_close(y, naive.layer_norm(*exact(x, weight, bias), EPSILON, about_mean), bound=_bound(dtype, 2e-5))
    sums = sums_of(norm.layer_norm_sums, x, data.draw(strategies.cuts_of(features)), dy, x, stats)
    dx = dy.copy()
    norm.layer_norm_backward(dx, x, weight, stats, about_mean, 0, rows)
    wanted = naive.layer_norm_backward(*exact(x, weight), EPSILON, dy.astype(float), about_mean)
    for found, expected, what in zip((dx, *sums), wanted, ("x", "weight", "bias"), strict=True):
        scale = max(1.0, 1.0 / np.abs(expected).max(initial=1e-300))  # of few features little is left
        assert_gradients_close(found.astype(dtype), expected, what=what, bound=_bound(dtype, 1e-4) * scale)


def _bound(dtype, single):
    return single if dtype == "float32" else 1e-10


@given(st.integers(1, 40), st.integers(1, 70), strategies.float_types(), strategies.seeds(), st.data())
def test_batch_norm_and_its_gradients(rows, features, dtype, seed, data):
    x, weight, bias, dy = case(rows, features, dtype, seed)
    columns = data.draw(strategies.cuts_of(features))
    guess = x[0] + np.asarray(0.5, dtype)
    first, second = sums_of(norm.batch_moments, x, columns, x, guess) / rows
    expected, mean, variance = naive.batch_norm(*exact(x, weight, bias), EPSILON)
    assert_outputs_close(guess + first, mean, bound=_bound(dtype, 1e-6) * 10)
    assert_outputs_close(second - first**2, variance, bound=_bound(dtype, 1e-5) * max(1.0, variance.max()))
    stats = np.stack([guess, first, 1 / np.sqrt(variance + EPSILON)]).astype(dtype)
    factor, y = (weight * stats[2]).astype(dtype), np.full_like(x, np.nan)
    for begin, end in ((0, rows // 2), (rows // 2, rows)):
        norm.batch_norm(x, stats, factor, bias, y, begin, end)
    assert_outputs_close(y, expected, bound=_bound(dtype, 5e-5))
    sums = sums_of(norm.batch_norm_sums, x, columns, dy, x, stats)
    dx = dy.copy()
    norm.batch_norm_backward(dx, x, stats, factor, (sums / rows).astype(dtype), 0, rows)
    wanted = naive.batch_norm_backward(*exact(x, weight), EPSILON, dy.astype(float))
    for found, expected, what in zip((dx, *sums), wanted, ("x", "weight", "bias"), strict=True):
        scale = max(1.0, 1.0 / np.abs(expected).max(initial=1e-300))
        assert_gradients_close(found.astype(dtype), expected, what=what, bound=_bound(dtype, 2e-4) * scale)


@pytest.mark.parametrize("kernel", ["layer", "batch"])
def test_sums_have_the_same_bits_however_columns_are_shared(kernel, dtype):
    x, weight, bias, dy = case(50, 67, dtype, 0)
    found = []
    for cuts in ([0, 67], [0, 1, 67], [0, 16, 33, 66, 67]):
        if kernel == "batch":
            found.append(sums_of(norm.batch_moments, x, cuts, x, x[0]))
        else:
            found.append(sums_of(norm.layer_norm_sums, x, cuts, dy, x, layer_norm(x, weight, bias, True, [0, 50])[1]))
    for other in found[1:]:
        assert_bitwise_equal(other, found[0])


@pytest.mark.parametrize("features", [3, 16, 100, 1000])
def test_layer_norm_where_the_mean_is_large_and_the_deviation_small(features, dtype):
    """The bits that the values have are what counts: their differences are 10 units in the last place (float32)."""
    rng = np.random.default_rng(features)
    x = (1e4 + 1e-2 * rng.standard_normal((20, features))).astype(dtype)
    weight, bias = np.ones(features, dtype), np.zeros(features, dtype)
    y, stats = np.empty_like(x), np.empty((20, 3), dtype)
    norm.layer_norm(x, weight, bias, y, stats, 1e-9, True, 0, 20)
    wide = x.astype(np.longdouble)
    away = wide - wide.mean(axis=1, keepdims=True)
    expected = away / np.sqrt((away**2).mean(axis=1, keepdims=True) + 1e-9)
    assert_outputs_close(y, expected.astype(float), bound=2e-6 if dtype == "float32" else 1e-9)


def test_layer_norm_beside_one_value_that_is_far_out(dtype):
    rng = np.random.default_rng(0)
    for place in (0, 40, 99):
        x = rng.standard_normal((1, 100)).astype(dtype)
        x[0, place] = 1e6
        y = layer_norm(x, np.ones(100, dtype), np.zeros(100, dtype), True, [0, 1])[0]
        expected = naive.layer_norm(x.astype(float), np.ones(100), np.zeros(100), EPSILON)
        assert_outputs_close(y, expected, bound=3e-6 if dtype == "float32" else 1e-12)


def test_equal_values_become_the_bias(dtype):
    x = np.full((3, 21), 1e4 / 3).astype(dtype)
    y = layer_norm(x, np.ones(21, dtype), np.full(21, 0.5, dtype), True, [0, 3])[0]
    assert_outputs_close(y, np.full((3, 21), 0.5), bound=1e-6)
