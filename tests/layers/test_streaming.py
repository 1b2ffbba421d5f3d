"""Step by step gives the bits of the whole sequence, and states are the caller's to keep, move and clear."""

import copy
import pickle
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastlstm as fl
from fastlstm.errors import DataError, NotBuiltError, OptionError, ShapeError
from fastlstm.kernels import lstm_step, team
from fastlstm.layers import shared_units
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


# --- steps that cores share -------------------------------------------------------------------------------------------


@pytest.fixture
def lead_everything(monkeypatch):
    """Share even the smallest step over the threads that are set, whoever's cores they are."""
    before = team.get_num_threads()
    monkeypatch.setattr(shared_units, "_STEP_OF_A_CORE", 1.0)
    monkeypatch.setattr(shared_units, "_CHUNK", 1.0)
    monkeypatch.setattr(team, "_CORES", 4)
    monkeypatch.setattr(team, "_LED_CLOSELY", 60.0)
    monkeypatch.setattr(team, "_MEASURED", 0)
    monkeypatch.setattr(team, "_STAKE", np.inf)
    yield
    team.set_num_threads(before)


@pytest.mark.usefixtures("lead_everything")
@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 7])
@pytest.mark.parametrize("threads", [2, 3])
def test_a_step_has_the_same_bits_on_cores_that_share_its_units(batch, embedded, threads, dtype, rng):
    layers = [fl.LSTM(70, return_sequences=True, dtype=dtype), fl.LSTM(33, return_sequences=True, dtype=dtype)]
    if embedded:
        layers.insert(0, fl.Embedding(9, 5, dtype=dtype))
    model = fl.Sequential(layers, seed=0)
    model.build(*([] if embedded else [5]))
    steps = 200  # enough for a worker to come, go and come again
    x = rng.integers(0, 9, (batch, steps)) if embedded else rng.standard_normal((batch, steps, 5)).astype(dtype)
    fl.set_num_threads(1)
    whole = model.predict(x)
    fl.set_num_threads(threads)
    stream = model.stream(batch)
    for t in range(steps):
        if t == 120:  # alone, in the middle
            fl.set_num_threads(1)
        if t == 130:
            fl.set_num_threads(threads)
        assert_bitwise_equal(stream.step(x[:, t]), whole[:, t])
        if t == steps - 2:
            kept = stream.state_dict()
    stream.load_state_dict(kept)
    assert_bitwise_equal(stream.step(x[:, -1]), whole[:, -1])


@pytest.mark.usefixtures("lead_everything")
def test_streams_of_both_types_take_turns_with_one_team(rng):
    fl.set_num_threads(2)
    layers = [fl.LSTM(40, return_sequences=True, dtype=dtype) for dtype in ("float32", "float64")]
    x = rng.standard_normal((1, 60, 40))
    expected = [layer(x.astype(layer.dtype)) for layer in layers]
    streams = [fl.Stream([layer]) for layer in layers]
    for t in range(60):
        for stream, layer, whole in zip(streams, layers, expected, strict=True):
            assert_bitwise_equal(stream.step(x[:, t].astype(layer.dtype)), whole[:, t])


@pytest.mark.usefixtures("lead_everything")
@pytest.mark.parametrize("embedded", [False, True])
def test_a_shared_step_follows_weights_that_change(embedded, rng):
    fl.set_num_threads(2)
    model, other = (
        fl.Sequential([fl.Embedding(9, 5)] * embedded + [fl.LSTM(40, return_sequences=True)], seed=seed)
        for seed in (0, 1)
    )
    for made in (model, other):
        made.build(*([] if embedded else [5]))
    x = rng.integers(0, 9, (1, 4)) if embedded else rng.standard_normal((1, 4, 5)).astype(np.float32)
    stream = model.stream()
    stream.step(x[:, 0])
    model.load_state_dict(other.state_dict())
    stream.reset()
    for t in range(4):
        assert_bitwise_equal(stream.step(x[:, t]), other.predict(x)[:, t])


