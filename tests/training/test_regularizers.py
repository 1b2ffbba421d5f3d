"""L2 penalties of recurrent layers: what they add to the loss that is reported, and to the gradients."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import DivergedError, OptionError
from fastlstm.training import optimizers
from tests import gradcheck
from tests.tolerances import assert_bitwise_equal

FACTORS = {"kernel_regularizer": 0.3, "recurrent_regularizer": 0.2, "bias_regularizer": 0.1}
NAMES = {
    "kernel_regularizer": "weight_ih_l0",
    "recurrent_regularizer": "weight_hh_l0",
    "bias_regularizer": "bias_ih_l0",
}
RATE = 0.1


def layer_of(kind, regularized, **options):
    """Return a layer of one direction, or of both where `kind` is a tuple."""
    options |= FACTORS if regularized else {}
    if isinstance(kind, tuple):
        ahead, back = (one(4, dtype="float64", go_backwards=place == 1, **options) for place, one in enumerate(kind))
        return fl.Bidirectional(ahead, backward_layer=back)
    return kind(4, dtype="float64", **options)


def model_of(kind, regularized=True, **options):
    """Return a compiled model whose weights, biases included, are the same with penalties and without."""
    model = fl.Sequential([layer_of(kind, regularized, **options), fl.Dense(1, dtype="float64")], seed=3)
    model.compile(optimizers.SGD(RATE), "mse", metrics=["mae"])
    model.build(2)
    rng = np.random.default_rng(1)
    model.load_state_dict({name: rng.standard_normal(value.shape) for name, value in model.state_dict().items()})
    return model


def data(rng, count=6):
    return rng.standard_normal((count, 5, 2)), rng.standard_normal((count, 1))


def penalised(model):
    """Return (layer's parameter, factor) of each penalty, by the rule of Keras: factor * sum(w ** 2)."""
    layer = model.layers[0]
    suffixes = ("", "_reverse") if isinstance(layer, fl.Bidirectional) else ("",)
    return {name + suffix: FACTORS[word] for word, name in NAMES.items() for suffix in suffixes}


def penalty_of(model):
    params = model.layers[0].params
    return sum(factor * (params[name] ** 2).sum() for name, factor in penalised(model).items())


KINDS = pytest.mark.parametrize(
    "kind",
    [fl.LSTM, fl.GRU, fl.SimpleRNN, (fl.LSTM, fl.LSTM), (fl.GRU, fl.SimpleRNN)],
    ids=["LSTM", "GRU", "SimpleRNN", "Bidirectional", "GRU and SimpleRNN"],
)


@KINDS
def test_evaluate_adds_the_penalty_to_the_loss_but_to_no_metric(kind, rng):
    x, y = data(rng)
    plain, regularized = (model_of(kind, on) for on in (False, True))
    expected, metric = plain.evaluate(x, y, batch_size=4)
    assert penalty_of(regularized) > 1
    loss, same = regularized.evaluate(x, y, batch_size=4)
    np.testing.assert_allclose(loss, expected + penalty_of(regularized), rtol=1e-12)
    assert same == metric


@KINDS
def test_fit_reports_the_loss_with_the_penalty_of_each_batchs_weights(kind, rng):
    x, y = data(rng)
    model = model_of(kind)
    before, (held, _) = penalty_of(model), model_of(kind, False).evaluate(x, y)
    history = model.fit(x, y, validation_data=(x, y), batch_size=6, epochs=1, verbose=0).history
    np.testing.assert_allclose(history["loss"], [held + before], rtol=1e-12)
    np.testing.assert_allclose(history["val_loss"], [model.evaluate(x, y)[0]], rtol=1e-12)
    assert penalty_of(model) < before


@KINDS
def test_a_step_moves_each_parameter_by_the_gradient_of_its_penalty_too(kind, rng):
    x, y = data(rng)
    plain, regularized = (model_of(kind, on) for on in (False, True))
    start = regularized.layers[0].state_dict()
    for model in (plain, regularized):
        model.fit(x, y, batch_size=6, epochs=1, verbose=0)
    factors = penalised(regularized)
    for name, value in plain.layers[0].state_dict().items():
        expected = value - RATE * 2 * factors.get(name, 0.0) * start[name]
        np.testing.assert_allclose(regularized.layers[0].params[name], expected, rtol=1e-12, atol=1e-14, err_msg=name)


@KINDS
def test_gradients_are_the_numeric_ones_of_the_loss_that_is_reported(kind, rng):
    x, y = data(rng)
    model = model_of(kind)
    start = model.state_dict()
    model.fit(x, y, batch_size=6, epochs=1, verbose=0)
    gradients = {name: (start[name] - value) / RATE for name, value in model.state_dict().items()}
    model.load_state_dict(start)

    def loss():
        for layer in model.layers:
            layer.changed()
        return model.evaluate(x, y)[0]

    params = {f"{layer.name}.{name}": value for layer in model.layers for name, value in layer.arrays.items()}
    gradcheck.assert_gradients(loss, params, gradients)


def test_a_file_keeps_the_penalties(rng, tmp_path):
    x, y = data(rng)
    model = model_of((fl.GRU, fl.LSTM))
    model.save(tmp_path / "m.safetensors", optimizer=True)
    again = fl.load(tmp_path / "m.safetensors")
    for one in (model, again):
        one.fit(x, y, batch_size=3, epochs=2, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        assert_bitwise_equal(one, other)
    assert again.evaluate(x, y)[0] > penalty_of(again) > 1


def test_what_has_no_bias_has_no_penalty_on_it(rng):
    x, y = data(rng)
    losses = []
    for factor in (None, 1.0):
        layer = fl.GRU(4, use_bias=False, bias_regularizer=factor, dtype="float64")
        model = fl.Sequential([layer, fl.Dense(1, dtype="float64")], seed=0)
        model.compile("sgd", "mse")
        losses.append(model.fit(x, y, epochs=3, verbose=0).history["loss"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("given", ["l2", 0.01, fl.L2(), fl.L2(0.01)])
def test_forms_of_one_penalty(given):
    layer = fl.LSTM(3, kernel_regularizer=given)
    layer.build(2)
    assert layer.penalties == {"weight_ih_l0": 0.01}


def test_keras_objects_are_taken_and_others_refused():
    class Keras:
        l1, l2 = 0.0, np.float64(0.25)

    layer = fl.LSTM(3, recurrent_regularizer=Keras())
    layer.build(2)
    assert layer.penalties == {"weight_hh_l0": 0.25}
    Keras.l1 = 0.5
    for wrong in (Keras(), "l1", -1.0, float("nan"), True, [0.1]):
        with pytest.raises(OptionError, match=r"recurrent_regularizer=|L2: l2="):
            fl.LSTM(3, recurrent_regularizer=wrong)


@pytest.mark.parametrize("start", [1.0, np.inf, np.nan])
def test_a_penalty_that_is_not_finite_is_divergence(rng, start):
    x, y = data(rng)
    model = fl.Sequential([fl.LSTM(4, kernel_regularizer=1.7e308), fl.Dense(1)])
    model.compile("sgd", "mse")
    model.build(2)
    with model.layers[0].edit() as params:
        params["weight_ih_l0"][...] = start
    expected = model.get_weights()
    with pytest.raises(DivergedError, match="the loss became"):
        model.fit(x, y, epochs=1, verbose=0)
    for one, other in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, other)
