import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.errors import OptionError
from tests import gradcheck, naive, strategies
from tests.layers.harness import forward_backward
from tests.naive.activations import KINKS, ROW_NAMES
from tests.tolerances import OUTPUT, assert_bitwise_equal, assert_gradients_close, assert_outputs_close

ACTIVATIONS = (None, "softmax", "log_softmax", *ROW_NAMES)


def dense_of(weight, bias, activation, dtype):
    layer = fl.Dense(len(weight), activation=activation, dtype=dtype)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def near_a_kink(a, activation, dtype):
    """Tell whether rounding may put a value on the other side of where a slope jumps."""
    kinks = KINKS.get(activation, ())
    return any(np.abs(a - kink).min() < OUTPUT[dtype] for kink in kinks)


@given(
    strategies.lengths_n(max_sequences=4, max_steps=4),
    st.integers(1, 20),
    st.integers(1, 40),
    st.sampled_from(ACTIVATIONS),
    strategies.seeds(),
    strategies.float_types(),
)
def test_rows_and_gradients_are_the_naive_ones(lengths, features, units, activation, seed, dtype):
    rng = np.random.default_rng(seed)
    weight, bias = rng.standard_normal((units, features)) / np.sqrt(features), rng.standard_normal(units)
    x = naive.random_sequences(rng, lengths, features)
    dy = naive.random_sequences(rng, lengths, units)
    y, dx, gradients = forward_backward(dense_of(weight, bias, activation, dtype), x, dy)
    rows = np.concatenate(x)
    wanted = naive.dense(rows, weight, bias, activation)
    assert_gradients_close(np.concatenate(y), wanted, bound=OUTPUT[dtype] * max(1.0, 1.0 / np.abs(wanted).max()))
    if near_a_kink(naive.dense(rows, weight, bias), activation, dtype):
        return
    expected = naive.dense_backward(rows, weight, bias, activation, np.concatenate(dy))
    if activation in ("softmax", "log_softmax") and units == 1:  # constant: all gradients are zero, none has a scale
        assert all(np.abs(part).max() < 1e-6 for part in (np.concatenate(dx), *gradients.values()))
        return
    assert_gradients_close(np.concatenate(dx), expected[0], what="dx")
    assert_gradients_close(gradients["weight"], expected[1], what="weight")
    assert_gradients_close(gradients["bias"], expected[2], what="bias")


@pytest.mark.parametrize("activation", ["sigmoid", "softmax", "log_softmax", "gelu", "mish", "softplus", None])
def test_gradients_are_the_numeric_ones(activation, rng):
    layer = dense_of(rng.standard_normal((3, 4)), rng.standard_normal(3), activation, "float64")
    x, dy = [rng.standard_normal((5, 4))], [rng.standard_normal((5, 3))]
    _, dx, gradients = forward_backward(layer, x, dy)

    def value():
        layer.changed()
        return (dy[0] * layer(x)[0]).sum()

    gradcheck.assert_gradients(value, {"x": x[0]} | layer.arrays, {"x": dx[0]} | gradients)


def test_the_values_before_the_activation_are_to_be_had_for_a_loss_that_fuses_with_it(rng):
    from fastlstm.data.packed import pack
    from fastlstm.layers import PassContext

    weight, bias = rng.standard_normal((3, 4)), rng.standard_normal(3)
    layer = dense_of(weight, bias, "softmax", "float64")
    x, _ = pack([rng.standard_normal((5, 4))], features=True)
    context = PassContext(training=True)
    logits, cache = layer.forward(x, context, linear=True)
    assert_outputs_close(logits.rows, naive.dense(x.rows, weight, bias))
    dz = rng.standard_normal((5, 3))
    expected = naive.dense_backward(x.rows, weight, bias, None, dz)
    dx, gradients = layer.backward(dz.copy(), cache, context)
    assert_gradients_close(dx, expected[0])
    assert_gradients_close(gradients["weight"], expected[1])


