"""Single steps that cores share: the bits are those of one core, whatever the others do."""

import threading
import time

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.kernels.recurrent import descriptor
from fastlstm.kernels.recurrent.stream_step import worker_loop
from fastlstm.runtime import config, pool
from tests.tolerances import assert_bitwise_equal

pytestmark = pytest.mark.usefixtures("coordinate_everything")

LEFT, MADE = ([place, pool.WORDS + place] for place in (pool.LEFT, pool.MADE))
"""Places of the words of two cores."""


def stepper_of(stream):
    """Return the engine's stepper of a stream of one layer."""
    [stepper] = stream._steppers.values()
    return stepper._stepper


def words_of(stream):
    """Return the descriptor of its shared steps."""
    return stepper_of(stream)._shared[2]


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 7])
@pytest.mark.parametrize("threads", [2, 3])
def test_a_step_has_the_same_bits_on_cores_that_share_its_units(batch, embedded, threads, dtype, rng):
    assert_steps_are_the_whole(fl.LSTM, batch, embedded, threads, dtype, rng)


@pytest.mark.parametrize("kind", [fl.GRU, fl.SimpleRNN])
@pytest.mark.parametrize("embedded", [False, True])
def test_every_kind_of_layer_shares_its_units(kind, embedded, rng):
    assert_steps_are_the_whole(kind, 3, embedded, 2, "float32", rng)


def assert_steps_are_the_whole(kind, batch, embedded, threads, dtype, rng):
    layers = [kind(70, return_sequences=True, dtype=dtype), kind(33, return_sequences=True, dtype=dtype)]
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


def test_streams_of_both_types_take_turns_with_one_pool(rng):
    fl.set_num_threads(2)
    layers = [fl.LSTM(40, return_sequences=True, dtype=dtype) for dtype in ("float32", "float64")]
    x = rng.standard_normal((1, 60, 40))
    expected = [layer(x.astype(layer.dtype)) for layer in layers]
    streams = [fl.Stream([layer]) for layer in layers]
    for t in range(60):
        for stream, layer, whole in zip(streams, layers, expected, strict=True):
            assert_bitwise_equal(stream.step(x[:, t].astype(layer.dtype)), whole[:, t])


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


def test_a_stream_goes_on_alone_while_another_call_has_the_pool(rng, monkeypatch):
    lstm = fl.LSTM(70, return_sequences=True)
    x = rng.standard_normal((1, 2, 3), np.float32)
    expected = lstm(x)
    stream = fl.Stream([lstm])
    fl.set_num_threads(1)
    assert_bitwise_equal(stream.step(x[:, 0]), expected[:, 0])
    fl.set_num_threads(4)
    monkeypatch.setattr(pool.current(), "busy", True)  # alone, with words of its own
    assert_bitwise_equal(stream.step(x[:, 1]), expected[:, 1])
    assert words_of(stream)[descriptor.PARTS] == 4, "the step was not cut for the cores"


@pytest.mark.usefixtures("share_everything")
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


def test_a_worker_does_all_that_its_coordinator_leaves(rng, dtype):
    """The words are set as by a coordinator that then does nothing."""
    fl.set_num_threads(2)
    lstm = fl.LSTM(50, return_sequences=True, dtype=dtype)
    x = rng.standard_normal((2, 2, 3)).astype(dtype)
    expected = lstm(x)
    stream = fl.Stream([lstm], 2)
    assert_bitwise_equal(stream.step(x[:, 0]), expected[:, 0])
    stepper, kernel = stepper_of(stream), worker_loop(lstm.cell())
    _, _, step, given = stepper._shared
    given[...] = x[:, 1]
    step[descriptor.NOW] = 1
    words = np.zeros(2 * pool.WORDS, np.int64)
    words[LEFT] = step[descriptor.CHUNKS]
    shared = step.copy()
    assert not kernel(words, shared, shared, stepper._gates, 1, 5, 100), "there was no job"
    assert words[MADE].tolist() == [step[descriptor.CHUNKS]] * 2
    assert words[pool.WORDS + pool.DONE] == 4
    assert_bitwise_equal(stepper._hidden[0], expected[:, 1])
    words[pool.WORDS + pool.POSTED] = 5
    assert kernel(words, shared, shared, stepper._gates, 1, 5, 100), "there was a job"


def test_a_worker_comes_and_takes_chunks(rng, monkeypatch):
    monkeypatch.setattr(pool, "_pool", pool.Pool())
    fl.set_num_threads(2)
    lstm = fl.LSTM(50)
    lstm.build(3)
    stream = fl.Stream([lstm])
    with config.tuned(worker_spins=10**7):
        for _ in range(3):
            stream.step(rng.standard_normal((1, 3), np.float32))
        ours = pool.current()
        chunks = ours.descriptor[descriptor.CHUNKS]
        ours.words[MADE] = 0
        ours.words[LEFT] = chunks
        end = time.monotonic() + 30
        while (ours.words[MADE] < chunks).any() and time.monotonic() < end:
            time.sleep(0.001)
        assert (ours.words[MADE] == chunks).all()
        assert ours.words[pool.LEFT] <= 0
