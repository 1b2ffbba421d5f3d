import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.errors import DataError, OptionError
from tests import naive, strategies
from tests.layers.harness import forward_backward
from tests.tolerances import assert_bitwise_equal


def ids_of(rng, lengths, vocabulary):
    return [rng.integers(0, vocabulary, length) for length in lengths]


@given(strategies.lengths_n(), st.integers(1, 9), st.integers(1, 20), strategies.seeds(), strategies.float_types())
def test_each_id_gives_its_row_and_takes_its_gradient(lengths, vocabulary, width, seed, dtype):
    rng = np.random.default_rng(seed)
    layer = fl.Embedding(vocabulary, width, dtype=dtype)
    sequences = ids_of(rng, lengths, vocabulary)
    dy = [rng.standard_normal((length, width)).astype(dtype) for length in lengths]
    y, dx, gradients = forward_backward(layer, sequences, dy)
    assert dx is None, "ids have no gradient"
    for part, ids in zip(y, sequences, strict=True):
        assert_bitwise_equal(part, naive.embedding(ids, layer.params["weight"]))
    expected = naive.embedding_backward(np.concatenate(sequences), vocabulary, np.concatenate(dy).astype(np.float64))
    # terms of a sum may cancel: its rounding goes with their sizes, not with what is left
    bound = (1e-6 if dtype == "float32" else 1e-14) * sum(np.abs(part).sum() for part in dy)
    assert np.abs(gradients["weight"] - expected).max() <= bound


def test_gradients_of_a_second_pass_are_not_added_to_those_of_the_first(rng):
    from fastlstm.layers import PassContext

    layer, context = fl.Embedding(5, 3, dtype="float64"), PassContext(training=True)
    ids, dy = [np.array([1, 1, 4])], [rng.standard_normal((3, 3))]
    first = forward_backward(layer, ids, dy, context)[2]["weight"].copy()
    assert_bitwise_equal(forward_backward(layer, ids, dy, context)[2]["weight"], first)


@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "int16", ">i4", "<u4", "int64", "uint64", ">i8", "float32", "float16"]
)
def test_ids_of_any_numeric_type(kind):
    layer = fl.Embedding(100, 3)
    expected = layer(np.array([[0, 7, 99]]))
    assert_bitwise_equal(layer(np.array([[0, 7, 99]], dtype=kind)), expected)


def test_ids_in_any_layout(rng):
    layer = fl.Embedding(50, 4)
    ids = rng.integers(0, 50, (6, 8))
    expected = layer(ids)
    assert_bitwise_equal(layer(np.asfortranarray(ids)), expected)
    assert_bitwise_equal(layer(np.repeat(ids, 2, axis=1)[:, ::2]), expected)
    assert_bitwise_equal(layer(ids[::-1])[::-1], expected)
    assert_bitwise_equal(layer(ids.tolist()), expected)
    ids.flags.writeable = False
    assert_bitwise_equal(layer(ids), expected)


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        ([[0, -1]], "id -1 is outside"),
        ([[0, 5]], "id 5 is outside"),
        ([[0, 2**40]], "outside"),
        ([[0.5, 1.0]], "whole numbers"),
        ([[np.nan, 1.0]], "whole numbers"),
        ([[np.inf, 1.0]], "whole numbers"),
        ([["a", "b"]], "dtype"),
    ],
)
def test_ids_outside_the_vocabulary_are_named(ids, match):
    with pytest.raises(DataError, match=match):
        fl.Embedding(5, 3)(np.array(ids))


def test_a_wrong_id_on_padding_does_not_matter():
    layer = fl.Embedding(5, 3)
    y = layer(np.array([[1, 2, -1], [3, 99, 99]]), lengths=[2, 1])
    assert_bitwise_equal(y[0, :2], layer.params["weight"][[1, 2]])
    assert not y[1, 1:].any()


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (-1, 3)])
def test_sizes_are_positive(sizes):
    with pytest.raises(OptionError, match="from 1 on"):
        fl.Embedding(*sizes)


def test_start_values_are_kerass_uniform():
    layer = fl.Embedding(200, 50, dtype="float64")
    layer.build(0, 1)
    weight = layer.params["weight"]
    assert weight.shape == (200, 50)
    assert 0.049 < np.abs(weight).max() <= 0.05
    assert abs(weight.std() - 0.05 / np.sqrt(3)) < 0.001


def test_boolean_ids_are_zero_and_one():
    layer = fl.Embedding(2, 3)
    assert_bitwise_equal(layer(np.array([[True, False]])), layer(np.array([[1, 0]])))
