import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import OptionError
from fastlstm.layers import PassContext
from tests.layers.harness import forward_backward
from tests.tolerances import assert_bitwise_equal


def context(seed):
    return PassContext(training=True, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_training_drops_the_stated_fraction_and_scales_the_rest(rate, dtype):
    ones = [np.ones((200, 100))]
    y, dx, gradients = forward_backward(fl.Dropout(rate, dtype=dtype), ones, ones, context(0))
    dropped = y[0] == 0
    assert abs(dropped.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / dropped.size)
    np.testing.assert_allclose(y[0][~dropped], 1 / (1 - rate), rtol=1e-6)
    assert_bitwise_equal(dx[0], y[0])  # the gradient of ones goes the same way
    assert gradients == {}


def test_every_value_is_drawn_by_itself():
    y, _, _ = forward_backward(fl.Dropout(0.5), [np.ones((100, 50))], [np.ones((100, 50))], context(1))
    dropped = y[0] == 0
    assert len(np.unique(dropped, axis=0)) == 100
    assert len(np.unique(dropped, axis=1).T) == 50


def test_the_generator_alone_decides():
    x = [np.ones((7, 9))]
    first, second, third = (forward_backward(fl.Dropout(0.5), x, x, context(seed))[0][0] for seed in (1, 1, 2))
    assert_bitwise_equal(first, second)
    assert (first != third).any()


def test_inference_is_untouched(rng):
    x = rng.standard_normal((3, 4, 5)).astype(np.float32)
    assert_bitwise_equal(fl.Dropout(0.5)(x), x)


def test_rate_zero_drops_nothing(rng):
    x = [rng.standard_normal((6, 4))]
    y, dx, _ = forward_backward(fl.Dropout(0.0, dtype="float64"), x, x, context(0))
    assert_bitwise_equal(y[0], x[0])
    assert_bitwise_equal(dx[0], x[0])


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0, float("nan"), "a", True, None])
def test_a_rate_is_a_fraction(rate):
    with pytest.raises(OptionError, match="rate"):
        fl.Dropout(rate)
