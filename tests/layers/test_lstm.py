"""The LSTM layer against the naive loops and against numeric gradients; its forms, its dropout, its parameters."""

import numpy as np
import pytest
from hypothesis import example, given, settings

import fastlstm as fl
from fastlstm.layers import PassContext
from tests import gradcheck, naive, strategies
from tests.layers.harness import (
    NAMES,
    forward_backward,
    lstm_of,
    naive_result,
    random_loss,
    state_dict,
    train_lstm,
)
from tests.tolerances import assert_bitwise_equal, assert_gradients_close, assert_outputs_close

CASES = strategies.lstm_cases(max_sequences=6, max_steps=4, max_features=5, max_units=9)
WIDE = strategies.make_case([2, 1, 3, 2, 3, 1, 2], 3, 35, 0)
STEPS = strategies.make_case([23], 2, 3, 1)


def assert_same(actual, expected):
    """Compare two `Result` field by field."""
    for n, (y, wanted) in enumerate(zip(actual.y, expected.y, strict=True)):
        assert_outputs_close(y, wanted, what=f"y of sequence {n}")
    assert_outputs_close(actual.h, expected.h, what="final h")
    assert_outputs_close(actual.c, expected.c, what="final c")
    assert_gradients_close(np.concatenate(actual.dx), np.concatenate(expected.dx), what="dx")
    assert_gradients_close(actual.dh0, expected.dh0, what="dh0")
    assert_gradients_close(actual.dc0, expected.dc0, what="dc0")
    assert actual.gradients.keys() == expected.gradients.keys()
    for name, wanted in expected.gradients.items():
        assert_gradients_close(actual.gradients[name], wanted, what=f"gradient of {name}")


# --- values and gradients -------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(CASES, strategies.float_types())
@example(WIDE, "float32")
@example(WIDE, "float64")
@example(STEPS, "float64")
def test_outputs_states_and_gradients_are_the_naive_loops(case, dtype):
    loss = random_loss(case)
    assert_same(train_lstm(lstm_of(case.weights, dtype), case, loss), naive_result(case, loss))


@pytest.mark.parametrize("lengths", [[3], [4, 4], [3, 5, 1]])
def test_every_gradient_is_the_numeric_one(lengths):
    case = strategies.make_case(lengths, 2, 3, 5)
    loss, layer = random_loss(case), lstm_of(case.weights)
    result = train_lstm(layer, case, loss)
    arrays = {"h0": case.h0, "c0": case.c0} | {f"x{n}": x for n, x in enumerate(case.sequences)} | layer.arrays
    gradients = {"h0": result.dh0, "c0": result.dc0} | {f"x{n}": dx for n, dx in enumerate(result.dx)}
    gradients |= {name: gradient.copy() for name, gradient in result.gradients.items()}

    def value():
        layer.changed()
        y, state = layer(case.sequences, initial_state=(case.h0, case.c0))
        return loss.value(y, state.h, state.c)

    gradcheck.assert_gradients(value, arrays, gradients)


@pytest.mark.parametrize(("lengths", "features", "units"), [([30] * 5, 37, 41), ([50, 1, 17, 17, 3, 28, 9], 70, 33)])
def test_gradients_of_large_shapes_along_random_directions(lengths, features, units):
    case = strategies.make_case(lengths, features, units, 6)
    loss, layer = random_loss(case), lstm_of(case.weights)
    result = train_lstm(layer, case, loss)
    arrays = {"h0": case.h0, "c0": case.c0} | {f"x{n}": x for n, x in enumerate(case.sequences)} | layer.arrays
    gradients = {"h0": result.dh0, "c0": result.dc0} | {f"x{n}": dx for n, dx in enumerate(result.dx)}

    def value():
        layer.changed()
        y, state = layer(case.sequences, initial_state=(case.h0, case.c0))
        return loss.value(y, state.h, state.c)

    gradcheck.assert_projected_gradients(value, arrays, gradients | result.gradients, case.rng)


