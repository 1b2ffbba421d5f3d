"""Pooling by windows against loops, numeric gradients and torch; and the bits that no batch or core changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.errors import OptionError, ShapeError
from tests import gradcheck, naive, strategies
from tests.layers.harness import forward_backward
from tests.layers.windows import assert_alone_as_in_a_batch, gradients_like, naive_options, random_case
from tests.tolerances import assert_bitwise_equal, assert_gradients_close, assert_outputs_close

KINDS = {fl.MaxPooling1D: "max", fl.AveragePooling1D: "average"}
OPTIONS = [
    {"pool_size": 2},
    {"pool_size": 3, "strides": 1, "padding": "same"},
    {"pool_size": 4, "strides": 2},
    {"pool_size": 2, "strides": 3, "padding": "same"},
]
kinds = pytest.mark.parametrize("kind", KINDS)
every_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


@kinds
@given(
    strategies.lengths_n(max_sequences=5, max_steps=9),
    st.integers(1, 20),
    st.integers(1, 5),
    st.none() | st.integers(1, 5),
    st.sampled_from(["valid", "same"]),
    strategies.seeds(),
    strategies.float_types(),
)
def test_outputs_and_gradients_are_the_naive_ones(kind, lengths, features, size, strides, padding, seed, dtype):
    rng = np.random.default_rng(seed)
    if padding == "valid":
        lengths = [length + size - 1 for length in lengths]
    x = random_case(rng, lengths, features, dtype)
    layer = kind(size, strides, padding, dtype=dtype)
    dy = gradients_like(layer, x, features, rng)
    y, dx, gradients = forward_backward(layer, x, dy)
    assert gradients == {}
    plain = {"size": size, "stride": strides or size, "padding": padding}
    for n, own in enumerate(x):
        own = own.astype(np.float64)
        assert_outputs_close(y[n], naive.pool(own, KINDS[kind], **plain))
        expected = naive.pool_backward(own, KINDS[kind], dy[n], **plain)
        if expected.any():
            assert_gradients_close(dx[n], expected, what=f"dx of sequence {n}")
        else:
            assert not dx[n].any()


@kinds
@every_option
def test_gradients_are_the_numeric_ones(kind, options, rng):
    layer, x = kind(dtype="float64", **options), random_case(rng, [9, 6, 4], 3)
    dy = gradients_like(layer, x, 3, rng)
    _, dx, _ = forward_backward(layer, x, dy)
    gradcheck.assert_gradients(
        lambda: sum((own * y).sum() for own, y in zip(dy, layer(x), strict=True)),
        {f"x{n}": part for n, part in enumerate(x)},
        {f"x{n}": part for n, part in enumerate(dx)},
    )


@kinds
@pytest.mark.parametrize(("size", "strides"), [(2, None), (3, 1), (4, 2), (2, 3)])
def test_as_torch_computes_it(kind, size, strides, dtype, rng):
    torch = pytest.importorskip("torch")
    x = rng.integers(-2, 3, (4, 13, 18)).astype(dtype)  # with equal values, whose first one counts
    peer = torch.nn.functional.max_pool1d if kind is fl.MaxPooling1D else torch.nn.functional.avg_pool1d
    steps = torch.from_numpy(x).requires_grad_()
    expected = peer(steps.transpose(1, 2), size, strides or size).transpose(1, 2)
    dy = rng.standard_normal(expected.shape).astype(dtype)
    expected.backward(torch.from_numpy(dy))
    layer = kind(size, strides, dtype=dtype)
    y, dx, _ = forward_backward(layer, list(x), list(dy))
    assert_outputs_close(np.stack(y), expected.detach().numpy())
    assert_gradients_close(np.stack(dx), steps.grad.numpy())
    assert_bitwise_equal(layer(x), np.stack(y))


@kinds
@every_option
def test_a_sequence_has_the_same_bits_in_any_batch(kind, options, dtype, rng):
    layer, x = kind(dtype=dtype, **options), random_case(rng, [11, 4, 9, 5, 4], 7, dtype)
    assert_alone_as_in_a_batch(layer, x, gradients_like(layer, x, 7, rng))


@pytest.mark.usefixtures("share_everything")
@kinds
@every_option
def test_threads_change_no_bit(kind, options, dtype, rng):
    layer, x = kind(dtype=dtype, **options), random_case(rng, [40, 9, 23], 5, dtype)
    dy = gradients_like(layer, x, 5, rng)
    results = []
    for threads in (1, 2, 3):
        fl.set_num_threads(threads)
        y, dx, _ = forward_backward(layer, x, dy)
        results.append([*y, *dx])
    for other in results[1:]:
        for one, expected in zip(other, results[0], strict=True):
            assert_bitwise_equal(one, expected)


@pytest.mark.parametrize(
    ("values", "size", "strides", "padding", "largest", "mean"),
    [
        ([1, 4, 9, 2, 7], 2, None, "valid", [4, 9], [2.5, 5.5]),
        ([1, 4, 9, 2, 7], 2, None, "same", [4, 9, 7], [2.5, 5.5, 7]),
        ([1, 4, 9, 2, 7], 3, 1, "same", [4, 9, 9, 9, 7], [2.5, 14 / 3, 5, 6, 4.5]),
        ([-1, -4, -9, -2], 3, 2, "same", [-1, -2], [-14 / 3, -5.5]),  # the padding is no 0
        ([5], 4, None, "same", [5], [5]),
    ],
)
def test_windows_as_in_keras(values, size, strides, padding, largest, mean):
    x = np.array(values, float).reshape(1, -1, 1)
    assert fl.MaxPooling1D(size, strides, padding, dtype="float64")(x).ravel().tolist() == largest
    np.testing.assert_allclose(fl.AveragePooling1D(size, strides, padding, dtype="float64")(x).ravel(), mean)


def test_the_first_of_equal_maxima_gets_the_gradient_of_each_window():
    layer = fl.MaxPooling1D(3, strides=1, dtype="float64")
    x = np.array([[1.0], [2], [2], [2], [0]])
    _, dx, _ = forward_backward(layer, [x], [np.array([[1.0], [10], [100]])])
    assert dx[0].ravel().tolist() == [0, 11, 100, 0, 0]


@kinds
def test_nan_is_in_the_windows_that_see_it(kind):
    x = np.arange(12.0).reshape(2, 6, 1)
    x[0, 2] = np.nan
    y = kind(2)(x)
    assert np.isnan(y[0, 1])
    assert np.isfinite(np.delete(y.ravel(), 1)).all()


@kinds
def test_lengths_names_and_configs(kind):
    layer = kind((3,), padding="SAME")
    assert layer.lengths_out(np.array([7, 6, 1])).tolist() == [3, 2, 1]
    assert layer.changes_lengths
    assert not kind(3, 1, "same").changes_lengths
    assert layer.config() == {"pool_size": 3, "strides": 3, "padding": "same", "name": None, "dtype": "float32"}
    assert kind(**layer.config()).config() == layer.config()
    assert kind(2)(fl.layers.symbol.Input((None, 4))).shape == (None, None, 4)
    assert kind(2)(np.ones((2, 7, 4)), lengths=[7, 2]).shape == (2, 3, 4)


@kinds
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"pool_size": 0}, "pool_size=0"),
        ({"pool_size": 2.5}, r"pool_size=2\.5"),
        ({"strides": 0}, "strides=0"),
        ({"strides": "2"}, "strides='2'"),
        ({"padding": "causal"}, "padding='causal'; expected one of valid, same"),
    ],
)
def test_options_that_make_no_sense(kind, options, match):
    with pytest.raises(OptionError, match=match):
        kind(**options)


@kinds
def test_a_sequence_shorter_than_a_window_is_named(kind):
    with pytest.raises(ShapeError, match=rf"{kind.__name__}: a sequence has 2 steps, pool_size=3: .*padding='same'"):
        kind(3)([np.ones((4, 1)), np.ones((2, 1))])
    layer = kind(2)
    layer(np.ones((1, 2, 1)))
    with pytest.raises(ShapeError, match="has 4 features, this layer was built for 1"):
        layer(np.ones((1, 2, 4)))


@kinds
@every_option
def test_naive_windows_are_the_layers(kind, options):
    layer = kind(**options)
    plain = {"stride": options["pool_size"]} | naive_options(options)
    lengths = range(4, 30)
    assert layer.lengths_out(np.array(lengths)).tolist() == [len(naive.windows(n, **plain)) for n in lengths]
