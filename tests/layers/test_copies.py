"""Layers and models that are copied, pickled, saved, or made from the configs of earlier versions."""

import copy
import pickle

import numpy as np
import pytest

import fastlstm as fl
from tests.tolerances import assert_bitwise_equal

STEPS = {"return_sequences": True}
LAYERS = {
    "LSTM": lambda dtype: fl.LSTM(9, dtype=dtype, **STEPS),
    "LSTM with every option": lambda dtype: fl.LSTM(
        9,
        "softsign",
        "hard_sigmoid",
        recurrent_initializer="glorot_normal",
        kernel_regularizer=0.01,
        recurrent_regularizer=fl.L2(0.02),
        dropout=0.1,
        recurrent_dropout=0.2,
        go_backwards=True,
        peephole=True,
        coupled=True,
        projection=4,
        dtype=dtype,
        **STEPS,
    ),
    "GRU": lambda dtype: fl.GRU(9, reset_after=False, use_bias=False, dtype=dtype, **STEPS),
    "SimpleRNN": lambda dtype: fl.SimpleRNN(9, "relu", bias_initializer="random_normal", dtype=dtype, **STEPS),
    "Bidirectional": lambda dtype: fl.Bidirectional(fl.GRU(9, dtype=dtype, **STEPS), merge_mode="ave"),
    "Bidirectional of two": lambda dtype: fl.Bidirectional(
        fl.LSTM(9, projection=3, dtype=dtype, **STEPS),
        backward_layer=fl.SimpleRNN(5, bias_regularizer=0.1, go_backwards=True, dtype=dtype, **STEPS),
    ),
    "Conv1D": lambda dtype: fl.Conv1D(
        6,
        3,
        padding="causal",
        dilation_rate=2,
        activation="relu",
        bias_initializer="random_normal",
        kernel_regularizer=0.01,
        bias_regularizer=fl.L2(0.02),
        dtype=dtype,
    ),
}
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def moved(layer):
    """Return other parameters than the layer's."""
    return {name: value * 0.5 + 0.25 for name, value in layer.state_dict().items()}


@every_layer
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_has_the_bits_of_its_original(name, way, dtype, rng):
    layer = LAYERS[name](dtype)
    x = rng.standard_normal((3, 6, 4)).astype(dtype)
    expected = layer(x)
    twin = COPIES[way](layer)
    assert expected.dtype == dtype
    assert twin.config() == layer.config()
    assert twin.penalties == layer.penalties
    assert_bitwise_equal(twin(x), expected)


@every_layer
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_copy_with_other_weights_leaves_its_original_as_it_is_and_the_other_way_round(name, way, rng):
    layer = LAYERS[name]("float32")
    x = rng.standard_normal((3, 6, 4)).astype(np.float32)
    before = layer(x)
    twin = COPIES[way](layer)
    twin.load_state_dict(moved(layer))
    after = twin(x)
    assert (after != before).any()
    assert_bitwise_equal(layer(x), before)
    layer.load_state_dict(twin.state_dict())
    assert_bitwise_equal(layer(x), after)
    twin.load_state_dict(moved(twin))
    assert_bitwise_equal(layer(x), after)


@every_layer
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_a_copy_trains_as_its_original_does(name, way, rng):
    x, y = rng.standard_normal((8, 5, 4)), rng.standard_normal((8, 1))
    layer = LAYERS[name]("float64")
    layer.build(4, 0)
    histories = []
    for one in (layer, COPIES[way](layer)):
        model = fl.Sequential([one, fl.GlobalAveragePooling1D(dtype="float64"), fl.Dense(1, dtype="float64")], seed=1)
        model.compile("adam", "mse")
        histories.append(model.fit(x, y, epochs=3, batch_size=4, verbose=0).history["loss"])
    assert histories[0] == histories[1]
    assert histories[0][-1] < histories[0][0]


@every_layer
def test_a_model_in_a_file_is_the_same_model(name, dtype, rng, tmp_path):
    model = fl.Sequential([LAYERS[name](dtype), fl.Dense(2, dtype=dtype)], seed=0)
    x = rng.standard_normal((3, 6, 4)).astype(dtype)
    expected = model(x)
    model.save(tmp_path / "m.safetensors")
    again = fl.load(tmp_path / "m.safetensors")
    assert_bitwise_equal(again.predict(x), expected)
    assert again.layers[0].config() == model.layers[0].config()
    assert again.layers[0].penalties == model.layers[0].penalties


OLD = {
    "units": 3,
    "return_sequences": True,
    "return_state": False,
    "go_backwards": False,
    "dropout": 0.1,
    "recurrent_dropout": 0.0,
    "unit_forget_bias": True,
    "name": "a",
    "dtype": "float32",
}
"""The config of an LSTM before there were other cells, as files hold it."""


def test_files_of_earlier_versions_give_the_same_layers():
    x = np.ones((2, 4, 5), np.float32)
    lstm, both = fl.LSTM(**OLD), fl.Bidirectional.from_config({"layer": OLD, "merge_mode": "sum", "name": "b"})
    expected = fl.LSTM(3, return_sequences=True)
    for layer in (lstm, both, expected):
        layer.build(5, 7)
    assert_bitwise_equal(lstm(x), expected(x))
    assert [layer.kind for layer in both.directions] == ["LSTM", "LSTM"]
    assert_bitwise_equal(both(x), expected(x) + both.directions[1](x[:, ::-1])[:, ::-1])