@given(CASES, strategies.float_types())
def test_only_the_last_step_goes_out_and_its_gradient_comes_back(case, dtype):
    dh = case.rng.standard_normal(case.h0.shape)
    layer = lstm_of(case.weights, dtype, return_sequences=False, return_state=False)
    h0 = np.zeros_like(case.h0)
    y, h, _ = naive.lstm(case.sequences, h0, h0, case.weights)
    assert_outputs_close(layer(case.sequences), h, what="last output")
    out, dx, gradients = forward_backward(layer, case.sequences, dh)
    expected = naive.lstm_backward(
        case.sequences, h0, h0, case.weights, [np.zeros_like(part) for part in y], dh, np.zeros_like(dh)
    )
    assert_outputs_close(out, h)
    assert_gradients_close(np.concatenate(dx), np.concatenate(expected.x), what="dx")
    for name, wanted in state_dict(expected.weights).items():
        assert_gradients_close(gradients[name], wanted, what=name)


@settings(max_examples=10)
@given(CASES, strategies.float_types())
def test_going_backwards_reads_each_true_sequence_from_its_end(case, dtype):
    """Outputs come in the order in which steps were read, as in Keras; the gradient goes back to the step it is of."""
    layer = lstm_of(case.weights, dtype, go_backwards=True)
    turned = case._replace(sequences=[x[::-1].copy() for x in case.sequences])
    loss = random_loss(case)
    expected = naive_result(turned, loss)
    expected = expected._replace(dx=[dx[::-1] for dx in expected.dx])
    assert_same(train_lstm(layer, case, loss), expected)
    y, state = layer(case.sequences, initial_state=(case.h0, case.c0))
    for got, wanted in zip(y, expected.y, strict=True):
        assert_outputs_close(got, wanted)
    assert_outputs_close(state.c, expected.c)


@given(CASES, strategies.float_types())
def test_a_training_pass_without_dropout_has_the_bits_of_a_call(case, dtype):
    layer = lstm_of(case.weights, dtype)
    trained = train_lstm(layer, case, random_loss(case))
    y, state = layer(case.sequences, initial_state=(case.h0, case.c0))
    for got, wanted in zip(trained.y, y, strict=True):
        assert_bitwise_equal(got, wanted)
    assert_bitwise_equal(trained.h, state.h)
    assert_bitwise_equal(trained.c, state.c)


def test_memory_is_used_again_without_a_trace():
    """A large batch, then a small one, from one workspace: as if each had its own."""
    large, small = strategies.make_case([9, 7, 2, 9], 5, 11, 1), strategies.make_case([2, 3], 5, 11, 2)
    layer, context = lstm_of(large.weights), PassContext(training=True)
    alone = train_lstm(layer, small, random_loss(small))
    train_lstm(layer, large, random_loss(large), context)
    small = strategies.make_case([2, 3], 5, 11, 2)
    again = train_lstm(layer, small, random_loss(small), context)
    for name in NAMES:
        assert_bitwise_equal(again.gradients[name], alone.gradients[name], what=name)
    assert_bitwise_equal(np.concatenate(again.dx), np.concatenate(alone.dx))


# --- forms ----------------------------------------------------------------------------------------------------------


@given(CASES)
def test_a_list_and_a_padded_array_are_the_same_batch(case):
    layer = lstm_of(case.weights)
    y, state = layer(case.sequences, initial_state=(case.h0, case.c0))
    padded = np.full((len(y), max(case.lengths) + 2, case.features), np.nan)  # nothing is computed on padding
    for row, x in zip(padded, case.sequences, strict=True):
        row[: len(x)] = x
    y_padded, state_padded = layer(padded, lengths=case.lengths, initial_state=(case.h0, case.c0))
    assert y_padded.shape == (*padded.shape[:2], case.units)
    for row, part in zip(y_padded, y, strict=True):
        assert_bitwise_equal(row[: len(part)], part)
        assert not row[len(part) :].any()
    assert_bitwise_equal(state_padded.h, state.h)
    assert_bitwise_equal(state_padded.c, state.c)


