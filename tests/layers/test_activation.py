"""Activation, Softmax and the rectifiers: values and derivatives against torch, and what losses ask of them."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.data.packed import pack
from fastlstm.engine.rows import ACTIVATION_NAMES
from fastlstm.errors import OptionError
from fastlstm.layers import PassContext
from tests import gradcheck
from tests.layers.harness import forward_backward
from tests.naive.activations import KINKS
from tests.tolerances import assert_bitwise_equal, assert_gradients_close, assert_outputs_close


def torchs(name):
    """Return torch's function for one of Keras's names."""
    import torch
    import torch.nn.functional as F

    return {
        "linear": lambda x: x * 1.0,
        "relu": F.relu,
        "relu6": F.relu6,
        "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
        "elu": F.elu,
        "selu": F.selu,
        "gelu": F.gelu,
        "silu": F.silu,
        "swish": F.silu,
        "hard_silu": lambda x: x * torch.clamp(x / 6 + 0.5, 0, 1),
        "hard_swish": F.hardswish,
        "mish": F.mish,
        "softplus": F.softplus,
        "softsign": F.softsign,
        "exponential": torch.exp,
        "tanh": torch.tanh,
        "hard_tanh": F.hardtanh,
        "sigmoid": torch.sigmoid,
        "log_sigmoid": F.logsigmoid,
        "hard_sigmoid": F.hardsigmoid,
        "hard_sigmoid_keras2": lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
        "softmax": lambda x: F.softmax(x, -1),
        "log_softmax": lambda x: F.log_softmax(x, -1),
    }[name]


def against_torch(layer, function, x, dy):
    """Compare a layer's output and gradient on sequences with those of a function of torch."""
    import torch

    y, dx, gradients = forward_backward(layer, x, dy)
    assert gradients == {}
    for n in range(len(x)):
        t = torch.tensor(x[n].astype(layer.dtype), requires_grad=True)
        expected = function(t)
        expected.backward(torch.tensor(dy[n].astype(layer.dtype)))
        wanted = expected.detach().numpy()
        bound = (1e-5 if layer.dtype == "float32" else 1e-7) * max(1.0, np.abs(wanted).max())
        assert_outputs_close(y[n], wanted, bound=bound)
        assert_gradients_close(dx[n], t.grad.numpy(), bound=1e-4 if layer.dtype == "float32" else 1e-7)


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
def test_values_and_gradients_are_torchs(name, dtype, rng):
    pytest.importorskip("torch")
    x = [rng.standard_normal((length, 19)) * 3 for length in (5, 2, 7)]
    against_torch(fl.Activation(name, dtype=dtype), torchs(name), x, [rng.standard_normal(part.shape) for part in x])


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
def test_gradients_are_the_numeric_ones(name, rng):
    layer = fl.Activation(name, dtype="float64")
    x, dy = [rng.standard_normal((4, 5)) * 2], [rng.standard_normal((4, 5))]
    for kink in KINKS.get(name, ()):
        x[0][np.abs(x[0] - kink) < 0.01] += 0.1
    _, dx, _ = forward_backward(layer, x, dy)
    gradcheck.assert_gradients(lambda: (dy[0] * layer(x[0])).sum(), {"x": x[0]}, {"x": dx[0]})


RECTIFIERS = {
    "ReLU": (fl.ReLU(), lambda F, x: F.relu(x)),
    "ReLU up to 2": (fl.ReLU(2), lambda F, x: F.hardtanh(x, 0, 2)),
    "ReLU with a slope": (fl.ReLU(negative_slope=0.1), lambda F, x: F.leaky_relu(x, 0.1)),
    "ReLU from 1 on": (fl.ReLU(threshold=1.0), lambda F, x: F.threshold(x, 1.0, 0.0)),
    "all of it": (
        fl.ReLU(3, 0.5, 1.0),
        lambda F, x: F.threshold(x, 1.0, 0.0).clamp(max=3) + 0.5 * (x.clamp(max=1) - 1),
    ),
    "LeakyReLU": (fl.LeakyReLU(), lambda F, x: F.leaky_relu(x, 0.3)),
    "ELU": (fl.ELU(), lambda F, x: F.elu(x)),
    "ELU with alpha": (fl.ELU(0.7), lambda F, x: F.elu(x, 0.7)),
    "Softmax": (fl.Softmax(), lambda F, x: F.softmax(x, -1)),
}