def test_samples_and_steps_are_rows_alike(rng):
    layer, x = fl.Dense(5, activation="tanh"), rng.standard_normal((4, 3, 7))
    y = layer(x)
    assert y.shape == (4, 3, 5)
    assert_bitwise_equal(layer(x[:, 1]), y[:, 1])
    assert_bitwise_equal(layer(list(x))[2], y[2])


def test_a_row_has_the_same_bits_alone_and_in_any_batch(rng):
    layer, x = fl.Dense(37, activation="softmax"), rng.standard_normal((11, 19))
    y = layer(x)
    for n in range(11):
        assert_bitwise_equal(layer(x[n : n + 1])[0], y[n])


def test_without_a_bias(rng):
    layer = fl.Dense(3, use_bias=False, dtype="float64")
    x = rng.standard_normal((4, 6))
    assert_outputs_close(layer(x), x @ layer.params["weight"].T)
    assert list(layer.params) == ["weight"]
    dy = [rng.standard_normal((4, 3))]
    assert list(forward_backward(layer, [x], dy)[2]) == ["weight"]


def test_softmax_of_large_values_neither_overflows_nor_loses_its_sum(dtype):
    layer = dense_of(np.eye(4), np.zeros(4), "softmax", dtype)
    y = layer(np.array([[1e4, 1e4, -1e4, 0.0], [-3e4, -3e4, -3e4, -3e4]]))
    np.testing.assert_allclose(y, [[0.5, 0.5, 0, 0], [0.25] * 4], atol=1e-6)


def test_start_values_and_penalties_are_those_that_were_asked_for():
    layer = fl.Dense(
        40,
        kernel_initializer="he_normal",
        bias_initializer="ones",
        kernel_regularizer=fl.L2(0.5),
        bias_regularizer=0.25,
    )
    layer.build(5000, rng=0)
    assert abs(layer.params["weight"].std() / np.sqrt(2 / 5000) - 1) < 0.02
    assert (layer.params["bias"] == 1).all()
    assert layer.penalties == {"weight": 0.5, "bias": 0.25}
    again = fl.Dense(**layer.config())
    assert (again.config(), again.penalties) == (layer.config(), layer.penalties)
    assert fl.Dense(3, use_bias=False, bias_regularizer="l2").penalties == {}


def test_the_default_start_values_are_glorots():
    layer = fl.Dense(30)
    layer.build(20, rng=0)
    limit = np.sqrt(6 / 50)
    assert 0.98 * limit < np.abs(layer.params["weight"]).max() <= limit
    assert (layer.params["bias"] == 0).all()


def test_a_penalty_is_part_of_the_loss_of_a_model(rng):
    model = fl.Sequential([fl.LSTM(3), fl.Dense(2, kernel_regularizer=0.1)], seed=0)
    model.compile("sgd", "mse")
    x, y = rng.standard_normal((4, 3, 2)), rng.standard_normal((4, 2))
    model.build(2)
    weight = model.layers[1].params["weight"]
    plain = ((model.predict(x) - y) ** 2).mean()
    assert model.evaluate(x, y, verbose=0) == pytest.approx(plain + 0.1 * (weight.astype(float) ** 2).sum(), rel=1e-5)


def test_the_last_activation_is_named_for_losses():
    assert fl.Dense(3, "softmax").fused_by == "softmax"
    assert fl.Dense(3).fused_by == "linear"
    assert fl.LSTM(3).fused_by is None


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fl.Dense(0), "units=0"),
        (lambda: fl.Dense(3, activation="swash"), "swash.*silu"),
        (lambda: fl.Dense(3, kernel_initializer="glorot"), "kernel_initializer"),
        (lambda: fl.Dense(3, bias_regularizer="l3"), "bias_regularizer"),
        (lambda: fl.Dense(3, activation=len), "activation="),
    ],
)
def test_options_that_make_no_sense(make, match):
    with pytest.raises(OptionError, match=match):
        make()