@pytest.mark.parametrize(
    ("options", "check"),
    [
        ({}, lambda out: out.shape == (3, 4)),
        ({"return_sequences": True}, lambda out: out.shape == (3, 5, 4)),
        ({"return_state": True}, lambda out: out[0].shape == out[1].h.shape == out[1].c.shape == (3, 4)),
        ({"return_sequences": True, "return_state": True}, lambda out: out[0].shape == (3, 5, 4)),
    ],
)
def test_what_goes_out_is_as_in_keras(options, check):
    assert check(fl.LSTM(4, **options)(np.ones((3, 5, 2))))


def test_the_final_state_is_the_last_output():
    y, state = fl.LSTM(4, return_sequences=True, return_state=True)(np.ones((3, 5, 2)), lengths=[5, 1, 3])
    assert_bitwise_equal(state.h, np.stack([y[0, 4], y[1, 0], y[2, 2]]))


def test_an_initial_state_is_not_written_to():
    case = strategies.make_case([3, 2], 2, 3, 0)
    h, c = case.h0.copy(), case.c0.copy()
    lstm_of(case.weights)(case.sequences, initial_state=(h, c))
    assert_bitwise_equal(h, case.h0)
    assert_bitwise_equal(c, case.c0)


def test_nothing_is_remembered_between_calls():
    layer, x = fl.LSTM(4, return_sequences=True), np.ones((2, 3, 2))
    assert_bitwise_equal(layer(x), layer(x))


# --- dropout --------------------------------------------------------------------------------------------------------


def trained_once(case, seed, **options):
    layer = lstm_of(case.weights, **options)
    return train_lstm(layer, case, random_loss(case), PassContext(training=True, rng=np.random.default_rng(seed)))


def test_one_input_mask_a_sequence_at_every_step():
    case = strategies.make_case([6, 3, 5, 4], 40, 5, 3)
    result = trained_once(case, 8, dropout=0.4)
    patterns = []
    for dx in result.dx:
        dropped = dx == 0
        assert (dropped == dropped[0]).all(), "the mask changes from step to step"
        patterns.append(dropped[0])
    assert len({tuple(pattern) for pattern in patterns}) == len(patterns), "sequences share a mask"
    assert 0.3 < np.mean(patterns) < 0.5


def test_input_dropout_is_a_network_without_those_inputs_and_with_the_others_stronger():
    case = strategies.make_case([6], 20, 5, 3)
    result = trained_once(case, 8, dropout=0.4)
    kept = (result.dx[0][0] != 0) / (1 - 0.4)
    thinned = case._replace(weights=case.weights._replace(w_ih=case.weights.w_ih * kept))
    y, _, c = naive.lstm(thinned.sequences, thinned.h0, thinned.c0, thinned.weights)
    assert_outputs_close(result.y[0], y[0])
    assert_outputs_close(result.c, c)
    assert not result.gradients["weight_ih_l0"][:, kept == 0].any()


def test_recurrent_dropout_is_a_network_without_those_units_in_h_prev():
    case = strategies.make_case([6], 3, 20, 3)
    loss = random_loss(case)
    layer = lstm_of(case.weights, recurrent_dropout=0.4)
    result = train_lstm(layer, case, loss, PassContext(training=True, rng=np.random.default_rng(8)))
    dropped = ~result.gradients["weight_hh_l0"].any(axis=0)
    assert 2 <= dropped.sum() <= 14
    mask = ~dropped / (1 - 0.4)
    thinned = case._replace(weights=case.weights._replace(w_hh=case.weights.w_hh * mask))
    expected = naive_result(thinned, loss)
    expected.gradients["weight_hh_l0"] *= mask  # of W where the naive network has W * mask
    assert_same(result, expected)


