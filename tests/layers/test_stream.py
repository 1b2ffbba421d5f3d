"""Step by step gives the bits of the whole sequence, and states are the caller's to keep, move and clear."""

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.errors import DataError, NotBuiltError, OptionError, ShapeError
from tests.tolerances import assert_bitwise_equal


@pytest.fixture(scope="module")
def model():
    made = fl.Sequential(
        [
            fl.Embedding(30, 7),
            fl.LSTM(19, return_sequences=True),
            fl.Dropout(0.5),
            fl.LSTM(8, return_sequences=True),
            fl.Dense(5, activation="softmax"),
        ],
        seed=1,
    )
    made.build()
    return made


@given(st.integers(1, 9), st.integers(1, 12), st.sampled_from(["float32", "float64"]), st.integers(1, 40))
def test_a_stream_has_the_bits_of_the_whole(batch, steps, dtype, units):
    rng = np.random.default_rng(units)
    layers = [fl.LSTM(units, return_sequences=True, dtype=dtype), fl.LSTM(5, return_sequences=True, dtype=dtype)]
    x = rng.standard_normal((batch, steps, 3)).astype(dtype)
    whole = layers[1](layers[0](x))
    stream = fl.Stream(layers, batch)
    for t in range(steps):
        assert_bitwise_equal(stream.step(x[:, t]), whole[:, t])


def test_ids_go_in_and_distributions_come_out(model, rng):
    ids = rng.integers(0, 30, (4, 11))
    whole = model.predict(ids)
    session = model.stream(batch=4)
    for t in range(11):
        assert_bitwise_equal(session.step(ids[:, t]), whole[:, t])


def test_what_a_step_returned_stays(rng):
    lstm = fl.LSTM(6, return_sequences=True)
    lstm.build(2)
    stream = fl.Stream([lstm])
    x = rng.standard_normal((1, 2), np.float32)
    first = stream.step(x)
    kept = first.copy()
    stream.step(x)
    assert_bitwise_equal(first, kept)


def test_a_model_of_last_steps_says_what_it_would_say_now(rng):
    model = fl.Sequential([fl.LSTM(6), fl.Dense(1)], seed=2)
    x = rng.standard_normal((2, 5, 3)).astype(np.float32)
    model(x)
    session = model.stream(batch=2)
    for t in range(5):
        assert_bitwise_equal(session.step(x[:, t]), model.predict(x[:, : t + 1]))


def test_reset_clears_one_or_all(model, rng):
    ids = rng.integers(0, 30, (3, 4))
    session, fresh = model.stream(3), model.stream(3)
    for t in range(3):
        session.step(ids[:, t])
    going_on = session.clone().step(ids[:, 3])
    session.reset(1)
    mixed, new = session.step(ids[:, 3]), fresh.step(ids[:, 3])
    assert_bitwise_equal(mixed[[0, 2]], going_on[[0, 2]])
    assert_bitwise_equal(mixed[1], new[1])
    session.reset()
    assert_bitwise_equal(session.step(ids[:, 3]), new)


def test_a_clone_and_a_saved_state_go_their_own_way(model, rng):
    ids = rng.integers(0, 30, (2, 6))
    session = model.stream(2)
    session.step(ids[:, 0])
    state, twin = session.state_dict(), session.clone()
    expected = [session.step(ids[:, t]) for t in range(1, 6)]
    later = model.stream(2)
    later.load_state_dict(state)
    assert set(state) == {"lstm.h", "lstm.c", "lstm_1.h", "lstm_1.c"}
    for t in range(1, 6):
        assert_bitwise_equal(twin.step(ids[:, t]), expected[t - 1])
        assert_bitwise_equal(later.step(ids[:, t]), expected[t - 1])


def test_a_stream_follows_weights_that_change(rng):
    lstm = fl.LSTM(4, return_sequences=True)
    x = rng.standard_normal((1, 1, 3)).astype(np.float32)
    lstm(x)
    stream = fl.Stream([lstm])
    stream.step(x[:, 0])
    lstm.load_state_dict({name: 2 * value for name, value in lstm.state_dict().items()})
    stream.reset()
    assert_bitwise_equal(stream.step(x[:, 0]), lstm(x)[:, 0])


def test_streams_of_one_model_run_in_threads(model, rng):
    ids = rng.integers(0, 30, (8, 30))
    whole = model.predict(ids)
    got = [None] * 8

    def run(n):
        session = model.stream()
        got[n] = np.stack([session.step(ids[n : n + 1, t])[0] for t in range(30)])

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(8):
        assert_bitwise_equal(got[n], whole[n])


