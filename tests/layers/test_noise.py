"""Noise of training: its distribution, what goes back through it, and who draws it."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import OptionError, ShapeError
from fastlstm.layers import PassContext
from tests.layers.harness import forward_backward
from tests.tolerances import assert_bitwise_equal


def context(seed):
    return PassContext(training=True, rng=np.random.default_rng(seed))


# --- SpatialDropout1D -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_feature_is_dropped_from_the_whole_of_a_sequence_or_not_at_all(rate, dtype):
    lengths = [3, 1, 7, 4] * 50
    ones = [np.ones((length, 100)) for length in lengths]
    y, dx, gradients = forward_backward(fl.SpatialDropout1D(rate, dtype=dtype), ones, ones, context(0))
    dropped = np.stack([part[0] == 0 for part in y])
    assert abs(dropped.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / dropped.size)
    assert len(np.unique(dropped, axis=0)) == len(lengths), "each sequence has a mask of its own"
    for part, back, off in zip(y, dx, dropped, strict=True):
        expected = np.tile(np.where(off, 0, 1 / (1 - rate)), (len(part), 1))
        np.testing.assert_allclose(part, expected, rtol=1e-6)
        assert_bitwise_equal(back, part)  # the gradient of ones goes the same way
    assert gradients == {}


def test_steps_are_scaled_not_replaced(rng):
    x = [rng.standard_normal((6, 30)), rng.standard_normal((2, 30))]
    y, dx, _ = forward_backward(fl.SpatialDropout1D(0.5, dtype="float64"), x, x, context(0))
    for n in range(2):
        kept = y[n][0] != 0
        assert 0 < kept.sum() < 30
        np.testing.assert_array_equal(y[n], 2 * x[n] * kept)
        np.testing.assert_array_equal(dx[n], 2 * x[n] * kept)


def test_samples_have_no_sequence_to_drop_from():
    with pytest.raises(ShapeError, match=r"\(samples, timesteps, features\)"):
        fl.SpatialDropout1D(0.5)(np.ones((3, 4)))


# --- GaussianNoise, GaussianDropout -----------------------------------------------------------------------------------


def test_gaussian_noise_adds_normal_numbers_and_lets_gradients_through(rng, dtype):
    x, dy = [rng.standard_normal((300, 100))], [rng.standard_normal((300, 100)).astype(dtype)]
    y, dx, gradients = forward_backward(fl.GaussianNoise(0.25, dtype=dtype), x, dy, context(0))
    noise = (y[0] - x[0]) / 0.25
    assert_is_normal(noise)
    assert_bitwise_equal(dx[0], dy[0])
    assert gradients == {}


def test_gaussian_dropout_multiplies_by_normal_numbers(rng, dtype):
    x, dy = [rng.uniform(1, 2, (300, 100))], [rng.standard_normal((300, 100))]
    y, dx, _ = forward_backward(fl.GaussianDropout(0.2, dtype=dtype), x, dy, context(0))
    factor = y[0] / x[0]
    assert_is_normal((factor - 1) / np.sqrt(0.2 / 0.8))
    np.testing.assert_allclose(dx[0], dy[0] * factor, rtol=1e-5)


def assert_is_normal(values):
    """Mean, variance, and the shares within one and two deviations; no value like another."""
    root = np.sqrt(values.size)
    assert abs(values.mean()) < 5 / root
    assert abs(values.var() - 1) < 5 * np.sqrt(2) / root
    for bound, share in ((1, 0.6827), (2, 0.9545)):
        assert abs((np.abs(values) < bound).mean() - share) < 5 * np.sqrt(share * (1 - share)) / root
    assert len(np.unique(values)) > 0.99 * values.size


NOISE = {
    "SpatialDropout1D": fl.SpatialDropout1D(0.5),
    "GaussianNoise": fl.GaussianNoise(0.5),
    "GaussianDropout": fl.GaussianDropout(0.5),
}


@pytest.mark.parametrize("name", NOISE)
def test_the_generator_alone_decides(name):
    x = [np.ones((7, 9)), np.ones((3, 9))]
    first, second, third = (np.concatenate(forward_backward(NOISE[name], x, x, context(seed))[0]) for seed in (1, 1, 2))
    assert_bitwise_equal(first, second)
    assert (first != third).any()


@pytest.mark.parametrize("name", NOISE)
def test_every_batch_has_noise_of_its_own(name):
    x, one = [np.ones((7, 9))], context(1)
    first = forward_backward(NOISE[name], x, x, one)[0][0].copy()
    assert (forward_backward(NOISE[name], x, x, one)[0][0] != first).any()


@pytest.mark.parametrize("name", NOISE)
def test_inference_is_untouched(name, rng):
    x = rng.standard_normal((3, 4, 9)).astype(np.float32)
    assert_bitwise_equal(NOISE[name](x), x)


@pytest.mark.parametrize("make", [fl.SpatialDropout1D, fl.GaussianNoise, fl.GaussianDropout])
def test_none_at_all(make, rng):
    x = [rng.standard_normal((6, 4))]
    y, dx, _ = forward_backward(make(0.0, dtype="float64"), x, x, context(0))
    assert_bitwise_equal(y[0], x[0])
    assert_bitwise_equal(dx[0], x[0])


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "a", True, None])
@pytest.mark.parametrize("make", [fl.SpatialDropout1D, fl.GaussianDropout])
def test_a_rate_is_a_fraction(make, rate):
    with pytest.raises(OptionError, match=f"{make.__name__}: rate"):
        make(rate)


@pytest.mark.parametrize("stddev", [-0.1, float("inf"), float("nan"), "a", True, None])
def test_a_deviation_is_a_number(stddev):
    with pytest.raises(OptionError, match=r"GaussianNoise: stddev is .*; expected a number, at least 0"):
        fl.GaussianNoise(stddev)
