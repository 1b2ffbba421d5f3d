"""Activations of rows: values and slopes against float64 numbers, far out, at every tail, beside NaN."""

import numpy as np
import pytest

from fastlstm.kernels.elementwise import ELEMENTWISE, slopes_loop, values_loop
from tests.naive import activations as naive
from tests.tolerances import assert_bitwise_equal

BOUND = {"float32": 1e-6, "float64": 1e-14}
"""Largest error, in units of the exact value where that is above 1."""

EVERY = pytest.mark.parametrize("name", naive.ROW_NAMES)


def values(x, name):
    y = x.copy()
    values_loop(name)(y, 0, len(y))
    return y


def slopes(x, name):
    """Return the slopes as the way back finds them: from the values, or from the arguments."""
    d = np.ones_like(x)
    slopes_loop(name)(d, x if ELEMENTWISE[name].of_input else values(x, name), 0, len(x))
    return d


def arguments(name, dtype):
    """Return numbers near 0, ordinary and far out, none where a slope jumps; exp has no room for large ones."""
    far = np.geomspace(7.0, 80.0 if name == "exponential" else 1e4, 200)
    x = np.concatenate([np.linspace(-9, 9, 999), np.geomspace(1e-30, 1, 200), -np.geomspace(1e-30, 1, 200), far, -far])
    x = x.astype(dtype)
    for kink in naive.KINKS.get(name, ()):
        x = x[np.abs(x - kink) > 1e-6]
    return x


def assert_near(actual, exact, what):
    error = np.abs(actual - exact) / np.maximum(1.0, np.abs(exact))
    assert error.max() <= BOUND[str(actual.dtype)], f"{what}: {error.max():.2g} at place {error.argmax()}"


def test_every_activation_has_a_naive_one():
    assert set(ELEMENTWISE) == set(naive.ROW_NAMES)


@EVERY
def test_values_and_slopes(name, dtype):
    x = arguments(name, dtype)
    assert_near(values(x, name), np.array([naive.value(name, float(a)) for a in x]), "value")
    assert_near(slopes(x, name), np.array([naive.slope(name, float(a)) for a in x]), "slope")


@EVERY
def test_the_largest_numbers_give_limits(name, dtype):
    """Beyond 1e4, where the naive formulas overflow: as at 1e4, but for those that go on as x does."""
    for huge in (1e30, -1e30):
        found, slope = values(np.array([huge], dtype), name)[0], slopes(np.array([huge], dtype), name)[0]
        if name == "exponential":
            assert (found, slope) == ((np.inf, np.inf) if huge > 0 else (0, 0))
            continue
        near = np.sign(huge) * 1e4
        grows = abs(naive.value(name, near)) > 100
        expected = naive.value(name, near) * (1e26 if grows else 1)
        assert abs(found - expected) <= 2e-4 * max(1.0, abs(expected))
        assert abs(slope - naive.slope(name, near)) <= 1e-6


@EVERY
def test_infinity_is_no_nan(name, dtype):
    if name == "softsign":  # inf / inf, as in torch
        return
    x = np.array([np.inf, -np.inf], dtype)
    assert not np.isnan(values(x, name)).any()
    assert not np.isnan(slopes(x, name)).any()


@EVERY
def test_nan_gives_nan_and_leaves_its_neighbours_alone(name, dtype):
    x = np.linspace(-2, 2, 37).astype(dtype)
    expected = values(x, name)
    x[5] = np.nan
    found = values(x, name)
    assert np.isnan(found[5])
    assert_bitwise_equal(np.delete(found, 5), np.delete(expected, 5))


@EVERY
def test_a_value_has_the_same_bits_wherever_it_stands(name, dtype, rng):
    """In a full register, in a tail of any length, whatever part a core begins with."""
    x, dy = (rng.standard_normal(70) * 3).astype(dtype), rng.standard_normal(70).astype(dtype)
    kept = x if ELEMENTWISE[name].of_input else values(x, name)
    whole, back = values(x, name), dy.copy()
    slopes_loop(name)(back, kept, 0, 70)
    for cut in (1, 3, 16, 33, 69):
        parts, d = x.copy(), dy.copy()
        for begin, end in ((0, cut), (cut, 70)):
            values_loop(name)(parts, begin, end)
            slopes_loop(name)(d, kept, begin, end)
        assert_bitwise_equal(parts, whole)
        assert_bitwise_equal(d, back)


@pytest.mark.parametrize("name", ["softplus", "elu", "selu", "gelu", "silu", "exponential"])
def test_small_values_keep_their_digits(name):
    """Relative to the value itself: near 0, and in the tail below."""
    x = np.concatenate([np.geomspace(1e-12, 1e-2, 50), -np.geomspace(1e-12, 1e-2, 50)])
    if name in ("softplus", "exponential"):
        x = np.linspace(-300, -1, 300)
    exact = np.array([naive.value(name, a) for a in x])
    assert (np.abs(values(x, name) / exact - 1)).max() < 1e-13
