"""Which way batches go without the GIL is found by trying; here by ways that take as long as the test says."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.layers import led
from fastlstm.layers.led import Led
from fastlstm.layers.ways import Direction, ways_for

SHAPE, COST = (3, 10, 4, 8), 1e-4


class Timed:
    """A leader who takes so long with followers, and 1 second for each nanosecond of cost alone."""

    alone, rests = 1.0, False

    def __init__(self, seconds):
        self.seconds = seconds

    def lead(self, task, followers, cost):
        return None if self.rests else self.seconds[0] * cost


def way_that_takes(seconds):
    """Return a way, its leader's kernel being the list that holds the time."""

    class Way:
        kernels = (seconds,)
        made, ran = 0, 0

        def __init__(self, shape, directions, cost):
            type(self).made += 1
            self.weights = tuple(direction.weights for direction in directions)

        def run(self, directions, lead):
            type(self).ran += 1
            lead(None, 1)

    return Way


@pytest.fixture
def clock(monkeypatch):
    """Let a test say what time it is."""
    now = [100.0]
    monkeypatch.setattr(led.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(led.team, "Leader", lambda seconds, dtype: Timed(seconds))
    return now


def batch(weights=None):
    return (Direction(None, np.empty(0, np.float32), *[None] * 3, weights),)


def calls(layer_led, ways, count, shape=SHAPE, directions=None):
    """Run so many batches; return how many went by each way and how many by none."""
    before = [way.ran for way in ways]
    done = sum(layer_led.run(tuple(ways), shape, directions or batch(), COST) for _ in range(count))
    return *(way.ran - ran for way, ran in zip(ways, before, strict=True)), count - done


def test_the_first_two_are_declined_and_the_fastest_way_wins(clock):
    ways = [way_that_takes([0.6]), way_that_takes([0.5]), way_that_takes([0.8])]
    layer_led = Led()
    assert calls(layer_led, ways, 2) == (0, 0, 0, 2)
    tries = led._TRIES
    assert calls(layer_led, ways, 3 * tries) == (tries, tries, tries, 0)
    assert calls(layer_led, ways, 50) == (0, 50, 0, 0)
    assert calls(layer_led, ways[::2], 50) == (50, 0, 0), "of the ways that a batch may go"


def test_what_is_not_faster_than_alone_is_declined(clock):
    ways = [way_that_takes([0.95]), way_that_takes([1.2])]
    layer_led = Led()
    assert calls(layer_led, ways, 2 + 2 * led._TRIES + 10) == (led._TRIES, led._TRIES, 12)


def test_ways_are_tried_again_when_the_machine_may_have_changed(clock):
    _, fast, _ = ways = [way_that_takes([seconds]) for seconds in (0.6, 0.5, 0.95)]
    layer_led, tries, hold = Led(), led._TRIES, led._HOLDS[0]
    calls(layer_led, ways, 2 + 3 * tries)
    fast.kernels[0][0] = 0.7
    assert calls(layer_led, ways, 5) == (0, 5, 0, 0)
    clock[0] += hold
    assert calls(layer_led, ways, 3 * tries + 5) == (tries, tries + 5, tries, 0), "one bad moment decides nothing"
    clock[0] += 1.5 * hold
    assert calls(layer_led, ways, 5) == (0, 5, 0, 0), "it holds for twice as long"
    clock[0] += hold
    assert calls(layer_led, ways, 3 * tries + 5) == (tries + 5, tries, tries, 0)
    for _ in range(8):
        clock[0] += led._HOLDS[1]
        calls(layer_led, ways, 3 * tries + 5)
    clock[0] += led._HOLDS[1]
    assert calls(layer_led, ways, 3 * tries + 5) == (2 * tries + 5, tries, 0, 0), "what is far behind is left at last"


def test_a_leader_that_rests_decides_nothing(clock, monkeypatch):
    ways = [way_that_takes([0.6]), way_that_takes([0.5])]
    layer_led = Led()
    calls(layer_led, ways, 2)
    monkeypatch.setattr(Timed, "rests", True)
    monkeypatch.setattr(led, "NEVER_ALONE", 2 * COST)
    assert calls(layer_led, ways, 20) == (20, 0, 0)
    monkeypatch.setattr(led, "NEVER_ALONE", COST)
    assert calls(layer_led, ways, 20) == (0, 0, 20)
    monkeypatch.setattr(Timed, "rests", False)
    calls(layer_led, ways, 2 * led._TRIES)
    assert calls(layer_led, ways, 5) == (0, 5, 0)


def test_a_task_is_made_anew_for_another_length_or_other_weights_only(clock):
    way = way_that_takes([0.5])
    layer_led, old, new = Led(), batch(object()), batch(object())
    longer = (SHAPE[0], 2 * SHAPE[1], *SHAPE[2:])
    calls(layer_led, [way], 12, directions=old)
    assert way.made == 1
    assert calls(layer_led, [way], 5, longer, old) == (5, 0), "a length that is new is nothing to learn from"
    assert way.made == 2
    calls(layer_led, [way], 5, longer, new)
    assert way.made == 3
    layer_led.forget_weights()
    assert calls(layer_led, [way], 5, longer, new) == (5, 0)
    assert way.made == 4


def test_not_more_than_some_kinds_are_kept(clock):
    way, layer_led = way_that_takes([0.5]), Led()
    for count in range(3 * led._KINDS):
        calls(layer_led, [way], 3, (count + 1, *SHAPE[1:]))
        assert len(layer_led.known) <= led._KINDS + 1


def test_batches_of_many_lengths_are_led(rng):
    fl.set_num_threads(2)
    lstm = fl.LSTM(96, return_sequences=True)
    lstm.build(64)
    batches = [rng.standard_normal((2, steps, 64)).astype(np.float32) for steps in range(60, 90)]
    for x in batches:
        y = lstm(x)
        assert (y == np.stack(lstm(list(x)))).all()
    [kept] = lstm._led.known.values()
    assert any(entrant.leader._times > 3 for kind in kept for entrant in kind.entrants.values())


@pytest.mark.parametrize(
    ("shape", "threads", "led"),
    [
        ((1, 100, 64, 64), 1, False),
        ((1, 2, 16, 16), 2, False),
        ((1, 100, 64, 64), 2, True),
        ((64, 100, 512, 512), 2, False),
        ((6, 400, 128, 400), 2, True),
    ],
)
def test_what_may_be_led(shape, threads, led):
    assert bool(ways_for(shape, -(-shape[3] // 16), threads, False)) == led


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_weights_that_are_not_finite_give_the_same_by_every_way(count, rng, monkeypatch):
    """Where h0 is zeros no way multiplies it: zero times infinity would be NaN, by some of them."""
    monkeypatch.setattr(led, "_HOLDS", (0.0, 0.0))
    lstm = fl.LSTM(96, return_sequences=True)
    lstm.build(64)
    weights = lstm.state_dict()
    weights["weight_hh_l0"][3, 5] = np.inf
    lstm.load_state_dict(weights)
    x = rng.standard_normal((count, 40, 64)).astype(np.float32)
    fl.set_num_threads(1)
    expected = lstm(x)
    fl.set_num_threads(2)
    for _ in range(40):
        np.testing.assert_array_equal(lstm(x), expected)


def test_weights_that_change_while_others_pack_them_are_not_the_old_ones(monkeypatch):
    lstm = fl.LSTM(8)
    lstm.build(4)
    old, new = lstm.state_dict(), {name: 2 * value for name, value in lstm.state_dict().items()}
    pack = fl.layers.lstm.in_blocks

    def slow(part, units):
        packed = pack(part, units)
        if lstm.params["weight_hh_l0"][0, 0] == old["weight_hh_l0"][0, 0]:
            lstm.load_state_dict(new)  # as by another thread
        return packed

    with monkeypatch.context() as patched:
        patched.setattr(fl.layers.lstm, "in_blocks", slow)
        lstm.packed()
    np.testing.assert_array_equal(lstm.packed().input, pack(new["weight_ih_l0"], 8))
    np.testing.assert_array_equal(lstm.packed().recurrent, pack(new["weight_hh_l0"], 8))