def test_bad_input_is_named_and_changes_nothing(model):
    session = model.stream(2)
    session.step([1, 2])
    before = session.state_dict()
    with pytest.raises(ShapeError, match=r"\(3,\); expected \(2,\)"):
        session.step([1, 2, 3])
    with pytest.raises(DataError, match="id 30"):
        session.step([1, 30])
    with pytest.raises(ShapeError, match=r"lstm\.h has shape"):
        session.load_state_dict(before | {"lstm.h": np.zeros((1, 19))})
    with pytest.raises(ShapeError, match="expected"):
        session.load_state_dict({})
    with pytest.raises(OptionError, match="sequence=2"):
        session.reset(2)
    for name, value in session.state_dict().items():
        assert_bitwise_equal(value, before[name])


def test_what_cannot_be_streamed_says_so():
    with pytest.raises(NotBuiltError, match="no weights yet"):
        fl.Stream([fl.LSTM(3)])
    both = fl.Bidirectional(fl.LSTM(3, return_sequences=True))
    both.build(2)
    with pytest.raises(OptionError, match=r"Bidirectional.*whole sequence"):
        fl.Stream([both])
    backwards = fl.LSTM(3, go_backwards=True)
    backwards.build(2)
    with pytest.raises(OptionError, match="whole sequence"):
        fl.Stream([backwards])
    backwards.go_backwards = False
    with pytest.raises(OptionError, match="batch=0"):
        fl.Stream([backwards], batch=0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.full((2, 3), "a"), "dtype <U1"),
        (np.full((2, 3), 1j), "dtype complex128"),
        (np.ma.masked_all((2, 3)), "6 of its 6 values masked"),
        (None, "it is None"),
    ],
)
def test_steps_and_states_that_hold_no_numbers(wrong, words):
    lstm = fl.LSTM(3, name="lstm")
    lstm.build(3)
    stream = fl.Stream([lstm], batch=2)
    before = stream.state_dict()
    with pytest.raises(DataError, match=f"step: x .*{words}"):
        stream.step(wrong)
    with pytest.raises(DataError, match=rf"load_state_dict: lstm\.c .*{words}"):
        stream.load_state_dict({"lstm.h": np.ones((2, 3)), "lstm.c": wrong})
    for name, value in stream.state_dict().items():
        assert_bitwise_equal(value, before[name])


def test_layers_of_one_name_or_of_different_types_are_refused():
    one, two = fl.LSTM(3, name="a"), fl.LSTM(3, name="a")
    double = fl.LSTM(3, dtype="float64")
    for layer in (one, two, double):
        layer.build(3)
    with pytest.raises(OptionError, match="named a, a"):
        fl.Stream([one, two])
    with pytest.raises(OptionError, match="different types: a float32, lstm_1 float64"):
        fl.Stream([one, double])


def test_a_step_that_must_not_be_written_to(rng):
    lstm = fl.LSTM(3, return_sequences=True)
    x = rng.standard_normal((1, 4), np.float32)
    expected = lstm(x[:, None])[:, 0]
    x.flags.writeable = False
    assert_bitwise_equal(fl.Stream([lstm]).step(x), expected)


@pytest.mark.parametrize("units", [8, 512])  # the second goes over cores
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream)), fl.Stream.clone]
)
def test_a_copy_goes_on_from_the_same_state_in_memory_of_its_own(units, copied, rng):
    fl.set_num_threads(2)
    lstm = fl.LSTM(units)
    lstm.build(units, 0)
    stream, steps = fl.Stream([lstm]), rng.standard_normal((9, 1, units)).astype(np.float32)
    for x in steps[:5]:
        stream.step(x)
    twin = copied(stream)
    ahead = [stream.step(x) for x in steps[5:]]
    for x, expected in zip(steps[5:], ahead, strict=True):
        assert_bitwise_equal(twin.step(x), expected)


def test_a_layer_that_says_that_it_looks_at_rows_alone_may_be_streamed(rng):
    class Cubes(fl.Layer):
        by_row = True

        def forward(self, x, context):
            return x.with_rows(x.rows**3), None

    model = fl.Sequential([fl.LSTM(3, return_sequences=True), Cubes()])
    x = rng.standard_normal((2, 4, 3)).astype(np.float32)
    whole, session = model(x), model.stream(2)
    for t in range(4):
        assert_bitwise_equal(session.step(x[:, t]), whole[:, t])
