"""Optimizers over a hundred steps against float64 loops, number by number; and what they do not take."""

import math

import numpy as np
import pytest

from fastlstm.errors import ShapeError
from fastlstm.training.optimizers import SGD, Adam, AdamW, RMSprop
from tests.naive import optim as naive
from tests.tolerances import assert_bitwise_equal, assert_outputs_close

SHAPES = ((3, 5), (17,), (1,))

CASES = {
    "sgd": (lambda **k: SGD(0.05, **k), lambda: naive.Sgd(0.05)),
    "momentum": (lambda **k: SGD(0.05, 0.9, **k), lambda: naive.Sgd(0.05, 0.9)),
    "nesterov": (lambda **k: SGD(0.05, 0.9, True, **k), lambda: naive.Sgd(0.05, 0.9, True)),
    "rmsprop": (lambda **k: RMSprop(0.01, 0.95, **k), lambda: naive.RmsProp(0.01, 0.95, 1e-7)),
    "rmsprop_momentum": (
        lambda **k: RMSprop(0.01, 0.95, 0.8, **k),
        lambda: naive.RmsProp(0.01, 0.95, 1e-7, 0.8),
    ),
    "adam": (lambda **k: Adam(0.01, **k), lambda: naive.Adam(0.01, 0.9, 0.999, 1e-7)),
    "adamw": (lambda **k: AdamW(0.01, 0.1, **k), lambda: naive.Adam(0.01, 0.9, 0.999, 1e-7, decay=0.1)),
}


def start(dtype):
    rng = np.random.default_rng(7)
    return [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]


def gradients(dtype, steps=100):
    """One list of arrays a step; sizes from a hundredth to a hundred, and some elements that are exactly 0."""
    rng = np.random.default_rng(8)
    for _ in range(steps):
        size = 10.0 ** rng.uniform(-2, 2)
        yield [(size * rng.standard_normal(shape) * (rng.random(shape) > 0.2)).astype(dtype) for shape in SHAPES]


@pytest.mark.parametrize("clipnorm", [None, 3.0])
@pytest.mark.parametrize("name", CASES)
def test_a_hundred_steps_are_those_of_the_textbook(name, clipnorm, dtype):
    make, rule = CASES[name]
    optimizer, params = make(clipnorm=clipnorm), start(dtype)
    expected = [param.astype(float).reshape(-1).tolist() for param in params]
    rules = [[rule() for _ in values] for values in expected]
    clipped = 0
    for grads in gradients(dtype):
        optimizer.update(params, grads)
        flat = [[float(g) for g in grad.reshape(-1)] for grad in grads]
        norm = math.sqrt(math.fsum(g * g for values in flat for g in values))
        scale = 1.0 if clipnorm is None or norm <= clipnorm else clipnorm / norm
        clipped += scale < 1.0
        for place, values in enumerate(flat):
            steps = zip(rules[place], expected[place], values, strict=True)
            expected[place] = [r.step(p, scale * g) for r, p, g in steps]
    if clipnorm is not None:
        assert 0 < clipped < 100  # both ways were gone
    largest = max(abs(p) for values in expected for p in values)
    for param, values in zip(params, expected, strict=True):
        bound = {"float32": 5e-6, "float64": 1e-13}[dtype] * max(1.0, largest)
        assert_outputs_close(param, np.reshape(values, param.shape), bound=bound)


def test_what_does_not_fit_is_refused_before_anything_moves():
    optimizer, params = Adam(), start("float32")
    optimizer.update(params, next(gradients("float32")))
    kept, state = [param.copy() for param in params], optimizer.state_dict()
    wider = [param.astype("float64") for param in params]
    for given, grads, words in (
        (params[:-1], params[:-1], "2 parameters and 2 gradients; expected 3"),
        (params, params[:-1], "3 parameters and 2 gradients"),
        (params, [*params[:-1], np.zeros(2, "float32")], "parameter 2 "),
        (params, wider, "parameter 0 is float32 .*float64"),
        (wider, wider, "parameter 0 is float64 .*float32"),
    ):
        with pytest.raises(ShapeError, match=words):
            optimizer.update(given, grads)
    for param, before in zip(params, kept, strict=True):
        assert_bitwise_equal(param, before)
    for key, value in optimizer.state_dict().items():
        assert_bitwise_equal(value, state[key], what=key)


def test_a_gradient_of_any_layout_is_read_right_and_left_alone():
    params, whole = [np.zeros((3, 2))], np.arange(6.0).reshape(2, 3)
    SGD(1.0, clipnorm=1.0).update(params, [whole.T])
    assert_outputs_close(params[0], -whole.T / np.linalg.norm(whole), bound=1e-15)
    assert whole.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_the_learning_rate_may_change_between_steps():
    params, optimizer = [np.zeros(1)], SGD(1.0)
    for rate in (1.0, 0.5, 0.0):
        optimizer.learning_rate = rate
        optimizer.update(params, [np.ones(1)])
    assert params[0].tolist() == [-1.5]
