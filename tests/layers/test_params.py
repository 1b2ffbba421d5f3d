"""Parameters are read as they are at the moment; a write takes effect in every pass, or is refused."""

import copy
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import DataError, NotBuiltError, OptionError, ShapeError
from fastlstm.layers import PassContext
from fastlstm.models.language_network import LanguageNetwork
from fastlstm.models.language_options import LanguageModelOptions
from tests.layers.harness import forward_backward
from tests.tolerances import assert_bitwise_equal

STEPS = {"return_sequences": True}
LAYERS = {
    "LSTM": lambda: fl.LSTM(4, peephole=True, projection=2, **STEPS),
    "GRU": lambda: fl.GRU(4, **STEPS),
    "SimpleRNN": lambda: fl.SimpleRNN(4, **STEPS),
    "Bidirectional": lambda: fl.Bidirectional(fl.LSTM(4, **STEPS)),
    "Dense": lambda: fl.Dense(4, "tanh"),
    "Conv1D": lambda: fl.Conv1D(4, 2),
    "LayerNormalization": lambda: fl.LayerNormalization(),
    "TimeDistributed": lambda: fl.TimeDistributed(fl.Dense(4)),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture
def x(rng):
    return rng.standard_normal((3, 5, 6)).astype(np.float32)


def built(name):
    layer = LAYERS[name]()
    layer.build(6, 1)
    return layer


def passes(layer, x):
    """Return what inference and training make of x: both go by what was derived from the parameters."""
    sequences = list(x)
    y, _, _ = forward_backward(layer, sequences, [np.zeros_like(part) for part in layer(sequences)])
    return np.array(layer(x)), np.array(y)


def twice(layer):
    """Return a layer of the same kind and twice the parameters, whatever the order of the two was."""
    other = copy.deepcopy(layer)
    other.load_state_dict({name: 2 * value for name, value in layer.state_dict().items()})
    return other


@every_layer
def test_params_cannot_be_written_to(name, x):
    layer = built(name)
    before = layer(x)
    for key, value in layer.params.items():
        assert_bitwise_equal(value, layer.arrays[key])
        with pytest.raises(ValueError, match="read-only"):
            value[...] = 0.0
        with pytest.raises(ValueError, match="read-only"):
            layer.params[key][0] += 1.0
        with pytest.raises(
            OptionError, match=rf"{layer.kind}: params\['{key}'\] is for reading.*layer\.edit\(\).*set_weights"
        ):
            layer.params[key] = np.zeros_like(value)
        with pytest.raises(OptionError, match="is for reading"):
            del layer.params[key]
    with pytest.raises(OptionError, match="params is for reading"):
        layer.params = {}
    assert_bitwise_equal(layer(x), before)


@every_layer
def test_edits_take_effect_in_every_pass(name, x):
    layer = built(name)
    before, expected = passes(layer, x), passes(twice(layer), x)
    with layer.edit() as params:
        for value in params.values():
            value *= 2
    after = passes(layer, x)
    for one, other, old in zip(after, expected, before, strict=True):
        assert_bitwise_equal(one, other)
        assert (one != old).any()


@every_layer
def test_arrays_may_be_put_in_the_place_of_parameters(name, x):
    layer = built(name)
    expected, own = passes(twice(layer), x), {key: id(value) for key, value in layer.arrays.items()}
    with layer.edit() as params:
        for key in params:
            params[key] = (2 * params[key]).tolist()
    for one, other in zip(passes(layer, x), expected, strict=True):
        assert_bitwise_equal(one, other)
    assert {key: id(value) for key, value in layer.arrays.items()} == own  # what an optimizer holds


@every_layer
def test_set_weights_takes_effect_in_every_pass(name, x):
    layer = built(name)
    passes(layer, x)
    expected = passes(twice(layer), x)
    weights = layer.get_weights()
    assert [value.shape for value in weights] == [value.shape for value in layer.state_dict().values()]
    layer.set_weights([2 * value for value in weights])
    for one, other in zip(passes(layer, x), expected, strict=True):
        assert_bitwise_equal(one, other)
    weights[0][...] = 7.0  # a copy
    assert (layer.get_weights()[0] != 7.0).any()


def test_buffers_are_weights_too():
    layer = fl.BatchNormalization()
    layer.build(3)
    assert len(layer.get_weights()) == 4
    layer.set_weights([np.full(3, k) for k in (1.0, 2.0, 3.0, 4.0)])
    assert layer.buffers["running_var"].tolist() == [4.0] * 3
    assert len(layer.params) == 2


def test_the_view_follows_training(rng):
    model = fl.Sequential([fl.Dense(2)], seed=0)
    model.build(3, steps=False)
    seen = model.layers[0].params["weight"]
    before = seen.copy()
    model.compile("sgd", "mse")
    model.fit(rng.standard_normal((4, 3)), np.ones((4, 2)), verbose=0)
    assert (seen != before).any()
    assert_bitwise_equal(seen, model.layers[0].state_dict()["weight"])


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@every_layer
def test_copies_are_read_and_edited_alike(name, way, x):
    layer = way(built(name))
    expected = passes(twice(layer), x)
    with layer.edit() as params:
        for value in params.values():
            value *= 2
    for one, other in zip(passes(layer, x), expected, strict=True):
        assert_bitwise_equal(one, other)
    with pytest.raises(ValueError, match="read-only"):
        next(iter(layer.params.values()))[...] = 0


def test_both_directions_see_an_edit():
    layer = built("Bidirectional")
    with layer.edit() as params:
        params["weight_hh_l0_reverse"][...] = 3.0
        params["bias_ih_l0"] = np.full_like(params["bias_ih_l0"], 5.0)
    ahead, back = layer.directions
    assert (back.params["weight_hh_l0"] == 3.0).all()
    assert (ahead.params["bias_ih_l0"] == 5.0).all()


def test_tied_weights_stay_tied():
    """An edit of one of both layers takes effect in the other, whose weights were packed before."""
    network = LanguageNetwork(LanguageModelOptions(hidden=8, embedding=8, layers=1, tied=True), 5)
    hidden = np.ones((1, 8), np.float32)
    before = network.logits(hidden)
    with network.embedding.edit() as params:
        params["weight"] = 2 * params["weight"]
    assert_bitwise_equal(network.logits(hidden), 2 * before)  # the bias is 0
    assert_bitwise_equal(network.output.params["weight"], network.embedding.params["weight"])
    network.output.set_weights([value * 2 for value in network.output.get_weights()])
    assert_bitwise_equal(network.embedding(np.zeros((1, 1), int))[0, 0], network.output.params["weight"][0])


@pytest.mark.parametrize("name", ["Bidirectional", "TimeDistributed"])
def test_an_edit_of_a_layer_within_another_takes_effect(name, x):
    layer = built(name)
    before = layer(x)
    inner = layer.layer if name == "TimeDistributed" else layer.directions[1]
    with inner.edit() as params:
        for value in params.values():
            value[...] = 0.0
    after = layer(x)
    assert (after != before).any()
    assert not after[..., -4:].any()


def test_params_look_like_a_mapping():
    layer = built("Dense")
    assert list(layer.params) == ["weight", "bias"]
    assert len(layer.params) == 2
    assert "bias" in layer.params
    assert dict(layer.params).keys() == layer.arrays.keys()
    assert repr(layer.params) == "<parameters of Dense, for reading: weight (4, 6), bias (4,)>"
    with pytest.raises(KeyError):
        layer.params["nothing"]
    assert not fl.Dense(3).params


def test_an_edit_that_fails_leaves_whole_parameters(x):
    layer = built("Dense")
    before = layer.get_weights()

    def edit(name, value):
        with layer.edit() as params:
            params["weight"] = np.zeros((4, 6))
            params[name] = value
            if value is None:
                del params[name]

    with pytest.raises(ShapeError, match=r"Dense: bias has shape \(3,\); expected \(4,\)"):
        edit("bias", np.zeros(3))
    with pytest.raises(ShapeError, match=r"unknown tensor \['scale'\]"):
        edit("scale", np.zeros(3))
    with pytest.raises(ShapeError, match=r"no tensor \['bias'\]"):
        edit("bias", None)
    for one, other in zip(layer.get_weights(), before, strict=True):
        assert_bitwise_equal(one, other)


def test_what_was_written_before_an_error_counts(x):
    """Neither half of the layer is of other weights than the rest."""
    layer = built("Dense")
    layer(x)

    def edit():
        with layer.edit() as params:
            params["weight"][...] = 0.0
            params["bias"][...] = 0.0
            raise RuntimeError("own")

    with pytest.raises(RuntimeError, match="own"):
        edit()
    assert not layer(x).any()


def test_bad_requests():
    fresh, layer = fl.Dense(4), built("Dense")
    with pytest.raises(NotBuiltError, match="Dense has no parameters yet"), fresh.edit():
        pass
    with pytest.raises(NotBuiltError, match="Dense has no parameters yet"):
        fresh.set_weights([])
    with pytest.raises(ShapeError, match="set_weights got 1 arrays; expected 2: weight, bias"):
        layer.set_weights([np.zeros((4, 6))])
    with pytest.raises(ShapeError, match=r"weight has shape \(6, 4\); expected \(4, 6\)"):
        layer.set_weights([np.zeros((6, 4)), np.zeros(4)])
    with pytest.raises(DataError, match="weight"):
        layer.set_weights([np.full((4, 6), "a"), np.zeros(4)])


def test_kernels_never_see_read_only_arrays(x, monkeypatch):
    """Numba would compile everything once more for them: the passes read `arrays`."""
    for name in LAYERS:
        layer = built(name)
        monkeypatch.setattr(type(layer), "params", property(lambda self: pytest.fail("params was read in a pass")))
        passes(layer, x)
        layer.run((fl.layers.base.Layer.take(layer, x)[0],), PassContext())


ROOMS = ("layers", "training", "models", "testing", "engine")


@pytest.mark.parametrize("room", ROOMS)
def test_the_library_itself_goes_by_arrays(room):
    """`params` is what programs read; in a pass it would give a kernel a read-only array."""
    folder = Path(fl.__file__).parent / room
    wrong = [
        f"{path.name}:{number}"
        for path in sorted(folder.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"\b(layer|lstm|embedding|output|double|one)\.params\b", line)
        or (room == "layers" and path.name != "params.py" and re.search(r"\bself\.params\b", line))
    ]
    assert not wrong
