"""Beam search under bad options, broken step functions, hostile numbers, great lengths and two threads."""

import threading
import time

import numpy as np
import pytest

from fastlstm.decode import _beam
from fastlstm.decode.beam import beam_search
from fastlstm.decode.beam_options import BeamOptions, Constraints, make_plan
from fastlstm.errors import DataError, OptionError, ShapeError


def good(tokens, state):
    return np.zeros((len(tokens), 4)), state


@pytest.mark.parametrize(("arguments", "message"), [
    ({"beam_width": 0}, "beam_width=0"),
    ({"beam_width": 2.0}, "no integer"),
    ({"beam_width": True}, "no integer"),
    ({"beam_width": 1 << 40}, "beam_width"),
    ({"max_length": 0}, "max_length=0"),
    ({"n_best": 9}, "n_best=9"),
    ({"eos_id": -1}, "eos_id"),
    ({"eos_id": 4}, "4 ids"),
    ({"eos_id": "x"}, "eos_id"),
    ({"length_penalty": np.nan}, "length_penalty"),
    ({"length_penalty": "a"}, "no number"),
    ({"early_stopping": "always"}, "early_stopping"),
    ({"early_stopping": 1}, "early_stopping"),
    ({"early_stopping": [True]}, "early_stopping"),
    ({"constraints": {"min_length": 1}}, "give a Constraints"),
    ({"constraints": Constraints(min_length=101)}, "min_length"),
    ({"constraints": Constraints(no_repeat_ngram=-1)}, "no_repeat_ngram"),
    ({"constraints": Constraints(prefix=[1] * 101)}, "longer than max_length"),
    ({"constraints": Constraints(prefix=[[1], [2]])}, "2 prefixes for 1"),
    ({"constraints": Constraints(prefix=3)}, "prefix=3"),
    ({"constraints": Constraints(banned=[[]])}, "empty phrase"),
    ({"constraints": Constraints(banned=[3])}, "sequence of ids"),
    ({"constraints": Constraints(banned=[[7]])}, "hold id 7"),
    ({"constraints": Constraints(required=[[1.5]])}, "no integer"),
    ({"constraints": Constraints(allowed=[1])}, "not callable"),
    ({"options": BeamOptions(groups=3)}, "do not divide"),
    ({"options": BeamOptions(diversity=-1)}, "diversity"),
    ({"options": BeamOptions(length_formula="log")}, "length_formula"),
    ({"options": BeamOptions(coverage_penalty=-0.5)}, "coverage_penalty"),
    ({"options": BeamOptions(stop_ids=[9])}, "id 9"),
    ({"options": BeamOptions(reorder=3)}, "reorder"),
    ({"state": object()}, "state holds a object"),
])  # fmt: skip
def test_bad_options_are_named(arguments, message):
    with pytest.raises(OptionError, match=message):
        beam_search(good, 0, **arguments)


def put(value, at=(0, 2)):
    def step(tokens, state):
        logits = np.zeros((len(tokens), 40))
        logits[at] = value
        return logits, state

    return step


@pytest.mark.parametrize(("step", "error", "message"), [
    (put(np.nan), DataError, "NaN"),
    (put(np.nan, (-1, -1)), DataError, "NaN"),
    (put(np.inf), DataError, r"\+inf"),
    (put(-np.inf, slice(None)), DataError, "no possible next id at step 0"),
    (lambda t, s: (np.zeros((len(t) + 1, 4)), s), ShapeError, r"\(2, 4\), expected \(1, V\)"),
    (lambda t, s: (np.zeros(4), s), ShapeError, "logits of shape"),
    (lambda t, s: (np.zeros((1, 0)), s), ShapeError, "no columns"),
    (lambda t, s: (np.zeros((len(t), 3 + len(t))), s), ShapeError, r"\(8, 4\)|\(4, 4\)"),
    (lambda t, s: np.zeros((1, 4)), ShapeError, "a ndarray; return"),
    (lambda t, s: (np.zeros((1, 4)),), ShapeError, "1 values"),
    (lambda t, s: (np.zeros((len(t), 4), complex), s), DataError, "complex"),
    (lambda t, s: ([["a"] * 4] * len(t), s), DataError, "real numbers"),
    (lambda t, s: (np.zeros((len(t), 4)), np.zeros((5, 2))), ShapeError, "state array"),
    (lambda t, s: (np.zeros((len(t), 4)), [np.zeros(())]), ShapeError, "state array"),
])  # fmt: skip
def test_bad_steps_are_named(step, error, message):
    with pytest.raises(error, match=message):
        beam_search(step, 0)


