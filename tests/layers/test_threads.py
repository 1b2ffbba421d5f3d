"""The user's process is not ours: eight threads at once, fork after use, nothing left behind."""

import copy
import pickle
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.kernels import team
from fastlstm.layers import shared_units
from fastlstm.layers.led import Led
from fastlstm.layers.ways import Direction, SharedSequences
from tests import strategies
from tests.layers.harness import lstm_of, random_loss, train_lstm
from tests.tolerances import assert_bitwise_equal


def led_by(layer):
    """Return the ways by which batches of a layer were led."""
    return {way for kept in layer._led.known.values() for kind in kept for way in kind.entrants}


def call_from_threads(call, count, beside=lambda: None):
    """Call ``call(n)`` in each of `count` threads, and `beside` in this one; raise what any of them raises."""
    failures = []

    def run(n):
        try:
            call(n)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    beside()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "a call hangs"
    assert failures == []


@pytest.mark.usefixtures("share_everything")
def test_eight_threads_may_call_one_layer_at_once():
    fl.set_num_threads(2)
    case = strategies.make_case([30, 7, 30, 12, 1], 20, 33, 0)
    layer, loss = lstm_of(case.weights, "float32"), random_loss(case)
    expected, _ = layer(case.sequences)
    trained = train_lstm(layer, case, loss)
    together = threading.Barrier(8)

    def call(n):
        together.wait(30)
        for _ in range(5):
            y, _ = layer(case.sequences)
            for got, wanted in zip(y, expected, strict=True):
                assert_bitwise_equal(got, wanted)
            result = train_lstm(layer, case, loss)
            for name, gradient in trained.gradients.items():
                assert_bitwise_equal(result.gradients[name], gradient, what=name)

    call_from_threads(call, 8)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on this platform")