@pytest.mark.usefixtures("lead_everything")
def test_a_stream_goes_on_alone_after_the_threads_have_changed(rng, monkeypatch):
    lstm = fl.LSTM(70, return_sequences=True)
    x = rng.standard_normal((1, 2, 3), np.float32)
    expected = lstm(x)
    stream = fl.Stream([lstm])
    fl.set_num_threads(1)
    assert_bitwise_equal(stream.step(x[:, 0]), expected[:, 0])
    fl.set_num_threads(4)
    monkeypatch.setattr(team._team, "busy", True)  # alone, with words of its own
    assert_bitwise_equal(stream.step(x[:, 1]), expected[:, 1])
    [stepper] = stream._steppers.values()
    assert stepper._cut.cores == 4


@pytest.mark.usefixtures("lead_everything", "share_everything")
def test_threads_that_stream_at_once_beside_calls_that_share(rng):
    fl.set_num_threads(2)
    lstm = fl.LSTM(48, return_sequences=True)
    x = rng.standard_normal((3, 150, 48), np.float32)
    expected = lstm(x)
    wrong = []

    def steps(n):
        stream = fl.Stream([lstm])
        wrong.extend(t for t in range(150) if (stream.step(x[n : n + 1, t]) != expected[n : n + 1, t]).any())

    def calls(_):
        wrong.extend("call" for _ in range(30) if (lstm(x) != expected).any())

    runs = enumerate([steps, steps, steps, calls])
    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n, run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a step hangs"
    assert wrong == []


@pytest.mark.usefixtures("lead_everything")
def test_a_follower_does_all_that_its_leader_leaves(rng, dtype):
    """The words are set as a leader sets them who then does nothing."""
    fl.set_num_threads(2)
    lstm = fl.LSTM(50, return_sequences=True, dtype=dtype)
    x = rng.standard_normal((2, 2, 3)).astype(dtype)
    expected = lstm(x)
    stream = fl.Stream([lstm], 2)
    assert_bitwise_equal(stream.step(x[:, 0]), expected[:, 0])
    [stepper] = stream._steppers.values()
    _, _, task, given = stepper._task
    given[...] = x[:, 1]
    task[lstm_step.NOW] = 1
    words = np.zeros(2 * team.ROW, np.int64)
    words[[team.LEFT, team.ROW + team.LEFT]] = task[lstm_step.CHUNKS]
    shared = task.copy()
    assert not lstm_step.take_steps(words, shared, shared, stepper._gates, 1, 5, 100), "there was no job"
    assert words[[team.MADE, team.ROW + team.MADE]].tolist() == [task[lstm_step.CHUNKS]] * 2
    assert words[team.ROW + team.DONE] == 4
    assert_bitwise_equal(stepper._hidden[0], expected[:, 1])
    words[team.ROW + team.POSTED] = 5
    assert lstm_step.take_steps(words, shared, shared, stepper._gates, 1, 5, 100), "there was a job"


@pytest.mark.usefixtures("lead_everything")
def test_a_worker_comes_and_follows(rng, monkeypatch):
    monkeypatch.setattr(team, "_team", team._Team())
    monkeypatch.setattr(team, "_LOOKS", 10**7)
    fl.set_num_threads(2)
    lstm = fl.LSTM(50)
    lstm.build(3)
    stream = fl.Stream([lstm])
    for _ in range(3):
        stream.step(rng.standard_normal((1, 3), np.float32))
    ours = team._team
    chunks = ours.task[lstm_step.CHUNKS]
    ours.words[[team.MADE, team.ROW + team.MADE]] = 0
    ours.words[[team.LEFT, team.ROW + team.LEFT]] = chunks
    end = time.monotonic() + 30
    while (ours.words[[team.MADE, team.ROW + team.MADE]] < chunks).any() and time.monotonic() < end:
        time.sleep(0.001)
    assert (ours.words[[team.MADE, team.ROW + team.MADE]] == chunks).all()
    assert ours.words[team.LEFT] <= 0


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