def test_more_errors():
    with pytest.raises(ShapeError, match="empty"):
        beam_search(good, [])
    with pytest.raises(OptionError, match="integer ids"):
        beam_search(good, 0.5)
    with pytest.raises(ShapeError, match="one for each sequence"):
        beam_search(good, [[0]])
    with pytest.raises(DataError, match="above 0"):
        beam_search(put(0.5), 0, options=BeamOptions(normalized=True))
    with pytest.raises(ShapeError, match="attention"):
        beam_search(good, 0, options=BeamOptions(coverage_penalty=0.5))
    bad = np.array([[0.5, np.nan]])
    with pytest.raises(DataError, match="attention"):
        beam_search(lambda t, s: (*good(t, s), bad), 0, options=BeamOptions(coverage_penalty=0.5))
    for answer in ([4], [-1], [0.5], ["a"]):
        with pytest.raises(DataError, match="allowed"):
            beam_search(good, 0, constraints=Constraints(allowed=lambda n, ids, answer=answer: answer))
    with pytest.raises(DataError, match="no possible next id"):
        beam_search(good, 0, constraints=Constraints(allowed=lambda n, ids: []))
    with pytest.raises(DataError, match="required phrase"):
        beam_search(good, 0, max_length=2, constraints=Constraints(required=[[1, 2, 3]]))
    with pytest.raises(ZeroDivisionError):  # what the step function raises comes through
        beam_search(lambda t, s: 1 / 0, 0)


def test_hostile_numbers_end_in_answers_or_named_errors():
    rng = np.random.default_rng(0)
    values = np.array([0.0, -0.0, 1.0, -1.0, 1e38, -1e38, 3e38, -3e38, 1e-45, -np.inf, -np.inf, 88.0, -104.0])
    answered = 0
    for trial in range(3000):
        vocab, rows = int(rng.choice([1, 2, 3, 31, 32, 33, 70])), int(rng.integers(1, 4))
        table = rng.choice(values, size=(vocab, vocab)).astype(rng.choice([np.float32, np.float64]))
        if trial % 5 == 0:
            table[rng.integers(vocab), rng.integers(vocab)] = rng.choice([np.nan, np.inf])
        if table.dtype == np.float64 and trial % 3 == 0:
            table[rng.integers(vocab), rng.integers(vocab)] = rng.choice([1e308, -1e308])
        try:
            found = beam_search(
                lambda t, s, table=table: (table[t], s), np.zeros(rows, int), beam_width=int(rng.integers(1, 90)),
                max_length=int(rng.integers(1, 6)), eos_id=int(rng.integers(vocab)),
                length_penalty=float(rng.choice([0.0, 1.0, -1.0, 300.0])),
                constraints=Constraints(no_repeat_ngram=int(rng.integers(4))),
            )  # fmt: skip
        except DataError:
            continue
        answered += 1
        assert all(np.isfinite(h.logprob) and not np.isnan(h.score) for hypotheses in found for h in hypotheses)
    assert answered > 1000


def test_hundred_thousand_steps():
    table = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    began = time.perf_counter()
    [best] = beam_search(lambda t, s: (table[t % 3], s), 0, beam_width=2, max_length=100_000)
    assert len(best.ids) == 100_000
    assert np.isfinite(best.score)
    assert time.perf_counter() - began < 30


def test_the_lock_is_released():
    """While the core reads a large matrix, another Python thread goes on: no gap as long as the call."""
    logits = np.random.default_rng(0).normal(size=(64, 50_000))
    search = {
        "beam_width": 64,
        "max_length": 9,
        "eos_id": None,
        "n_best": 1,
        "length_penalty": 0,
        "early_stopping": False,
    }
    core = _beam.BeamCore(64, logits.shape[1], make_plan("test", 64, search, Constraints(), BeamOptions()))
    stamps, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            stamps.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    longest_gap = []
    for _ in range(40):
        began = time.perf_counter()
        core.measure(logits)
        ended = time.perf_counter()
        inside = [began, *(stamp for stamp in list(stamps) if began < stamp < ended), ended]
        longest_gap.append(max(np.diff(inside)) / (ended - began))
        stamps.clear()
    stop.set()
    thread.join()
    assert min(longest_gap) < 0.5


@pytest.mark.parametrize("pause", [0.0, 0.001])
def test_threads_that_take_turns(pause):
    """Searches of several threads, one with a step that fails, find what each finds alone, and none hangs."""
    tables = np.random.default_rng(0).normal(size=(3, 40, 40))

    def search(place, failing=False):
        def step(tokens, state):
            if pause:
                time.sleep(pause)
            if failing and state > 3:
                raise KeyError("broken model")
            return tables[place][tokens], state + 1

        return beam_search(step, [1, 2], state=0, beam_width=4, max_length=12)

    def repeat(place):
        for _ in range(5):
            if place == 2:
                with pytest.raises(KeyError):
                    search(place, failing=True)
            else:
                found[place].append(search(place))

    alone = [search(place) for place in range(2)]
    found = [[], [], []]
    threads = [threading.Thread(target=repeat, args=(place,), daemon=True) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    for place in range(2):
        assert found[place] == [alone[place]] * 5
