"""Bidirectional over every recurrent layer, and over two different ones: the naive loops in both directions, merged."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import OptionError
from tests import gradcheck
from tests.cell_cases import assert_same_outputs, make_case, naive_gradients, naive_outputs
from tests.layers.cells import CLASSES, new_layer, one_of_each, state_of, training_pass
from tests.layers.harness import forward_backward
from tests.layers.test_bidirectional import MERGE, MODES, merge_backward
from tests.naive import Spec
from tests.tolerances import assert_bitwise_equal, assert_gradients_close, assert_outputs_close

LENGTHS = [4, 1, 5, 4]
PAIRS = [
    (Spec("gru"), Spec("rnn")),
    (Spec("rnn", activation="relu"), Spec("gru", reset_after=False)),
    (Spec("lstm"), Spec("gru")),
    (Spec("gru"), Spec("lstm", projection=7)),
    (Spec("lstm", peephole=True), Spec("lstm", coupled=True)),
]
"""Two layers of one width of output."""
UNITS = 7


class Pair:
    """A Bidirectional layer and a case for each of its directions; both cases have the same sequences."""

    def __init__(self, ahead, back, dtype="float64", mode="concat", **options):
        units = [2 * UNITS if spec.projection else UNITS for spec in (ahead, back)]
        self.ahead = make_case(ahead, LENGTHS, 3, units[0], 1)
        self.back = make_case(back, LENGTHS, 3, units[1], 2)._replace(xs=self.ahead.xs)
        options = {"return_state": False} | options
        one = new_layer(ahead, units[0], dtype, **options)
        two = (
            {} if ahead == back else {"backward_layer": new_layer(back, units[1], dtype, go_backwards=True, **options)}
        )
        self.layer = fl.Bidirectional(one, merge_mode=mode, **two)
        reverse = {f"{name}_reverse": value for name, value in self.back.weights.items()}
        self.layer.load_state_dict(self.ahead.weights | reverse)

    def without_states(self):
        """Return both cases with states, and gradients of states, of zeros."""
        return [
            case._replace(
                states=tuple(np.zeros_like(part) for part in case.states),
                d_finals=tuple(np.zeros_like(part) for part in case.d_finals),
            )
            for case in (self.ahead, self.back)
        ]


def of_one_kind(spec):
    """Return a spec twice, with a projection that `Pair` gives the width of the others."""
    spec = spec._replace(projection=UNITS) if spec.projection else spec
    return spec, spec


every_pair = pytest.mark.parametrize("specs", PAIRS, ids=lambda specs: " and ".join(map(str, specs)))


def check_outputs(specs, mode, dtype):
    pair = Pair(*specs, dtype, mode, return_state=True)
    start = tuple(state_of(case.spec, case.states) for case in (pair.ahead, pair.back))
    y, states = pair.layer(pair.ahead.xs, initial_state=start)
    ahead, ends = naive_outputs(pair.ahead)
    back, back_ends = naive_outputs(pair.back, reverse=True)
    for got, a, b in zip(y, ahead, back, strict=True):
        assert_outputs_close(got, MERGE[mode](a, b))
    assert [type(state) for state in states] == [type(state) for state in start]
    assert_same_outputs(pair.ahead, ([], states[0]), ([], ends))
    assert_same_outputs(pair.back, ([], states[1]), ([], back_ends))


def check_gradients(specs, mode, dtype):
    pair = Pair(*specs, dtype, mode)
    ahead, back = pair.without_states()
    outputs = naive_outputs(ahead)[0], naive_outputs(back, reverse=True)[0]
    rng = np.random.default_rng(0)
    dy = [rng.standard_normal(MERGE[mode](a, b).shape) for a, b in zip(*outputs, strict=True)]
    split = [merge_backward(mode, a, b, d) for a, b, d in zip(*outputs, dy, strict=True)]
    one = naive_gradients(ahead._replace(dys=[d for d, _ in split]))
    two = naive_gradients(back._replace(dys=[d for _, d in split]), reverse=True)
    _, dx, gradients = forward_backward(pair.layer, ahead.xs, dy, training_pass())
    assert_gradients_close(np.concatenate(dx), np.concatenate(one.xs) + np.concatenate(two.xs), what="dx")
    expected = one.weights | {f"{name}_reverse": value for name, value in two.weights.items()}
    assert gradients.keys() == expected.keys()
    for name, wanted in expected.items():
        assert_gradients_close(gradients[name], wanted, what=name)


@one_of_each
@pytest.mark.parametrize("mode", MODES)
def test_outputs_and_states_of_one_kind(spec, mode, dtype):
    check_outputs(of_one_kind(spec), mode, dtype)


@one_of_each
@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_one_kind(spec, mode, dtype):
    check_gradients(of_one_kind(spec), mode, dtype)


@every_pair
@pytest.mark.parametrize("mode", MODES)
def test_outputs_and_states_of_two_kinds(specs, mode, dtype):
    check_outputs(specs, mode, dtype)


@every_pair
@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_two_kinds(specs, mode, dtype):
    check_gradients(specs, mode, dtype)


@every_pair
@pytest.mark.parametrize("return_sequences", [True, False])
def test_gradients_are_the_numeric_ones(specs, return_sequences, rng):
    if any(spec.activation == "relu" for spec in specs):
        specs = tuple(spec._replace(activation="tanh") for spec in specs)  # central differences want no kinks
    layer, xs = Pair(*specs, return_sequences=return_sequences).layer, make_case(specs[0], [3, 1, 2], 3, 9, 0).xs
    width = layer.features_out
    dy = [rng.standard_normal((len(x), width)) for x in xs] if return_sequences else rng.standard_normal((3, width))
    _, dx, gradients = forward_backward(layer, xs, dy, training_pass())

    def value():
        layer.changed()
        return sum((d * part).sum() for d, part in zip(dy, layer(xs), strict=True))

    arrays = {f"x{n}": x for n, x in enumerate(xs)} | layer.arrays
    gradcheck.assert_gradients(value, arrays, {f"x{n}": part for n, part in enumerate(dx)} | gradients)


@every_pair
@pytest.mark.parametrize("mode", MODES)
def test_without_sequences_each_direction_gives_its_own_last_step(specs, mode, dtype):
    pair = Pair(*specs, dtype, mode, return_sequences=False)
    ahead, back = pair.without_states()
    expected = MERGE[mode](naive_outputs(ahead)[1][0], naive_outputs(back, reverse=True)[1][0])
    assert_outputs_close(pair.layer(ahead.xs), expected)


@every_pair
def test_an_array_a_padded_array_and_a_list_have_the_same_bits(specs, dtype):
    pair = Pair(*specs, dtype)
    xs, longest = pair.ahead.xs, max(LENGTHS)
    expected = pair.layer(xs)
    padded = np.full((len(xs), longest, 3), np.nan, dtype)
    for row, x in zip(padded, xs, strict=True):
        row[: len(x)] = x
    for n, y in enumerate(pair.layer(padded, lengths=LENGTHS)):
        assert_bitwise_equal(y[: LENGTHS[n]], expected[n])
        assert not y[LENGTHS[n] :].any()
        assert_bitwise_equal(pair.layer(padded[n : n + 1, : LENGTHS[n]])[0], expected[n])


@every_pair
def test_the_same_bits_on_any_number_of_threads(specs):
    pair, before = Pair(*specs, "float32"), fl.get_num_threads()
    x = np.random.default_rng(0).standard_normal((40, 150, 3)).astype(np.float32)
    try:
        results = []
        for threads in (1, 2, 3):
            fl.set_num_threads(threads)
            results.append(pair.layer(x))
    finally:
        fl.set_num_threads(before)
    for other in results[1:]:
        assert_bitwise_equal(other, results[0])


def test_projections_of_two_widths_are_not_run_as_one_geometry():
    layer = fl.Bidirectional(
        fl.LSTM(8, projection=3, return_sequences=True),
        backward_layer=fl.LSTM(8, projection=5, return_sequences=True, go_backwards=True),
    )
    x = np.random.default_rng(0).standard_normal((2, 4, 3), np.float32)
    y, (ahead, back) = layer(x), layer.directions
    assert_bitwise_equal(y[..., :3], ahead(x))
    assert_bitwise_equal(y[..., 3:], back(x[:, ::-1])[:, ::-1])


@every_pair
def test_config_makes_an_equal_layer(specs):
    layer = Pair(*specs).layer
    again = fl.Bidirectional.from_config(layer.config())
    assert again.config() == layer.config()
    again.load_state_dict(layer.state_dict())
    x = np.ones((2, 3, 3))
    assert_bitwise_equal(again(x), layer(x))


def test_a_pair_as_keras_takes_it():
    layer = fl.Bidirectional(fl.GRU(4), backward_layer=fl.SimpleRNN(4, go_backwards=True))
    assert layer(np.ones((2, 3, 5))).shape == (2, 8)
    names = {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}
    assert set(layer.state_dict()) == names | {f"{name}_reverse" for name in names}
    shapes = {name: value.shape for name, value in layer.state_dict().items()}
    assert shapes["weight_ih_l0"] == (12, 5)
    assert shapes["weight_ih_l0_reverse"] == (4, 5)


@pytest.mark.parametrize(
    ("back", "words"),
    [
        (lambda: fl.SimpleRNN(4), "go_backwards"),
        (lambda: fl.SimpleRNN(4, go_backwards=True, return_sequences=True), "return_sequences"),
        (lambda: fl.SimpleRNN(4, go_backwards=True, return_state=True), "return_state"),
        (lambda: fl.SimpleRNN(4, go_backwards=True, dtype="float64"), "float64"),
        (lambda: fl.Dense(4), "Dense"),
    ],
)
def test_layers_that_are_no_pair(back, words):
    with pytest.raises(OptionError, match=f"Bidirectional.*{words}"):
        fl.Bidirectional(fl.GRU(4), backward_layer=back())


def test_widths_that_cannot_be_added():
    with pytest.raises(OptionError, match=r"Bidirectional.*(4.*5|5.*4)"):
        fl.Bidirectional(fl.GRU(4), merge_mode="sum", backward_layer=fl.GRU(5, go_backwards=True))


@pytest.mark.parametrize("kind", CLASSES.values())
def test_a_layer_that_goes_backwards_already_is_refused(kind):
    with pytest.raises(OptionError, match="go_backwards"):
        fl.Bidirectional(getattr(fl, kind)(4, go_backwards=True))