@pytest.mark.parametrize(
    "options", [{"dropout": 0.3}, {"recurrent_dropout": 0.3}, {"dropout": 0.5, "recurrent_dropout": 0.2}]
)
@pytest.mark.parametrize("lengths", [[4, 4, 4], [3, 5, 1, 4]])
def test_gradients_with_dropout_are_the_numeric_ones_of_the_same_masks(options, lengths):
    case = strategies.make_case(lengths, 4, 5, 9)
    loss, layer = random_loss(case), lstm_of(case.weights, **options)

    def once():
        layer.changed()
        return train_lstm(layer, case, loss, PassContext(training=True, rng=np.random.default_rng(4)))

    result = once()
    arrays = {"h0": case.h0, "c0": case.c0} | {f"x{n}": x for n, x in enumerate(case.sequences)} | layer.arrays
    gradients = {"h0": result.dh0, "c0": result.dc0} | {f"x{n}": dx for n, dx in enumerate(result.dx)}

    def value():
        again = once()
        return loss.value(again.y, again.h, again.c)

    gradcheck.assert_gradients(value, arrays, gradients | result.gradients)


def test_dropout_is_for_training_only():
    case = strategies.make_case([4, 2], 3, 5, 0)
    plain, dropping = lstm_of(case.weights), lstm_of(case.weights, dropout=0.5, recurrent_dropout=0.5)
    for a, b in zip(plain(case.sequences)[0], dropping(case.sequences)[0], strict=True):
        assert_bitwise_equal(a, b)


# --- parameters -----------------------------------------------------------------------------------------------------


def test_start_values():
    units, features = 40, 30
    layer = fl.LSTM(units, dtype="float64")
    layer.build(features, 0)
    w_ih, w_hh, b_ih, b_hh = (layer.params[name] for name in NAMES)
    limit = np.sqrt(6 / (features + 4 * units))
    assert w_ih.shape == (4 * units, features)
    assert 0.95 * limit < np.abs(w_ih).max() <= limit
    assert abs(w_ih.std() - limit / np.sqrt(3)) < 0.05 * limit
    np.testing.assert_allclose(w_hh.T @ w_hh, np.eye(units), atol=1e-12)
    assert b_ih.reshape(4, units).mean(axis=1).tolist() == [0, 1, 0, 0]
    assert b_ih[units : 2 * units].std() == 0
    assert not b_hh.any()


def test_the_forget_bias_can_be_left_out():
    layer = fl.LSTM(3, unit_forget_bias=False)
    layer.build(2, 0)
    assert not layer.params["bias_ih_l0"].any()


def test_start_values_come_from_the_seed_alone():
    first, second, third = (fl.LSTM(3) for _ in range(3))
    for layer, seed in ((first, 1), (second, 1), (third, 2)):
        layer.build(2, seed)
    assert_bitwise_equal(first.params["weight_ih_l0"], second.params["weight_ih_l0"])
    assert (first.params["weight_ih_l0"] != third.params["weight_ih_l0"]).all()


def test_state_dict_goes_out_as_a_copy_and_comes_back_whole():
    layer, other = fl.LSTM(4), fl.LSTM(4)
    x = np.ones((2, 3, 5))
    expected = layer(x)
    tensors = layer.state_dict()
    other.load_state_dict(tensors)
    assert_bitwise_equal(other(x), expected)
    tensors["weight_ih_l0"][...] = 7
    assert_bitwise_equal(layer(x), expected)
    assert_bitwise_equal(other(x), expected)


def test_config_makes_an_equal_layer():
    options = {"return_sequences": True, "go_backwards": True, "dropout": 0.25, "name": "reader", "dtype": "float64"}
    layer = fl.LSTM(6, **options)
    again = fl.LSTM(**layer.config())
    assert again.config() == layer.config()
    assert {key: layer.config()[key] for key in options} == options
