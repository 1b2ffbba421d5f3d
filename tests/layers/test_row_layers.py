"""What holds for all layers that look at one row at a time in inference: bits, forms, files."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.layers import PassContext
from tests.layers.harness import forward_backward
from tests.tolerances import assert_bitwise_equal

FEATURES = 37
LAYERS = {
    "Dense": lambda **options: fl.Dense(19, "gelu", **options),
    "Activation": lambda **options: fl.Activation("mish", **options),
    "Activation of whole rows": lambda **options: fl.Activation("log_softmax", **options),
    "Softmax": fl.Softmax,
    "ReLU": lambda **options: fl.ReLU(2.0, 0.1, 0.5, **options),
    "LeakyReLU": fl.LeakyReLU,
    "ELU": lambda **options: fl.ELU(0.5, **options),
    "LayerNormalization": fl.LayerNormalization,
    "RMSNormalization": fl.RMSNormalization,
    "BatchNormalization": fl.BatchNormalization,
    "Dropout": lambda **options: fl.Dropout(0.3, **options),
    "SpatialDropout1D": lambda **options: fl.SpatialDropout1D(0.3, **options),
    "GaussianNoise": lambda **options: fl.GaussianNoise(0.3, **options),
    "GaussianDropout": lambda **options: fl.GaussianDropout(0.3, **options),
    "Masking": fl.Masking,
}
EVERY = pytest.mark.parametrize("name", LAYERS)
STATELESS_IN_TRAINING = sorted(
    set(LAYERS) - {"BatchNormalization", "Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout"}
)


def built(name, dtype="float32"):
    """Return a layer whose parameters and buffers are not those that it begins with."""
    layer = LAYERS[name](dtype=dtype)
    layer.build(FEATURES, rng=0)
    rng = np.random.default_rng(7)
    for value in layer.saved().values():
        value[...] = rng.uniform(0.5, 1.5, value.shape)
    layer.changed()
    return layer


def sequences(lengths=(5, 1, 9, 5), seed=1):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((length, FEATURES)) for length in lengths]


@EVERY
def test_it_says_so(name):
    layer = built(name)
    assert layer.by_row
    assert layer.features_out == (19 if name == "Dense" else FEATURES)
    assert layer.returns_steps


@EVERY
def test_a_sequence_has_the_same_bits_alone_and_in_any_batch(name, dtype):
    layer, x = built(name, dtype), sequences()
    y = layer(x)
    for n in range(len(x)):
        assert_bitwise_equal(layer(x[n][None])[0], y[n])
        for t in range(len(x[n])):
            assert_bitwise_equal(layer(x[n][None, t : t + 1])[0, 0], y[n][t])


@EVERY
def test_every_form_of_a_batch_gives_the_same(name):
    layer, x = built(name), sequences([4, 2])
    y = layer(x)
    padded = np.full((2, 6, FEATURES), 9.0)
    for n in range(2):
        padded[n, : len(x[n])] = x[n]
    out = layer(padded, lengths=[4, 2])
    for n in range(2):
        assert_bitwise_equal(out[n, : len(x[n])], y[n])
        assert (out[n, len(x[n]) :] == 0).all()
    if layer.takes_samples:
        assert_bitwise_equal(layer(x[0]), y[0])
    assert_bitwise_equal(layer(np.asfortranarray(x[0])[None])[0], y[0])
    assert_bitwise_equal(layer(x[0].astype(np.float32)[None, :, ::-1])[0], layer(x[0][:, ::-1].copy()[None])[0])


@pytest.mark.parametrize("name", STATELESS_IN_TRAINING)
def test_input_gradients_of_a_sequence_do_not_depend_on_its_batch(name, dtype):
    layer, x = built(name, dtype), sequences()
    dy = [part[:, : layer.features_out] for part in sequences(seed=2)]
    y, dx, _ = forward_backward(layer, x, dy)
    inferred = layer(x)
    for n in range(len(x)):
        alone = forward_backward(layer, x[n : n + 1], dy[n : n + 1])
        assert_bitwise_equal(alone[0][0], y[n])
        assert_bitwise_equal(alone[1][0], dx[n])
        assert_bitwise_equal(inferred[n], y[n])


@pytest.mark.usefixtures("share_everything")
@EVERY
def test_one_thread_and_more_have_the_same_bits(name, dtype):
    layer, x = built(name, dtype), sequences()
    start = layer.state_dict()
    dy = [part[:, : layer.features_out] for part in sequences(seed=2)]
    found = []
    for threads in (1, 2, 3):
        fl.set_num_threads(threads)
        layer.load_state_dict(start)
        context = PassContext(training=True, rng=np.random.default_rng(3))
        y, dx, gradients = forward_backward(layer, x, dy, context)
        found.append([*y, *dx, *gradients.values(), *layer.buffers.values(), *layer(x)])
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            assert_bitwise_equal(a, b)


@EVERY
def test_it_comes_back_from_its_config_and_its_state(name, dtype):
    layer = built(name, dtype)
    again = type(layer)(**layer.config())
    assert again.config() == layer.config()
    again.build(FEATURES)
    again.load_state_dict(layer.state_dict())
    assert_bitwise_equal(again(sequences()[0][None]), layer(sequences()[0][None]))


@EVERY
def test_it_comes_back_from_the_file_of_a_model(name, tmp_path, rng):
    model = fl.Sequential([fl.LSTM(FEATURES, return_sequences=True), built(name), fl.LastStep(), fl.Dense(1)], seed=0)
    model.compile("sgd", "mse")
    x = rng.standard_normal((6, 4, 3))
    model.fit(x, x[:, 0, :1], epochs=2, verbose=0)
    model.save(tmp_path / "m")
    loaded = fl.load(tmp_path / "m")
    assert_bitwise_equal(loaded.predict(x), model.predict(x))
    assert loaded.layers[1].config() == model.layers[1].config()


@EVERY
def test_training_takes_its_memory_from_the_workspace(name):
    """The same arrays again at the next step; nothing that grows with the batch is allocated."""
    from fastlstm.data.packed import pack
    from fastlstm.runtime.workspace import Workspace

    layer, workspace = built(name), Workspace()
    x, _ = pack(sequences(), features=True, dtype=layer.dtype)
    outputs = []
    for _ in range(2):
        context = PassContext(training=True, workspace=workspace)
        y, cache = layer.forward(x, context)
        outputs.append(y.rows)
        layer.backward(np.ones_like(y.rows), cache, context)
    assert outputs[0].ctypes.data == outputs[1].ctypes.data
