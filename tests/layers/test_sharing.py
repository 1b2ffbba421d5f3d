"""Cores may share a call in several ways: the bits are the same by each, from any thread, before and after a change."""

import copy
import pickle
import time

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.engine import recurrence
from fastlstm.engine.weights import pack_weights
from fastlstm.runtime import config, pool
from tests.layers.callers import call_from_threads
from tests.tolerances import assert_bitwise_equal

KINDS = (fl.LSTM, fl.GRU, fl.SimpleRNN)


def sequential(count, steps, features, dtype=np.float32):
    """Return a batch as users give it, and as another layer would return it."""
    x = np.random.default_rng(count).standard_normal((count, steps, features)).astype(dtype)
    return x, np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)


def in_turn(layer):
    """Yield for threads that change from call to call, each pair of calls by another plan; and for one thread first."""
    for threads in (1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 2, 1, 2):
        fl.set_num_threads(threads)
        yield layer


# --- coordinated plans ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("shape", [(1, 60, 20), (3, 20, 5), (7, 20, 30)], ids=str)
def test_a_dense_batch_has_the_same_bits_by_every_plan(
    kind, shape, backwards, with_state, coordinate_everything, plans_run
):
    units = 70
    layer = kind(units, return_sequences=True, return_state=True, go_backwards=backwards)
    x = sequential(*shape)
    rng = np.random.default_rng(0)
    widths = len(layer.state_type._fields)
    state = tuple(rng.standard_normal((widths, shape[0], units), dtype=np.float32)) if with_state else None
    for factor in (1.0, 2.0):
        layer.build(shape[2], 0)
        layer.load_state_dict({name: np.float32(factor) * value for name, value in layer.state_dict().items()})
        y, expected = layer(list(x[0]), initial_state=state)
        for again in in_turn(layer):
            for given in x:
                found, final = again(given, initial_state=state)
                assert_bitwise_equal(found, np.stack(y))
                for part, other in zip(final, expected, strict=True):
                    assert_bitwise_equal(part, other)
    wanted = set() if shape[0] == 1 else {"BatchParallel"}
    assert plans_run.keys() == wanted | (set() if backwards else {"InputPipeline", "UnitParallel"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("shape", [(1, 60, 20, 40), (5, 20, 30, 50)], ids=str)
def test_both_directions_have_the_same_bits_on_cores_that_share_them(
    kind, shape, return_sequences, coordinate_everything, plans_run
):
    layer = fl.Bidirectional(kind(shape[3], return_sequences=return_sequences))
    x = sequential(*shape[:3])
    for factor in (1.0, 2.0):
        layer.build(shape[2], 0)
        layer.load_state_dict({name: np.float32(factor) * value for name, value in layer.state_dict().items()})
        expected = np.stack(layer(list(x[0])))
        for again in in_turn(layer):
            for given in x:
                assert_bitwise_equal(again(given), expected)
    assert plans_run.keys() == {"BatchParallel"}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
@pytest.mark.usefixtures("coordinate_everything")
def test_weights_that_are_not_finite_give_the_same_by_every_plan(count, rng):
    """Where h0 is zeros no plan multiplies it: zero times infinity would be NaN, by some of them."""
    lstm = fl.LSTM(96, return_sequences=True)
    lstm.build(64)
    weights = lstm.state_dict()
    weights["weight_hh_l0"][3, 5] = np.inf
    lstm.load_state_dict(weights)
    x = rng.standard_normal((count, 40, 64)).astype(np.float32)
    fl.set_num_threads(1)
    expected = lstm(x)
    fl.set_num_threads(2)
    for _ in range(20):
        np.testing.assert_array_equal(lstm(x), expected)


@pytest.mark.usefixtures("coordinate_everything")
def test_batches_of_many_lengths_have_the_bits_of_their_sequences(rng):
    fl.set_num_threads(2)
    lstm = fl.LSTM(96, return_sequences=True)
    lstm.build(64)
    for steps in range(60, 90):
        x = rng.standard_normal((2, steps, 64)).astype(np.float32)
        assert_bitwise_equal(lstm(x), np.stack(lstm(list(x))))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("coordinate_everything")
def test_batches_from_four_threads_have_the_bits_of_one(kind):
    """One call coordinates, the others beside it work alone; each has a descriptor of its own."""
    fl.set_num_threads(2)
    layer = kind(96, return_sequences=True)
    batches = [np.random.default_rng(n).standard_normal((1, 150 + 50 * n, 64), np.float32) for n in range(4)]
    expected = [layer(list(batch))[0] for batch in batches]

    def call(n):
        for turn in range(60):
            which = n if turn % 20 > 5 else turn % 4  # mostly the same shape, at times another
            assert_bitwise_equal(layer(batches[which])[0], expected[which])

    call_from_threads(call, 4)
    for _ in range(3):
        call(0)


@pytest.mark.usefixtures("coordinate_everything")
def test_small_batches_of_both_directions_from_four_threads():
    fl.set_num_threads(2)
    layer = fl.Bidirectional(fl.LSTM(40, return_sequences=True))
    batches = [sequential(4, 20 + n, 30)[0] for n in range(4)]
    expected = [np.stack(layer(list(batch))) for batch in batches]

    def call(n):
        for turn in range(100):
            which = n if turn % 20 > 5 else turn % 4
            assert_bitwise_equal(layer(batches[which]), expected[which])

    call_from_threads(call, 4)


# --- the pool ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 60, 30, 50), (7, 60, 200, 40), (3, 60, 100, 77)], ids=str)
def test_while_coordination_backs_off_the_pool_shares_long_batches(
    shape, coordinate_everything, plans_run, monkeypatch
):
    """A batch of less work is coordinated all the same, which then means alone."""
    fl.set_num_threads(2)
    lstm, x = fl.LSTM(shape[3], return_sequences=True), sequential(*shape[:3])[0]
    expected = np.stack(lstm(list(x)))
    monkeypatch.setattr(pool.current(), "backs_off_until", time.perf_counter() + 3600)
    for above, coordinated in ((float("inf"), 1), (0.0, 0)):
        plans_run.clear()
        with config.tuned(pool_above_ns=above, pool_from_ns=0.0):
            assert_bitwise_equal(lstm(x), expected)
        assert sum(plans_run.values()) == coordinated


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "steps"), [(1, 40), (2, 30), (3, 25)])
def test_few_long_sequences_have_the_same_bits_where_the_pool_shares_their_units(
    kind, count, steps, share_everything, monkeypatch
):
    """Also from a start state, and for a batch that is read as it lies."""
    layer = kind(72, return_sequences=True, return_state=True)
    x = sequential(count, steps, 3)
    widths = len(layer.state_type._fields)
    state = tuple(np.random.default_rng(1).standard_normal((widths, count, 72), dtype=np.float32))
    fl.set_num_threads(1)
    expected, final = layer(x[0], initial_state=state)
    shared = []
    run = recurrence.inference._share_units
    monkeypatch.setattr(recurrence.inference, "_share_units", lambda *given: shared.append(1) or run(*given))
    with config.tuned(unit_parallel_weights=1, coordinate_from_ns=float("inf"), serial_below_ns=0.0, pool_from_ns=0.0):
        for threads in (2, 3):
            fl.set_num_threads(threads)
            for given in x:
                found, state_after = layer(given, initial_state=state)
                assert_bitwise_equal(found, expected)
                for part, other in zip(state_after, final, strict=True):
                    assert_bitwise_equal(part, other)
    assert len(shared) == 4, "the units were not shared"


