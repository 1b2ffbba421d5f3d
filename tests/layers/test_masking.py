"""Masking and Embedding(mask_zero=True) say which steps are true; the layers themselves compute every row."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import OptionError
from tests.layers.harness import forward_backward
from tests.tolerances import assert_bitwise_equal


@pytest.mark.parametrize("kind", ["float32", "float64", "int64"])
@pytest.mark.parametrize("value", [0.0, -1.0, 0.1])
def test_a_step_is_padding_where_every_feature_has_the_value(kind, value):
    x = np.full((2, 3, 2), value).astype(kind)
    x[0, 0] = 5
    x[1, 1, 1] = 5
    expected = [[True, False, False], [False, True, False]]
    if kind == "int64" and value == 0.1:  # no integer is 0.1
        expected = np.ones((2, 3), bool)
    np.testing.assert_array_equal(fl.Masking(value).true_steps(x), expected)


def test_nan_is_no_padding():
    x = np.array([[[np.nan, 0.0], [0.0, 0.0]]])
    np.testing.assert_array_equal(fl.Masking().true_steps(x), [[True, False]])


def test_rows_pass_through(rng, dtype):
    x = [rng.standard_normal((3, 2)), np.zeros((2, 2))]
    y, dx, gradients = forward_backward(fl.Masking(dtype=dtype), x, x)
    for n in range(2):
        assert_bitwise_equal(y[n], x[n].astype(dtype))
        assert_bitwise_equal(dx[n], x[n].astype(dtype))
    assert gradients == {}


def test_an_embedding_that_masks_zero_makes_a_vector_of_every_id():
    layer = fl.Embedding(10, 4, mask_zero=True)
    ids = np.array([[3, 4, 0], [0, 0, 5]])
    y = layer(ids)
    assert_bitwise_equal(y, layer.params["weight"][ids])
    np.testing.assert_array_equal(layer.true_steps(ids), ids > 0)
    assert fl.Embedding(**layer.config()).mask_zero is True
    assert fl.Embedding(10, 4).mask_zero is False


@pytest.mark.parametrize("value", [None, "0", float("nan"), float("inf"), True])
def test_a_value_is_a_finite_number(value):
    with pytest.raises(OptionError, match=r"Masking: mask_value is .*; expected a number"):
        fl.Masking(value)
