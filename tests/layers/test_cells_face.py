"""What users see of the recurrent layers: Keras's arguments, torch's names, start values, files, errors."""

import inspect
import re

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import OptionError, ShapeError
from tests.cell_cases import SPECS, make_case
from tests.layers.cells import CLASSES, every_spec, layer_of, new_layer, one_of_each
from tests.naive.activations import NAMES as ACTIVATIONS
from tests.tolerances import assert_bitwise_equal

KINDS = list(CLASSES.values())
GRU_ARGUMENTS = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "use_bias": True,
    "kernel_initializer": "glorot_uniform",
    "recurrent_initializer": "orthogonal",
    "bias_initializer": "zeros",
    "kernel_regularizer": None,
    "recurrent_regularizer": None,
    "bias_regularizer": None,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "return_sequences": False,
    "return_state": False,
    "go_backwards": False,
    "stateful": False,
    "unroll": False,
    "reset_after": True,
    "name": None,
    "dtype": "float32",
}
OWN = {
    "LSTM": {"unit_forget_bias": True, "peephole": False, "coupled": False, "projection": None},
    "GRU": {"reset_after": True},
    "SimpleRNN": {},
}


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_and_defaults_are_kerass(kind):
    expected = {word: value for word, value in GRU_ARGUMENTS.items() if word != "reset_after"} | OWN[kind]
    if kind == "SimpleRNN":
        del expected["recurrent_activation"]
    found = {word: p.default for word, p in inspect.signature(getattr(fl, kind)).parameters.items()}
    assert found.pop("units") is inspect.Parameter.empty
    assert found == expected


@every_spec
def test_parameters_bear_torchs_names_and_shapes(spec):
    layer = new_layer(spec, 6)
    layer.build(3, 0)
    assert {name: value.shape for name, value in layer.state_dict().items()} == spec.shapes(3, 6)
    assert layer.features_out == (spec.projection or 6)


@every_spec
def test_config_makes_an_equal_layer(spec):
    case = make_case(spec, [3, 2], 3, 6, 0)
    layer = layer_of(case, go_backwards=True, dropout=0.25, name="reader")
    again = type(layer)(**layer.config())
    assert again.config() == layer.config()
    again.load_state_dict(layer.state_dict())
    for one, other in zip(again(case.xs)[0], layer(case.xs)[0], strict=True):
        assert_bitwise_equal(one, other)


@every_spec
def test_a_model_in_a_file_is_the_same_model(spec, tmp_path):
    model = fl.Sequential([new_layer(spec, 6, return_state=False), fl.Dense(2, dtype="float64")], seed=0)
    x = np.random.default_rng(0).standard_normal((3, 4, 5))
    expected = model(x)
    model.save(tmp_path / "m.safetensors")
    assert_bitwise_equal(fl.load(tmp_path / "m.safetensors").predict(x), expected)


# --- start values ---------------------------------------------------------------------------------------------------


@one_of_each
def test_start_values(spec):
    units, features = 40, 30
    spec = spec._replace(projection=20) if spec.projection else spec
    layer = new_layer(spec, units)
    layer.build(features, 0)
    w_ih, w_hh = layer.params["weight_ih_l0"], layer.params["weight_hh_l0"]
    limit = np.sqrt(6 / (features + len(spec.gates) * units))
    assert 0.95 * limit < np.abs(w_ih).max() <= limit
    assert abs(w_ih.std() - limit / np.sqrt(3)) < 0.05 * limit
    np.testing.assert_allclose(w_hh.T @ w_hh, np.eye(w_hh.shape[1]), atol=1e-12)
    assert not layer.params["bias_hh_l0"].any()
    forget = "f" in spec.gates
    means = layer.params["bias_ih_l0"].reshape(-1, units).mean(axis=1)
    assert means.tolist() == [float(forget and gate == "f") for gate in spec.gates]