# --- copies and changes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.usefixtures("coordinate_everything")
def test_a_copy_of_a_layer_has_descriptors_of_its_own(copied):
    fl.set_num_threads(2)
    lstm, x = fl.LSTM(96, return_sequences=True), np.ones((1, 200, 64), np.float32)
    for _ in range(3):
        before = lstm(x)
    twin = copied(lstm)
    twin.load_state_dict({name: 2 * value for name, value in lstm.state_dict().items()})
    expected = twin(list(x))[0]
    assert (expected != before[0]).any()
    for _ in range(5):
        assert_bitwise_equal(twin(x)[0], expected)
        assert_bitwise_equal(lstm(x), before)


@pytest.mark.parametrize("make", [lambda: fl.LSTM(50, return_sequences=True), lambda: fl.Bidirectional(fl.GRU(50))])
@pytest.mark.usefixtures("coordinate_everything")
def test_a_copy_from_memory_that_must_not_be_written_to(make):
    """Pickle's protocol 5 lets a service map weights that several processes share."""
    fl.set_num_threads(2)
    layer, x = make(), sequential(6, 20, 30)[0]
    expected, buffers = layer(x), []
    data = pickle.dumps(layer, protocol=5, buffer_callback=buffers.append)
    assert buffers
    twin = pickle.loads(data, buffers=[bytes(buffer.raw()) for buffer in buffers])
    for _ in range(8):
        assert_bitwise_equal(twin(x), expected)


def test_weights_that_change_while_others_pack_them_are_not_the_old_ones(monkeypatch):
    lstm = fl.LSTM(8)
    lstm.build(4)
    old, new = lstm.state_dict(), {name: 2 * value for name, value in lstm.state_dict().items()}

    def slow(geometry, params):
        packed = pack_weights(geometry, params)
        if params["weight_hh_l0"][0, 0] == old["weight_hh_l0"][0, 0]:
            lstm.load_state_dict(new)  # as by another thread
        return packed

    with monkeypatch.context() as patched:
        patched.setattr(recurrence, "pack_weights", slow)
        lstm.recurrence.packed()
    expected = pack_weights(lstm.recurrence.geometry, new)
    for found, wanted in zip(lstm.recurrence.record(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