def test_use_fork_use():
    """As a server does that loads its model before it forks; in a process of its own."""
    program = """
        import os, warnings
        import numpy as np
        import fastlstm as fl
        from fastlstm.kernels import team
        from fastlstm.layers import shared_units

        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of fork beside threads: our case
        team.SERIAL_BELOW, shared_units._STEP_OF_A_CORE, team._MEASURED, team._CORES = 0.0, 1.0, 0, 2
        fl.set_num_threads(2)
        layer = fl.LSTM(17, return_sequences=True)
        x = np.random.default_rng(0).standard_normal((6, 9, 5))
        expected = layer(x)
        stream = fl.Stream([layer], 6)
        assert all((stream.step(x[:, t]) == expected[:, t]).all() for t in range(2))
        child = os.fork()
        same = all((layer(x) == expected).all() for _ in range(3))
        same = same and all((stream.step(x[:, t]) == expected[:, t]).all() for t in range(2, 9))
        if child == 0:
            os._exit(0 if same else 1)
        assert same, "the parent's results changed"
        assert os.waitpid(child, 0)[1] == 0, "the child failed"
        print("both work")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=90, check=False
    )
    assert result.stdout.strip() == "both work", result.stderr


def test_large_inputs_and_weights_saturate_without_warnings(dtype):
    """Warnings are errors in this suite."""
    case = strategies.make_case([4, 2], 3, 5, 0)
    for size in (1e4, 1e30):
        big = case._replace(sequences=[x * size for x in case.sequences])
        y, state = lstm_of(case.weights, dtype)(big.sequences)
        assert all(np.isfinite(part).all() for part in y)
        assert all((np.abs(part) <= 1).all() for part in y)
        assert (np.abs(state.c) <= 4).all()  # one step adds at most 1
        result = train_lstm(lstm_of(case.weights, dtype), big, random_loss(big))
        assert all(np.isfinite(gradient).all() for gradient in result.gradients.values())


def test_tiny_inputs_are_not_lost(dtype):
    """Where gates are 1/2 and tanh is the identity, c is linear in a tiny x."""
    layer = fl.LSTM(1, unit_forget_bias=False, return_state=True, dtype=dtype)
    layer.load_state_dict(
        {
            "weight_ih_l0": [[0.0], [0], [1], [0]],
            "weight_hh_l0": np.zeros((4, 1)),
            "bias_ih_l0": np.zeros(4),
            "bias_hh_l0": np.zeros(4),
        }
    )
    _, state = layer(np.full((1, 1, 1), 1e-30))
    np.testing.assert_allclose(state.c, 0.5e-30, rtol=1e-6)
    np.testing.assert_allclose(state.h, 0.25e-30, rtol=1e-6)


def test_batches_prepared_by_another_core_from_four_threads():
    """One call leads, the others beside it work alone; every thread has its own leader, and the same bits."""
    fl.set_num_threads(2)
    lstm = fl.LSTM(96, return_sequences=True)
    batches = [np.random.default_rng(n).standard_normal((1, 150 + 50 * n, 64), np.float32) for n in range(4)]
    expected = [lstm(list(batch))[0] for batch in batches]

    def call(n):
        for turn in range(60):
            which = n if turn % 20 > 5 else turn % 4  # mostly the same shape, at times another
            assert_bitwise_equal(lstm(batches[which])[0], expected[which])

    call_from_threads(call, 4)
    for _ in range(3):
        call(0)
    assert led_by(lstm), "no batch was led"


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize(("shape", "led"), [((1, 3, 40), False), ((1, 60, 40), True), ((3, 20, 5), True)])
def test_sequences_whose_units_are_shared_without_the_gil(shape, led, with_state):
    fl.set_num_threads(2)
    lstm = fl.LSTM(250, return_sequences=True, return_state=True)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, dtype=np.float32)
    state = tuple(rng.standard_normal((2, shape[0], 250), dtype=np.float32)) if with_state else None
    for factor in (1.0, 2.0):
        lstm.build(shape[2], 0)
        lstm.load_state_dict({name: np.float32(factor) * value for name, value in lstm.state_dict().items()})
        y, (h, c) = lstm(list(x), initial_state=state)
        for threads in (2, 2, 2, 1, 3, 3, 2, *[2] * 20):
            fl.set_num_threads(threads)
            again, final = lstm(x, initial_state=state)
            assert_bitwise_equal(again, np.stack(y))
            assert_bitwise_equal(final.h, h)
            assert_bitwise_equal(final.c, c)
    assert bool(led_by(lstm)) == led


def sequential(count, steps, features, dtype=np.float32):
    """Return a batch as users give it, and as another layer would return it."""
    x = np.random.default_rng(count).standard_normal((count, steps, features)).astype(dtype)
    return x, np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("shape", [(2, 60, 20, 40), (7, 20, 30, 50)], ids=str)
def test_sequences_that_are_shared_without_the_gil(shape, backwards, with_state):
    fl.set_num_threads(2)
    lstm = fl.LSTM(shape[3], return_sequences=True, return_state=True, go_backwards=backwards)
    x = sequential(*shape[:3])
    state = tuple(np.random.default_rng(0).standard_normal((2, shape[0], shape[3])).astype("f")) if with_state else None
    y, (h, c) = lstm(list(x[0]), initial_state=state)
    for threads in (2, 2, 2, 1, 3, 3, 2, *[2] * 10):
        fl.set_num_threads(threads)
        for given in x:
            again, final = lstm(given, initial_state=state)
            assert_bitwise_equal(again, np.stack(y))
            assert_bitwise_equal(final.h, h)
            assert_bitwise_equal(final.c, c)
    assert SharedSequences in led_by(lstm)


@pytest.mark.parametrize("shape", [(7, 60, 30, 50), (7, 60, 200, 40), (3, 60, 100, 77)], ids=str)
def test_a_long_batch_is_shared_by_the_gil_while_its_leader_would_be_alone(shape, monkeypatch):
    fl.set_num_threads(2)
    lstm, x, times = fl.LSTM(shape[3], return_sequences=True), sequential(*shape[:3])[0], []
    expected = np.stack(lstm(list(x)))
    lead = team.Leader.lead
    monkeypatch.setattr("fastlstm.layers.led._TRIES", 100)  # before it is known whether that pays
    monkeypatch.setattr(team.Leader, "lead", lambda *given: times.append(1) or lead(*given))
    for _ in range(8):
        assert_bitwise_equal(lstm(x), expected)
    led = len(times)
    assert led >= 6
    monkeypatch.setattr(team._team, "rests_until", time.perf_counter() + 3600)
    assert_bitwise_equal(lstm(x), expected)
    assert len(times) == led + 1, "a short one is done alone"
    monkeypatch.setattr("fastlstm.layers.led.NEVER_ALONE", 0.0)
    assert_bitwise_equal(lstm(x), expected)
    assert len(times) == led + 1


@pytest.mark.parametrize(("count", "steps"), [(1, 3000), (2, 1500), (3, 1000)])
def test_the_units_of_a_long_sequence_are_shared_by_the_gil(count, steps, monkeypatch):
    fl.set_num_threads(2)
    lstm, calls, share = fl.LSTM(192, return_sequences=True), [], shared_units.forward
    monkeypatch.setattr(shared_units, "forward", lambda *given: calls.append(1) or share(*given))
    x = np.ones((count, steps, 3), np.float32)
    for turn in range(1, 4):
        lstm(x)
        assert len(calls) == turn


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("shape", [(1, 60, 20, 40), (5, 20, 30, 50)], ids=str)
def test_directions_that_are_shared_without_the_gil(shape, return_sequences):
    fl.set_num_threads(2)
    layer = fl.Bidirectional(fl.LSTM(shape[3], return_sequences=return_sequences))
    x = sequential(*shape[:3])
    for factor in (1.0, 2.0):
        layer.build(shape[2], 0)
        layer.load_state_dict({name: np.float32(factor) * value for name, value in layer.state_dict().items()})
        expected = np.stack(layer(list(x[0])))
        for threads in (2, 2, 2, 1, 3, 3, 2, *[2] * 10):
            fl.set_num_threads(threads)
            for given in x:
                assert_bitwise_equal(layer(given), expected)
    assert led_by(layer)


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


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda lstm: pickle.loads(pickle.dumps(lstm))])
def test_a_copy_of_a_layer_prepares_batches_of_its_own(copied):
    fl.set_num_threads(2)
    lstm, x = fl.LSTM(96, return_sequences=True), np.ones((1, 200, 64), np.float32)
    for _ in range(3):
        before = lstm(x)
    assert led_by(lstm)
    twin = copied(lstm)
    twin.load_state_dict({name: 2 * value for name, value in lstm.state_dict().items()})
    expected = twin(list(x))[0]
    for _ in range(5):
        assert_bitwise_equal(twin(x)[0], expected)
        assert_bitwise_equal(lstm(x), before)


@pytest.mark.parametrize("make", [lambda: fl.LSTM(50, return_sequences=True), lambda: fl.Bidirectional(fl.LSTM(50))])
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


class Nothing:
    """A way to run batches that does nothing; each leader must serve one call at a time."""

    kernels = None, ()

    def __init__(self, shape, directions, cost):
        self.weights = tuple(direction.weights for direction in directions)

    def run(self, directions, lead):
        entrant = lead.__self__
        assert not hasattr(entrant, "busy"), "two calls have one leader"
        entrant.busy = True
        del entrant.busy


def test_weights_that_change_beside_calls_leave_each_leader_once():
    """Two calls with one leader would write into one task."""
    led, weights, until = Led(), object(), time.monotonic() + 1.0
    directions = (Direction(None, np.empty(0, np.float32), *[None] * 3, weights),)

    def call(n):
        while time.monotonic() < until:
            led.run((Nothing,), (1, 1, 1, 1), directions, 0.0)

    def change():
        while time.monotonic() < until:
            led.forget_weights()
            known = [kind for kept in list(led.known.values()) for kind in list(kept)]
            assert len(known) == len({id(kind) for kind in known}) <= 1 + 4  # kept, and of calls that are not over

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        call_from_threads(call, 4, change)
    finally:
        sys.setswitchinterval(before)
