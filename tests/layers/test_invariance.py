"""Bitwise equal: a sequence alone or in any batch, whole or in chunks, on one thread or two, beside NaN or not."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.layers import PassContext
from tests import strategies
from tests.layers.harness import Loss, forward_backward, lstm_of, random_loss, train_lstm
from tests.tolerances import assert_bitwise_equal

CASES = strategies.lstm_cases(max_sequences=20, max_steps=12, max_features=40, max_units=70)


def assert_same_bits(actual, expected):
    """Compare lists of arrays."""
    for n, (got, wanted) in enumerate(zip(actual, expected, strict=True)):
        assert_bitwise_equal(got, wanted, what=f"item {n}")


def run(layer, case, keep=slice(None)):
    return layer(case.sequences[keep], initial_state=(case.h0[keep], case.c0[keep]))


# --- a sequence alone and in any batch ------------------------------------------------------------------------------


@given(CASES, strategies.float_types())
def test_a_sequence_has_the_same_bits_alone_and_in_a_ragged_batch(case, dtype):
    layer = lstm_of(case.weights, dtype)
    y, state = run(layer, case)
    for n in range(len(case.lengths)):
        alone, last = run(layer, case, slice(n, n + 1))
        assert_bitwise_equal(y[n], alone[0])
        assert_bitwise_equal(state.h[n], last.h[0])
        assert_bitwise_equal(state.c[n], last.c[0])


@given(CASES, strategies.float_types())
def test_a_sequence_has_the_same_bits_in_a_dense_batch(case, dtype):
    layer = lstm_of(case.weights, dtype)
    steps = min(case.lengths)
    dense = np.stack([x[:steps] for x in case.sequences])
    y, state = layer(dense, initial_state=(case.h0, case.c0))
    for n in range(len(dense)):
        alone, last = layer(dense[n : n + 1], initial_state=(case.h0[n : n + 1], case.c0[n : n + 1]))
        assert_bitwise_equal(y[n], alone[0])
        assert_bitwise_equal(state.c[n], last.c[0])


@given(CASES, strategies.float_types(), st.randoms(use_true_random=False))
def test_the_order_of_a_batch_does_not_matter(case, dtype, random):
    layer = lstm_of(case.weights, dtype)
    y, state = run(layer, case)
    order = list(range(len(case.lengths)))
    random.shuffle(order)
    mixed = case._replace(sequences=[case.sequences[n] for n in order], h0=case.h0[order], c0=case.c0[order])
    y_mixed, state_mixed = run(layer, mixed)
    assert_same_bits(y_mixed, [y[n] for n in order])
    assert_bitwise_equal(state_mixed.h, state.h[order])


@given(CASES, strategies.float_types())
def test_input_gradients_of_a_sequence_do_not_depend_on_its_batch(case, dtype):
    layer, loss = lstm_of(case.weights, dtype), random_loss(case)
    together = train_lstm(layer, case, loss)
    for n in range(len(case.lengths)):
        one = slice(n, n + 1)
        alone = train_lstm(
            layer,
            case._replace(sequences=case.sequences[one], h0=case.h0[one], c0=case.c0[one]),
            Loss(loss.dy[one], loss.dh[one], loss.dc[one]),
        )
        assert_bitwise_equal(together.dx[n], alone.dx[0], what="dx")
        assert_bitwise_equal(together.dh0[n], alone.dh0[0], what="dh0")
        assert_bitwise_equal(together.dc0[n], alone.dc0[0], what="dc0")


@given(CASES, st.data())
def test_nan_in_one_sequence_touches_no_other(case, data):
    layer = fl.Bidirectional(fl.LSTM(case.units, return_sequences=True))
    clean = layer(case.sequences)
    n = data.draw(st.integers(0, len(case.lengths) - 1))
    t = data.draw(st.integers(0, case.lengths[n] - 1))
    value = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    case.sequences[n][t, 0] = value
    spoilt = layer(case.sequences)
    if np.isnan(value):
        assert np.isnan(spoilt[n][t]).all()
    del clean[n], spoilt[n]
    assert_same_bits(spoilt, clean)


@pytest.mark.parametrize("lengths", [[40], [30, 30, 30], [25, 9, 1]])
def test_few_sequences_have_the_same_bits_on_cores_that_share_the_units(lengths):
    case = strategies.make_case(lengths, 24, 200, 0)
    results = []
    for threads in (1, 2, 3):
        fl.set_num_threads(threads)
        y, state = run(lstm_of(case.weights), case)
        results.append([*y, *state])
    for shared in results[1:]:
        assert_same_bits(shared, results[0])


# --- whole and in chunks --------------------------------------------------------------------------------------------


@given(CASES, strategies.float_types(), st.data())
def test_whole_is_chunks_with_carried_state(case, dtype, data):
    layer = lstm_of(case.weights, dtype)
    steps = min(case.lengths)
    x = np.stack([part[:steps] for part in case.sequences])
    whole, final = layer(x, initial_state=(case.h0, case.c0))
    state, parts = (case.h0, case.c0), []
    bounds = data.draw(strategies.cuts_of(steps))
    for begin, end in pairwise(bounds):
        y, state = layer(x[:, begin:end], initial_state=state)
        parts.append(y)
    assert_bitwise_equal(np.concatenate(parts, axis=1), whole)
    assert_bitwise_equal(state.h, final.h)
    assert_bitwise_equal(state.c, final.c)


def test_a_long_sequence_is_its_steps_one_by_one(dtype):
    case = strategies.make_case([300], 33, 65, 0)
    layer = lstm_of(case.weights, dtype)
    whole, _ = run(layer, case)
    state = (case.h0, case.c0)
    for t in range(300):
        y, state = layer(case.sequences[0][None, t : t + 1], initial_state=state)
        assert_bitwise_equal(y[0, 0], whole[0][t], what=f"step {t}")


def test_inference_in_chunks_of_its_own_gives_the_bits_of_training(dtype):
    """More gate values than inference computes at once: it goes through time in several chunks."""
    case = strategies.make_case([260, 40, 260, 7, 131], 5, 128, 0)
    layer = lstm_of(case.weights, dtype)
    trained = train_lstm(layer, case, random_loss(case))
    y, state = run(layer, case)
    assert_same_bits(y, trained.y)
    assert_bitwise_equal(state.c, trained.c)


# --- one thread and two ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("share_everything")
@given(CASES, strategies.float_types(), st.integers(2, 4))
def test_inference_has_the_same_bits_on_any_number_of_threads(case, dtype, threads):
    layer = lstm_of(case.weights, dtype)
    fl.set_num_threads(1)
    y, state = run(layer, case)
    fl.set_num_threads(threads)
    y_shared, state_shared = run(layer, case)
    assert_same_bits(y_shared, y)
    assert_bitwise_equal(state_shared.h, state.h)
    assert_bitwise_equal(state_shared.c, state.c)


@pytest.mark.usefixtures("share_everything")
@given(CASES, strategies.float_types(), st.sampled_from([{}, {"dropout": 0.3}, {"recurrent_dropout": 0.3}]))
def test_training_has_the_same_bits_on_one_thread_and_two(case, dtype, options):
    assert_training_has_the_same_bits(case, lstm_of(case.weights, dtype, **options))


@pytest.mark.usefixtures("share_everything")
@pytest.mark.parametrize("lengths", [[40], [30, 30, 30], [25, 9, 1]])
def test_training_few_sequences_has_the_same_bits_on_cores_that_share_the_units(lengths):
    case = strategies.make_case(lengths, 24, 200, 0)
    assert_training_has_the_same_bits(case, lstm_of(case.weights, "float32"))


def assert_training_has_the_same_bits(case, layer):
    loss, results = random_loss(case), []
    for threads in (1, 2):
        fl.set_num_threads(threads)
        results.append(train_lstm(layer, case, loss, PassContext(training=True, rng=np.random.default_rng(3))))
    one, two = results
    for field in ("y", "dx"):
        assert_same_bits(getattr(two, field), getattr(one, field))
    for field in ("h", "c", "dh0", "dc0"):
        assert_bitwise_equal(getattr(two, field), getattr(one, field), what=field)
    for name in one.gradients:
        assert_bitwise_equal(two.gradients[name], one.gradients[name], what=name)


@pytest.mark.usefixtures("share_everything")
@settings(max_examples=15)
@given(
    strategies.lengths_n(max_sequences=9),
    st.sampled_from(["sigmoid", "tanh", "relu", "softmax", None]),
    st.integers(1, 70),
    strategies.seeds(),
)
def test_the_other_layers_have_the_same_bits_on_one_thread_and_two(lengths, activation, width, seed):
    rng = np.random.default_rng(seed)
    ids = [rng.integers(0, 9, length) for length in lengths]
    embedding, dense = fl.Embedding(9, width), fl.Dense(7, activation=activation)
    for layer, features in ((embedding, 0), (dense, width)):
        layer.build(features, 0)
    dy = [rng.standard_normal((length, 7)) for length in lengths]
    d_embedded = [rng.standard_normal((length, width)) for length in lengths]
    results = []
    for threads in (1, 2):
        fl.set_num_threads(threads)
        vectors, _, gradients = forward_backward(embedding, ids, d_embedded)
        y, dx, dense_gradients = forward_backward(dense, vectors, dy)
        results.append([*vectors, *gradients.values(), *y, *dx, *dense_gradients.values()])
    assert_same_bits(results[1], results[0])
