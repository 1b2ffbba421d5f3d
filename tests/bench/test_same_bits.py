"""The comparison of two versions sees a single bit, and takes nothing for equal that was not computed."""

import numpy as np
import pytest

from bench.same_bits import compare, differences
from bench.same_bits_calls import KINDS, run


def call(**changes):
    y = np.arange(6, dtype=np.float32).reshape(2, 3)
    return {"y": y, "what": np.array("a call"), "repeats": np.array(True)} | changes


def one_bit_off():
    y = call()["y"].copy()
    y[1, 1] = np.nextafter(y[1, 1], np.float32(9))
    return y


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (call(), []),
        (call(y=one_bit_off()), ["y: 1 of 6 values differ"]),
        (call(y=call()["y"] * np.float32(-1) * np.float32(-1)), []),
        (call(y=np.where(call()["y"] == 0, np.float32(-0.0), call()["y"])), ["y: 1 of 6"]),
        (call(y=call()["y"].astype(float)), ["y: float32 (2, 3), before float64 (2, 3)"]),
        (call(y=call()["y"][:1]), ["before float32 (1, 3)"]),
        (call(z=np.ones(1)), ["z only before"]),
        (call(what=np.array("another")), ["what: a call, before another"]),
        (call(repeats=np.array(False)), ["repeats: ", "before, a call that is repeated gives other bits"]),
    ],
)
def test_what_differs_is_named(other, words):
    lines = differences(call(), other)
    assert len(lines) == len(words)
    for line, word in zip(lines, words, strict=True):
        assert word in line


def test_the_same_nan_is_equal():
    assert not differences(call(y=np.full(3, np.nan)), call(y=np.full(3, np.nan)))


def test_an_error_on_both_sides_is_a_difference(capsys):
    sides = [{"0000/error": np.array("ValueError: no"), "0000/what": np.array("a call")} for _ in range(2)]
    assert compare(*sides, 1) == 1
    assert "0 of 1 calls are equal" in capsys.readouterr().out


def test_a_call_without_results_is_a_difference(capsys):
    results = {f"0000/{name}": value for name, value in call().items()}
    assert compare(results, results, 2) == 1
    assert "1 of 2 calls are equal" in capsys.readouterr().out


@pytest.mark.parametrize("number", [KINDS.index(kind) for kind in dict.fromkeys(KINDS)])
@pytest.mark.usefixtures("threads_put_back")
def test_every_kind_of_call_runs_and_is_the_same_again(number):
    first = run(3, number)
    assert "error" not in first
    assert not differences(first, run(3, number))
    assert differences(first, run(4, number)), "another seed gives the same call"


@pytest.fixture
def threads_put_back():
    import fastlstm as fl

    before = fl.get_num_threads()
    yield
    fl.set_num_threads(before)
