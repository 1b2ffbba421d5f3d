"""Two LSTMs, one from each end, merged: against the naive loops in both directions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.errors import OptionError, ShapeError
from tests import gradcheck, naive, strategies
from tests.layers.harness import NAMES, forward_backward, state_dict
from tests.tolerances import assert_bitwise_equal, assert_gradients_close, assert_outputs_close

MODES = ("concat", "sum", "ave", "mul")
MERGE = {
    "concat": lambda a, b: np.concatenate([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "ave": lambda a, b: (a + b) / 2,
    "mul": lambda a, b: a * b,
}


def merge_backward(mode, a, b, dy):
    """Return the gradients of both operands of a merge."""
    if mode == "concat":
        return dy[..., : a.shape[-1]], dy[..., a.shape[-1] :]
    if mode == "mul":
        return dy * b, dy * a
    return (dy, dy) if mode == "sum" else (dy / 2, dy / 2)


class Pair:
    """A layer and the naive weights of its two directions."""

    def __init__(self, case, dtype="float64", mode="concat", **options):
        self.weights = case.weights, naive.random_weights(case.rng, case.features, case.units)
        options = {"return_sequences": True} | options
        self.layer = fl.Bidirectional(fl.LSTM(case.units, dtype=dtype, **options), merge_mode=mode)
        self.layer.load_state_dict(state_dict(self.weights[0]) | state_dict(self.weights[1], "_reverse"))


CASES = strategies.lstm_cases(max_sequences=5, max_steps=5, max_features=4, max_units=7)


@settings(max_examples=12)
@given(CASES, st.sampled_from(MODES), strategies.float_types())
def test_outputs_and_states_are_both_naive_directions_merged(case, mode, dtype):
    pair = Pair(case, dtype, mode, return_state=True)
    back = case.rng.standard_normal(case.h0.shape), case.rng.standard_normal(case.h0.shape)
    y, states = pair.layer(case.sequences, initial_state=((case.h0, case.c0), back))
    ahead_y, *ahead = naive.lstm(case.sequences, case.h0, case.c0, pair.weights[0])
    back_y, *behind = naive.lstm(case.sequences, *back, pair.weights[1], reverse=True)
    for got, a, b in zip(y, ahead_y, back_y, strict=True):
        assert_outputs_close(got, MERGE[mode](a, b))
    for got, expected in zip((*states[0], *states[1]), (*ahead, *behind), strict=True):
        assert_outputs_close(got, expected, what="state")


@given(CASES, st.sampled_from(MODES))
def test_without_sequences_each_direction_gives_its_own_last_step(case, mode):
    pair = Pair(case, "float64", mode, return_sequences=False)
    zeros = np.zeros_like(case.h0)
    _, ahead, _ = naive.lstm(case.sequences, zeros, zeros, pair.weights[0])
    _, behind, _ = naive.lstm(case.sequences, zeros, zeros, pair.weights[1], reverse=True)
    assert_outputs_close(pair.layer(case.sequences), MERGE[mode](ahead, behind))


@settings(max_examples=12)
@given(CASES, st.sampled_from(MODES), strategies.float_types())
def test_gradients_are_the_naive_ones(case, mode, dtype):
    pair = Pair(case, dtype, mode)
    zeros = np.zeros_like(case.h0)
    ahead, _, _ = naive.lstm(case.sequences, zeros, zeros, pair.weights[0])
    behind, _, _ = naive.lstm(case.sequences, zeros, zeros, pair.weights[1], reverse=True)
    dy = [case.rng.standard_normal(MERGE[mode](a, b).shape) for a, b in zip(ahead, behind, strict=True)]
    split = [merge_backward(mode, a, b, d) for a, b, d in zip(ahead, behind, dy, strict=True)]
    one, two = (
        naive.lstm_backward(case.sequences, zeros, zeros, weights, [d[k] for d in split], zeros, zeros, reverse=bool(k))
        for k, weights in enumerate(pair.weights)
    )
    _, dx, gradients = forward_backward(pair.layer, case.sequences, dy)
    assert_gradients_close(np.concatenate(dx), np.concatenate([a + b for a, b in zip(one.x, two.x, strict=True)]))
    expected = state_dict(one.weights) | state_dict(two.weights, "_reverse")
    assert gradients.keys() == expected.keys()
    for name, wanted in expected.items():
        assert_gradients_close(gradients[name], wanted, what=name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("return_sequences", [True, False])
def test_gradients_are_the_numeric_ones(mode, return_sequences, rng):
    case = strategies.make_case([4, 1, 3], 2, 2, 1)
    layer = Pair(case, mode=mode, return_sequences=return_sequences).layer
    width = layer.features_out
    if return_sequences:
        dy = [rng.standard_normal((length, width)) for length in case.lengths]
    else:
        dy = rng.standard_normal((3, width))
    _, dx, gradients = forward_backward(layer, case.sequences, dy)

    def value():
        layer.changed()
        y = layer(case.sequences)
        return sum((d * part).sum() for d, part in zip(dy, y, strict=True))

    arrays = {f"x{n}": x for n, x in enumerate(case.sequences)} | layer.arrays
    gradcheck.assert_gradients(value, arrays, {f"x{n}": part for n, part in enumerate(dx)} | gradients)


def test_a_padded_array_is_turned_round_at_each_true_length():
    case = strategies.make_case([5, 2, 3], 3, 4, 0)
    layer = Pair(case).layer
    padded = np.full((3, 5, 3), np.nan)
    for row, x in zip(padded, case.sequences, strict=True):
        row[: len(x)] = x
    y = layer(padded, lengths=[5, 2, 3])
    for row, part in zip(y, layer(case.sequences), strict=True):
        assert_bitwise_equal(row[: len(part)], part)
        assert not row[len(part) :].any()


def test_the_two_directions_start_from_different_weights_under_torchs_names():
    layer = fl.Bidirectional(fl.LSTM(3))
    layer.build(2, 0)
    assert set(layer.state_dict()) == set(NAMES) | {f"{name}_reverse" for name in NAMES}
    assert (layer.params["weight_hh_l0"] != layer.params["weight_hh_l0_reverse"]).any()


def test_what_is_written_into_the_parameters_counts():
    case = strategies.make_case([3, 2], 2, 3, 0)
    layer = Pair(case).layer
    assert np.concatenate(layer(case.sequences)).any()
    with layer.edit() as params:
        for array in params.values():
            array[...] = 0
    assert not np.concatenate(layer(case.sequences)).any()


def test_config_makes_an_equal_layer():
    layer = fl.Bidirectional(fl.LSTM(3, return_sequences=True, dtype="float64"), merge_mode="ave", name="both")
    again = fl.Bidirectional.from_config(layer.config())
    assert again.config() == layer.config()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fl.Bidirectional(fl.LSTM(2), merge_mode="max"), "merge_mode='max'"),
        (lambda: fl.Bidirectional(fl.Dense(2)), "Dense"),
        (lambda: fl.Bidirectional(fl.LSTM(2, go_backwards=True)), "go_backwards"),
    ],
)
def test_options_that_make_no_sense(make, match):
    with pytest.raises(OptionError, match=match):
        make()


@pytest.mark.parametrize("state", [(np.zeros((2, 3)),) * 2, (np.zeros((2, 3)),), ((np.zeros((2, 4)),) * 2,) * 2])
def test_an_initial_state_is_a_pair_of_states(state):
    layer = fl.Bidirectional(fl.LSTM(3))
    with pytest.raises(ShapeError, match="initial_state"):
        layer(np.ones((2, 4, 2)), initial_state=state)


def test_tensors_that_do_not_fit_leave_no_layer_half_built():
    both, other = fl.Bidirectional(fl.LSTM(4)), fl.Bidirectional(fl.LSTM(4))
    other.build(3, 0)
    with pytest.raises(ShapeError, match="weight_hh_l0 has shape"):
        both.load_state_dict(other.state_dict() | {"weight_hh_l0": np.zeros((16, 5))})
    y = both(np.ones((2, 3, 3), np.float32))
    assert both.built
    assert y.any()
