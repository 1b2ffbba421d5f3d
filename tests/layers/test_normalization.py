"""LayerNormalization, RMSNormalization and BatchNormalization: naive, torch, numeric; the running statistics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.data.packed import pack
from fastlstm.errors import DataError, OptionError, ShapeError
from fastlstm.layers import PassContext
from fastlstm.runtime.workspace import Workspace
from tests import gradcheck, naive, strategies
from tests.layers.harness import forward_backward
from tests.tolerances import assert_bitwise_equal, assert_gradients_close, assert_outputs_close

KINDS = {"layer": fl.LayerNormalization, "rms": fl.RMSNormalization, "batch": fl.BatchNormalization}


def built(kind, features, rng, dtype="float64", **options):
    """Return a layer with random weights."""
    layer = KINDS[kind](dtype=dtype, **options)
    layer.build(features)
    for value in layer.arrays.values():
        value[...] = rng.standard_normal(features)
    return layer


def parts_of(layer):
    """Return weight and bias, as float64, whether the layer has them or not."""
    weight, bias = np.ones(layer.features_in), np.zeros(layer.features_in)
    return layer.params.get("weight", weight).astype(float), layer.params.get("bias", bias).astype(float)


@given(
    strategies.lengths_n(max_sequences=5, max_steps=5),
    st.integers(2, 30),
    st.sampled_from(["layer", "rms", "batch"]),
    st.booleans(),
    st.booleans(),
    strategies.seeds(),
    strategies.float_types(),
)
def test_training_is_the_naive_one(lengths, features, kind, center, scale, seed, dtype):
    rng = np.random.default_rng(seed)
    options = {} if kind == "rms" else {"center": center, "scale": scale}
    layer = built(kind, features, rng, dtype, **options)
    x = naive.random_sequences(rng, lengths, features)
    dy = naive.random_sequences(rng, lengths, features)
    y, dx, gradients = forward_backward(layer, x, dy)
    rows, (weight, bias) = np.concatenate(x), parts_of(layer)
    if kind == "batch":
        expected = naive.batch_norm(rows, weight, bias, layer.epsilon)[0]
        wanted = naive.batch_norm_backward(rows, weight, layer.epsilon, np.concatenate(dy))
    else:
        expected = naive.layer_norm(rows, weight, bias, layer.epsilon, kind == "layer")
        wanted = naive.layer_norm_backward(rows, weight, layer.epsilon, np.concatenate(dy), kind == "layer")
    bound = 2e-5 if dtype == "float32" else 1e-10
    assert_outputs_close(np.concatenate(y), expected, bound=bound)
    found = {"x": np.concatenate(dx)} | gradients
    assert set(gradients) == set(layer.params)
    for what, value in zip(("x", "weight", "bias"), wanted, strict=True):
        if what in found:
            relative = max(1.0, 1.0 / max(np.abs(value).max(), 1e-300))
            assert_gradients_close(found[what], value, what=what, bound=10 * bound * relative)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_numeric_ones(kind, rng):
    layer = built(kind, 4, rng)
    x, dy = [rng.standard_normal((5, 4)), rng.standard_normal((2, 4))], [rng.standard_normal((n, 4)) for n in (5, 2)]
    _, dx, gradients = forward_backward(layer, x, dy)

    def value():
        y, _, _ = forward_backward(layer, x, dy)
        return sum((a * b).sum() for a, b in zip(y, dy, strict=True))

    found = {"x0": dx[0], "x1": dx[1]} | gradients
    gradcheck.assert_gradients(value, {"x0": x[0], "x1": x[1]} | layer.arrays, found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", [7, 64, 300])
def test_outputs_and_gradients_are_torchs(kind, features, rng):
    torch = pytest.importorskip("torch")
    make = {"layer": torch.nn.LayerNorm, "rms": torch.nn.RMSNorm, "batch": torch.nn.BatchNorm1d}[kind]
    layer = built(kind, features, rng, "float32")
    module = make(features, eps=layer.epsilon)
    state = {name: torch.tensor(value) for name, value in layer.state_dict().items()}
    module.load_state_dict(state, strict=kind != "batch")  # it also counts the batches
    x, dy = rng.standard_normal((2, 40, features)).astype(np.float32)
    y, dx, gradients = forward_backward(layer, [3 * x + 2], [dy])
    t = torch.tensor(3 * x + 2, requires_grad=True)
    out = module(t)
    out.backward(torch.tensor(dy))
    assert_outputs_close(y[0], out.detach().numpy(), bound=2e-5)
    assert_gradients_close(dx[0], t.grad.numpy())
    for name, value in gradients.items():
        assert_gradients_close(value, module.get_parameter(name).grad.numpy(), what=name)
    if kind == "batch":  # in inference too, by the statistics that torch found
        state = {name: value.numpy() for name, value in module.state_dict().items()}
        assert "num_batches_tracked" in state
        layer.load_state_dict(state)
        assert_outputs_close(layer(x), module.eval()(torch.tensor(x)).detach().numpy(), bound=2e-5)


# --- the running statistics of BatchNormalization --------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.99, 0.5, 0.0, 1.0])
def test_running_statistics_over_twenty_steps_are_kerass(momentum, rng, dtype):
    layer = fl.BatchNormalization(momentum=momentum, dtype=dtype)
    layer.build(3)
    mean, variance, workspace = np.zeros(3), np.ones(3), Workspace()
    for _ in range(20):
        lengths = rng.integers(1, 6, rng.integers(1, 5))
        x = [2 * rng.standard_normal((length, 3)) + [1, -5, 100] for length in lengths]
        forward_backward(layer, x, x, PassContext(training=True, workspace=workspace))
        rows = np.concatenate(x)
        for f in range(3):
            found = sum(rows[:, f]) / len(rows)
            squares = sum((value - found) ** 2 for value in rows[:, f]) / len(rows)  # not over M - 1
            mean[f] = momentum * mean[f] + (1 - momentum) * found
            variance[f] = momentum * variance[f] + (1 - momentum) * squares
    bound = 1e-4 if dtype == "float32" else 1e-12
    assert_outputs_close(layer.buffers["running_mean"], mean, bound=bound)
    assert_outputs_close(layer.buffers["running_var"], variance, bound=bound)
    x = rng.standard_normal((2, 4, 3))
    assert_outputs_close(layer(x), (x - mean) / np.sqrt(variance + 1e-3), bound=100 * bound)


def test_padding_never_counts(rng):
    x = rng.standard_normal((3, 6, 4))
    lengths, spoilt = [6, 2, 1], x.copy()
    for n, length in enumerate(lengths):
        spoilt[n, length:] = 1e6
    found = []
    for batch in (x, spoilt):
        layer, context = fl.BatchNormalization(), PassContext(training=True)
        packed, _ = layer.take(batch, lengths)
        y, _ = layer.forward(packed, context)
        found.append([y.rows, *layer.buffers.values()])
    for a, b in zip(*found, strict=True):
        assert_bitwise_equal(a, b)


def test_inference_moves_nothing_and_looks_at_each_row_alone(rng):
    layer = built("batch", 5, rng, "float32")
    forward_backward(layer, [rng.standard_normal((9, 5))], [rng.standard_normal((9, 5))])
    before = layer.state_dict()
    x = rng.standard_normal((6, 5))
    y = layer(x)
    for n in range(6):
        assert_bitwise_equal(layer(x[n : n + 1])[0], y[n])
    for name, value in layer.state_dict().items():
        assert_bitwise_equal(value, before[name], what=name)


def test_a_frozen_layer_goes_by_its_running_statistics_in_training_too(rng):
    layer = built("batch", 4, rng)
    layer.buffers["running_mean"][...] = rng.standard_normal(4)
    layer.buffers["running_var"][...] = rng.uniform(0.5, 2, 4)
    layer.trainable = False
    before = layer.state_dict()
    x, dy = [rng.standard_normal((n, 4)) for n in (3, 5)], [rng.standard_normal((n, 4)) for n in (3, 5)]
    y, dx, gradients = forward_backward(layer, x, dy)
    for part, alone in zip(y, (layer(one[None])[0] for one in x), strict=True):
        assert_bitwise_equal(part, alone)
    wanted = naive.frozen_norm_backward(
        np.concatenate(x),
        before["weight"],
        before["running_mean"],
        before["running_var"],
        1e-3,
        np.concatenate(dy),
    )
    for found, expected in zip((np.concatenate(dx), gradients["weight"], gradients["bias"]), wanted, strict=True):
        assert_gradients_close(found, expected)
    for name, value in layer.state_dict().items():
        assert_bitwise_equal(value, before[name], what=name)


def test_what_was_computed_before_a_layer_was_frozen_goes_back_as_it_came(rng):
    layer = built("batch", 4, rng)
    x, context = rng.standard_normal((6, 4)), PassContext(training=True)
    packed, _ = pack([x], features=True, dtype="float64")
    _, cache = layer.forward(packed, context)
    layer.trainable = False
    dy = rng.standard_normal((6, 4))
    dx, _ = layer.backward(dy.copy(), cache, context)
    assert_gradients_close(dx, naive.batch_norm_backward(x, layer.params["weight"], 1e-3, dy)[0])


def test_one_row_is_its_own_mean(rng, dtype):
    layer = built("batch", 4, rng, dtype)
    y, dx, gradients = forward_backward(layer, [rng.standard_normal((1, 4))], [np.ones((1, 4))])
    assert_outputs_close(y[0][0], layer.params["bias"])
    assert_outputs_close(dx[0], np.zeros((1, 4)))
    assert np.isfinite(gradients["weight"]).all()


def test_a_long_batch_loses_no_digits(dtype):
    """300,000 rows with mean 1e4 and deviation 1e-2: a float32 has 10 steps within that."""
    x = (1e4 + 1e-2 * np.random.default_rng(0).standard_normal((300_000, 2))).astype(dtype)
    layer = fl.BatchNormalization(momentum=0.0, epsilon=1e-9, dtype=dtype)
    packed, _ = layer.take(x)
    y, _ = layer.forward(packed, PassContext(training=True))
    wide = x.astype(np.longdouble)
    variance = ((wide - wide.mean(axis=0)) ** 2).mean(axis=0)
    assert_outputs_close(layer.buffers["running_var"] / variance.astype(float), np.ones(2), bound=1e-5)
    expected = (wide - wide.mean(axis=0)) / np.sqrt(variance + 1e-9)
    assert_outputs_close(y.rows, expected.astype(float), bound=1e-5 if dtype == "float32" else 1e-7)


# --- in models, in files, and what is refused -------------------------------------------------------------------------


def test_a_model_trains_with_all_of_them_and_comes_back_with_its_statistics(rng, tmp_path):
    model = fl.Sequential(
        [
            fl.LSTM(6, return_sequences=True),
            fl.LayerNormalization(),
            fl.BatchNormalization(momentum=0.5),
            fl.RMSNormalization(),
            fl.LastStep(),
            fl.Dense(1),
        ],
        seed=0,
    )
    model.compile("adam", "mse")
    x, y = rng.standard_normal((20, 5, 3)), rng.standard_normal(20)
    start = model.layers
    model.fit(x, y, epochs=3, verbose=0)
    batch = start[2]
    assert (batch.buffers["running_mean"] != 0).all()
    assert (batch.params["weight"] != 1).all()
    model.save(tmp_path / "m")
    loaded = fl.load(tmp_path / "m")
    assert_bitwise_equal(loaded.predict(x), model.predict(x))
    for name, value in loaded.layers[2].state_dict().items():
        assert_bitwise_equal(value, batch.state_dict()[name], what=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_comes_back_from_its_config_and_its_state(kind, rng, dtype):
    layer = built(kind, 6, rng, dtype, epsilon=0.25)
    again = KINDS[kind](**layer.config())
    again.load_state_dict(layer.state_dict())
    assert again.config() == layer.config()
    x = rng.standard_normal((3, 4, 6))
    assert_bitwise_equal(again(x), layer(x))
    with pytest.raises(ShapeError, match="weight"):
        again.load_state_dict({})


def test_kerass_arguments(rng):
    layer = fl.LayerNormalization(-1, 0.1, gamma_initializer="zeros", beta_initializer="ones", beta_regularizer=0.5)
    layer.build(3)
    assert_bitwise_equal(layer(rng.standard_normal((2, 3))), np.ones((2, 3), np.float32))
    assert layer.penalties == {"bias": 0.5}
    assert fl.BatchNormalization(scale=False, gamma_regularizer="l2").penalties == {}


@pytest.mark.parametrize("kind", KINDS)
def test_extremes_neither_warn_nor_stay(kind, dtype):
    for size in (1e4, 1e30):
        x = np.array([[[size, -size, 0.0], [0.0, size, size]]])
        y, dx, _ = forward_backward(KINDS[kind](dtype=dtype), list(x), [np.ones((2, 3))])
        if size < 1e19 or dtype == "float64":
            assert np.isfinite(y[0]).all()
            assert np.isfinite(dx[0]).all()


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_nan_stays_in_its_row(kind, rng):
    x = rng.standard_normal((5, 20))
    clean = KINDS[kind]()(x)
    x[2, 3] = np.nan
    spoilt = KINDS[kind]()(x)
    assert np.isnan(spoilt[2]).all()
    assert_bitwise_equal(np.delete(spoilt, 2, axis=0), np.delete(clean, 2, axis=0))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fl.LayerNormalization(axis=1), "LayerNormalization: axis=1; expected -1"),
        (lambda: fl.BatchNormalization(axis=True), "axis=True"),
        (lambda: fl.BatchNormalization(momentum=1.5), "momentum is 1.5; expected a number, 0 to 1"),
        (lambda: fl.LayerNormalization(epsilon=-1e-3), "epsilon is -0.001; expected a number, at least 0"),
        (lambda: fl.RMSNormalization(epsilon="a"), "epsilon is 'a'"),
        (lambda: fl.LayerNormalization(gamma_initializer="one"), "gamma_initializer='one'; expected one of"),
        (lambda: fl.BatchNormalization(beta_regularizer="l1"), "beta_regularizer='l1'"),
    ],
)
def test_options_that_make_no_sense(make, match):
    with pytest.raises(OptionError, match=match):
        make()


@pytest.mark.parametrize("kind", KINDS)
def test_input_that_does_not_fit(kind, rng):
    layer = built(kind, 4, rng)
    with pytest.raises(ShapeError, match="x has 3 features, this layer was built for 4"):
        layer(rng.standard_normal((2, 5, 3)))
    with pytest.raises(ShapeError, match="rank 1"):
        layer(np.ones(4))
    with pytest.raises(DataError, match="no features"):
        layer(np.ones((2, 5, 0)))
    with pytest.raises(ShapeError, match="weight has shape"):
        layer.load_state_dict({name: np.ones(5) for name in layer.saved()})
