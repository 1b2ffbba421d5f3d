"""Layers that make one batch of several, and RepeatVector and TimeDistributed: values, gradients, orders, bad input."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import OptionError, ShapeError
from fastlstm.testing import check_gradients
from tests.tolerances import assert_bitwise_equal

PLAIN = {
    "Add": lambda *parts: sum(parts),
    "Subtract": lambda one, other: one - other,
    "Multiply": lambda *parts: np.prod(parts, axis=0),
    "Average": lambda *parts: np.mean(parts, axis=0),
    "Maximum": lambda *parts: np.max(parts, axis=0),
    "Minimum": lambda *parts: np.min(parts, axis=0),
    "Concatenate": lambda *parts: np.concatenate(parts, axis=-1),
    "Dot": lambda one, other: (one * other).sum(axis=-1, keepdims=True),
}


def inputs_of(name):
    return 2 if name in ("Subtract", "Dot") else 3


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("shape", [(4, 3), (4, 5, 3)])
def test_values(name, shape, rng):
    parts = rng.standard_normal((inputs_of(name), *shape))
    layer = getattr(fl, name)(dtype="float64")
    np.testing.assert_allclose(layer([*parts]), PLAIN[name](*parts), rtol=1e-12, atol=1e-14)


def test_a_cosine(rng):
    one, other = rng.standard_normal((2, 6, 4))
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    np.testing.assert_allclose(fl.Dot(normalize=True, dtype="float64")([one, other])[:, 0], cosine, rtol=1e-12)
    assert (fl.Dot(normalize=True)([np.zeros((1, 3)), np.ones((1, 3))]) == 0).all()


@pytest.mark.parametrize("name", [*PLAIN, "cosine"])
@pytest.mark.parametrize("lengths", [None, [2, 4, 1]])
def test_gradients(name, lengths):
    layer = fl.Dot(normalize=True) if name == "cosine" else getattr(fl, name)()
    features = [2, 3, 4] if name == "Concatenate" else [3] * inputs_of("Dot" if name == "cosine" else name)
    shapes = [(3, 4, size) for size in features]
    assert check_gradients(layer, shapes, lengths=None if lengths is None else [lengths] * len(shapes)) < 1e-5


def test_among_equal_values_the_first_gets_the_gradient():
    x = fl.Input((1,))
    for layer, expected in ((fl.Maximum(), 1.0), (fl.Minimum(), 1.0)):
        first, second = fl.Dense(1, use_bias=False, name="first"), fl.Dense(1, use_bias=False, name="second")
        model = fl.Model(x, layer([first(x), second(x)]), seed=0)
        model.set_weights([np.ones((1, 1)), np.ones((1, 1))])
        model.compile(fl.optimizers.SGD(0.5), "mse")
        model.train_on_batch([[1.0]], [[0.0]])
        weights = {name: float(value[0, 0]) for name, value in model.state_dict().items()}
        assert weights == {"first.weight": 1.0 - expected, "second.weight": 1.0}


def test_partners_packed_in_different_orders_find_each_other(rng):
    """Two inputs of the same lengths have one order; a repeated row has that of the batch it came from."""
    x = fl.Input((None, 3))
    last = fl.LSTM(4)(x)
    first = fl.Input((2,))
    model = fl.Model([x, first], fl.Concatenate()([fl.RepeatVector(3)(last), fl.RepeatVector(3)(first)]), seed=0)
    sequences, rows = [rng.standard_normal((n, 3)) for n in (2, 5, 1, 4)], rng.standard_normal((4, 2))
    together = model.predict([sequences, rows])
    for n in range(4):
        alone = model.predict([[sequences[n]], rows[n : n + 1]])
        assert_bitwise_equal(alone[0], together[n])
        assert_bitwise_equal(together[n, :, 4:], np.repeat(rows[n : n + 1], 3, axis=0).astype(np.float32))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fl.Add()([np.zeros((2, 3))]), "called on 1 inputs; expected a list of 2 or more"),
        (lambda: fl.Subtract()([np.zeros((2, 3))] * 3), "called on 3 inputs; expected a list of 2$"),
        (lambda: fl.Add()(np.zeros((2, 3))), "called on ndarray; expected a list"),
        (lambda: fl.Add()([np.zeros((2, 3)), np.zeros((2, 4))]), "inputs of 3, 4 features"),
        (lambda: fl.Add()([np.zeros((2, 3)), np.zeros((3, 3))]), "inputs of 2 and 3 sequences"),
        (lambda: fl.Add()([np.zeros((2, 5, 3)), np.zeros((2, 4, 3))]), r"other lengths, \[5, 5\] and \[4, 4\]"),
        (lambda: fl.Add()([np.zeros((2, 5, 3)), np.zeros((2, 3))]), "RepeatVector makes steps of it"),
        (lambda: fl.Concatenate(axis=1), "axis=1; expected -1"),
        (lambda: fl.RepeatVector(2)(np.zeros((2, 3, 4))), "x has steps"),
        (lambda: fl.RepeatVector(0), "n=0; expected a whole number from 1 on"),
        (lambda: fl.TimeDistributed(fl.LSTM(3)), "takes whole sequences"),
        (lambda: fl.TimeDistributed("dense"), "layer is str"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises((ShapeError, OptionError), match=words):
        call()


def test_repeating_and_its_gradient():
    assert check_gradients(fl.RepeatVector(4), (3, 5)) < 1e-6
    assert_bitwise_equal(fl.RepeatVector(2)([[1.0, 2.0]]), np.array([[[1, 2], [1, 2]]], np.float32))


def test_a_layer_at_each_step_is_that_layer(rng):
    x = rng.standard_normal((2, 5, 3))
    plain, wrapped = fl.Dense(4), fl.TimeDistributed(fl.Dense(4))
    wrapped.build(3, rng=1)
    plain.build(3, rng=1)
    assert_bitwise_equal(plain(x), wrapped(x))
    assert check_gradients(fl.TimeDistributed(fl.Dense(4, activation="tanh")), (3, 4, 2)) < 1e-5
    model = fl.Sequential([fl.LSTM(3, return_sequences=True), fl.TimeDistributed(fl.Dense(4, activation="softmax"))])
    model.build(3)
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.evaluate(x, np.ones((2, 5), int))
    model.fit(x, np.ones((2, 5), int), epochs=5, verbose=0)
    assert model.evaluate(x, np.ones((2, 5), int)) < before


def test_a_wrapped_layer_is_saved_and_loaded(tmp_path, rng):
    model = fl.Sequential([fl.TimeDistributed(fl.Dense(4, activation="relu")), fl.GRU(3)], seed=0)
    model.build(2)
    model.save(tmp_path / "m")
    x = rng.standard_normal((2, 3, 2))
    assert_bitwise_equal(fl.load(tmp_path / "m").predict(x), model.predict(x))