@pytest.mark.parametrize("name", RECTIFIERS)
def test_rectifiers_are_torchs(name, dtype, rng):
    F = pytest.importorskip("torch").nn.functional
    layer, function = RECTIFIERS[name]
    layer = type(layer)(**layer.config() | {"dtype": dtype})
    x = [rng.standard_normal((length, 19)) * 3 for length in (5, 2, 7)]
    dy = [rng.standard_normal(part.shape) for part in x]
    against_torch(layer, lambda t: function(F, t), x, dy)


def test_rectifiers_far_out():
    x = np.array([[-np.inf, -1e4, 1e4, np.inf, np.nan]])
    np.testing.assert_array_equal(fl.ReLU()(x), [[0, 0, 1e4, np.inf, np.nan]])
    np.testing.assert_array_equal(fl.ReLU(6)(x), [[0, 0, 6, 6, np.nan]])
    np.testing.assert_array_equal(fl.LeakyReLU(0.5)(x), [[-np.inf, -5e3, 1e4, np.inf, np.nan]])
    np.testing.assert_array_equal(fl.ELU(2.0)(x), [[-2, -2, 1e4, np.inf, np.nan]])


@pytest.mark.parametrize("layer", [fl.Activation("softmax"), fl.Softmax(), fl.Activation("gelu")])
def test_a_loss_may_have_the_values_before_it_and_write_over_them(layer, rng):
    assert layer.fused_by == {"Softmax": "softmax"}.get(layer.kind, getattr(layer, "activation", None))
    x, _ = pack([rng.standard_normal((3, 4))], features=True, dtype=layer.dtype)
    before, context = x.rows.copy(), PassContext(training=True)
    z, cache = layer.forward(x, context, linear=True)
    assert_bitwise_equal(z.rows, before)
    z.rows[...] = 7.0
    assert_bitwise_equal(x.rows, before)
    dz = rng.standard_normal((3, 4)).astype(np.float32)
    dx, _ = layer.backward(dz.copy(), cache, context)
    assert_bitwise_equal(dx, dz)


def test_log_softmax_of_large_values(dtype):
    x = np.array([[1e4, 1e4, -1e4, 0.0], [-3e4, -3e4, -3e4, -3e4]])
    expected = [[-np.log(2), -np.log(2), -2e4 - np.log(2), -1e4 - np.log(2)], [-np.log(4)] * 4]
    np.testing.assert_allclose(fl.Activation("log_softmax", dtype=dtype)(x), expected, rtol=1e-6)


@pytest.mark.parametrize("features", [1, 5, 16, 33, 1000])
def test_the_softmaxes_of_any_width(features, rng):
    x, dy = [rng.standard_normal((3, features)) * 4], [rng.standard_normal((3, features))]
    y, dx, _ = forward_backward(fl.Activation("softmax", dtype="float64"), x, dy)
    log_y, log_dx, _ = forward_backward(fl.Activation("log_softmax", dtype="float64"), x, dy)
    p = np.exp(x[0]) / np.exp(x[0]).sum(axis=1, keepdims=True)
    assert_outputs_close(y[0], p)
    assert_outputs_close(log_y[0], np.log(p))
    assert_outputs_close(dx[0], p * (dy[0] - (dy[0] * p).sum(axis=1, keepdims=True)))
    assert_outputs_close(log_dx[0], dy[0] - p * dy[0].sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fl.Activation("swash"), "swash.*gelu.*softmax.*swish"),
        (lambda: fl.Activation(np.tanh), "activation="),
        (lambda: fl.Softmax(axis=1), "axis=1.*-1"),
        (lambda: fl.ReLU(-1.0), "max_value is -1"),
        (lambda: fl.ReLU(negative_slope=True), "negative_slope is True"),
        (lambda: fl.LeakyReLU(-0.5), "negative_slope is -0.5.*at least 0"),
        (lambda: fl.ELU(float("nan")), "alpha is nan"),
        (lambda: fl.ELU("a"), "alpha is 'a'"),
    ],
)
def test_options_that_make_no_sense(make, match):
    with pytest.raises(OptionError, match=match):
        make()