@pytest.mark.parametrize("kind", KINDS)
def test_start_values_come_from_the_seed_alone(kind):
    first, second, third = (getattr(fl, kind)(3) for _ in range(3))
    for layer, seed in ((first, 1), (second, 1), (third, 2)):
        layer.build(2, seed)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        assert_bitwise_equal(first.params[name], second.params[name])
        assert (first.params[name] != third.params[name]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_initializers_by_name(kind):
    layer = getattr(fl, kind)(30, kernel_initializer="zeros", recurrent_initializer="glorot_uniform")
    layer.build(20, 0)
    w_hh = layer.params["weight_hh_l0"]
    limit = np.sqrt(6 / (30 + len(w_hh)))
    assert not layer.params["weight_ih_l0"].any()
    assert 0.95 * limit < np.abs(w_hh).max() <= limit


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_stateful_is_refused_with_the_way_to_carry_a_state(kind):
    with pytest.raises(OptionError, match=rf"{kind}: stateful=True.*return_state.*initial_state"):
        getattr(fl, kind)(3, stateful=True)


@pytest.mark.parametrize("kind", KINDS)
def test_unroll_is_accepted_and_changes_nothing(kind):
    layers = [getattr(fl, kind)(3, unroll=unroll) for unroll in (False, True)]
    for layer in layers:
        layer.build(2, 0)
    assert_bitwise_equal(*(layer(np.ones((2, 4, 2))) for layer in layers))


@pytest.mark.parametrize("word", ["activation", "recurrent_activation"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", ["swish", "", 3])
def test_an_unknown_activation_names_those_that_there_are(kind, word, value):
    if kind == "SimpleRNN" and word == "recurrent_activation":
        with pytest.raises(TypeError, match=word):
            fl.SimpleRNN(3, recurrent_activation="sigmoid")
        return
    with pytest.raises(OptionError, match=rf"{kind}: {word}={re.escape(repr(value))}") as caught:
        getattr(fl, kind)(3, **{word: value})
    for name in ACTIVATIONS:
        assert re.search(rf"\b{name}\b", str(caught.value)), name


@pytest.mark.parametrize("word", ["kernel_initializer", "recurrent_initializer", "bias_initializer"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_initializer_names_those_that_there_are(kind, word):
    with pytest.raises(OptionError, match=rf"{kind}: {word}='nought'.*glorot_uniform.*orthogonal"):
        getattr(fl, kind)(3, **{word: "nought"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"units": 0}, "units=0"),
        ({"units": 2.5}, "units=2.5"),
        ({"units": 3, "dropout": 1.0}, "dropout=1.0"),
        ({"units": 3, "recurrent_dropout": -0.5}, "recurrent_dropout=-0.5"),
        ({"units": 3, "dtype": "float16"}, "float16"),
    ],
)
def test_options_that_make_no_sense(kind, options, words):
    with pytest.raises(OptionError, match=f"{kind}: .*{words}"):
        getattr(fl, kind)(**options)


@pytest.mark.parametrize("projection", [0, -1, 1.5, True])
def test_a_projection_is_a_whole_number(projection):
    with pytest.raises(OptionError, match=f"LSTM: projection={projection}"):
        fl.LSTM(3, projection=projection)


@one_of_each
def test_a_state_that_does_not_fit_says_what_would(spec):
    case = make_case(spec, [3, 2], 2, 5, 0)
    layer = layer_of(case)
    widths = spec.state_widths(5)
    fitting = [np.zeros((2, width)) for width in widths]
    wrong = [np.zeros((3, 5)), (np.zeros((2, 4)),) * len(widths), tuple(fitting) * 2, 7]
    wrong += [(*fitting[:-1], np.zeros((1, 5)))]
    for state in wrong:
        with pytest.raises(ShapeError, match=rf"{layer.kind}: initial_state.*\(2, ({widths[0]}|{widths[-1]})\)"):
            layer(case.xs, initial_state=state)


@pytest.mark.parametrize("kind", KINDS)
def test_features_that_do_not_fit(kind):
    layer = getattr(fl, kind)(3)
    layer.build(2, 0)
    with pytest.raises(ShapeError, match=rf"{kind}: x has 4 features, this layer was built for 2"):
        layer(np.ones((1, 2, 4)))


@every_spec
def test_tensors_that_do_not_fit_change_nothing(spec):
    case = make_case(spec, [3, 2], 2, 5, 0)
    layer = layer_of(case)
    expected, _ = layer(case.xs)
    for name in case.weights:
        others = {key: value + 1 for key, value in case.weights.items()}
        with pytest.raises(ShapeError, match=rf"{layer.kind}: no tensor.*{name}"):
            layer.load_state_dict({key: value for key, value in others.items() if key != name})
        shape = (*case.weights[name].shape[:-1], case.weights[name].shape[-1] + 1)
        with pytest.raises(ShapeError, match=rf"{name} has shape {re.escape(str(shape))}"):
            layer.load_state_dict(others | {name: np.zeros(shape)})
    with pytest.raises(ShapeError, match=r"unknown tensor.*weight_xx_l0"):
        layer.load_state_dict(case.weights | {"weight_xx_l0": np.zeros(3)})
    for one, other in zip(layer(case.xs)[0], expected, strict=True):
        assert_bitwise_equal(one, other)


def test_every_activation_is_among_the_specs():
    """What the tests here run over holds each option and each activation in each of its places."""
    for kind in CLASSES:
        assert {spec.activation for spec in SPECS if spec.kind == kind} >= {"tanh", "relu", "linear", "softsign"}
    gates = {spec.recurrent_activation for spec in SPECS if spec.kind != "rnn"}
    assert gates == set(ACTIVATIONS)
