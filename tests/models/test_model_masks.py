"""Masking and mask_zero: padding before or after sequences becomes lengths at the model's door."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import DataError
from tests.tolerances import assert_bitwise_equal


def padded(sequences, steps, where):
    """Return sequences padded with 0 to so many steps, before (as pad_sequences does it) or after."""
    out = np.zeros((len(sequences), steps, *np.shape(sequences[0])[1:]))
    for row, sequence in zip(out, sequences, strict=True):
        row[slice(-len(sequence), None) if where == "pre" else slice(0, len(sequence))] = sequence
    return out


@pytest.fixture(params=["pre", "post"])
def where(request):
    return request.param


def models(kind):
    """Return a model that puts out steps, and one that puts out rows, for ids or features."""
    first = [fl.Embedding(9, 4, mask_zero=True)] if kind == "ids" else [fl.Masking()]
    both = fl.Bidirectional(fl.LSTM(5, return_sequences=True))
    return fl.Sequential([*first, both, fl.Dense(2)], seed=0), fl.Sequential([*first, fl.GRU(5), fl.Dense(2)], seed=0)


@pytest.mark.parametrize("kind", ["ids", "features"])
def test_padding_changes_nothing(kind, where, rng):
    lengths = [3, 6, 1, 4]
    sequences = [rng.integers(1, 9, n) if kind == "ids" else rng.random((n, 3)) + 0.1 for n in lengths]
    x = padded(sequences, 7, where)
    x = x.astype(int) if kind == "ids" else x
    by_step, by_row = models(kind)
    for model in (by_step, by_row):
        model.build(0 if kind == "ids" else 3)
    assert_bitwise_equal(by_row.predict(x, batch_size=3), by_row.predict(sequences))
    answers, alone = by_step.predict(x, batch_size=3), by_step.predict(sequences)
    assert answers.shape == (4, 7, 2)
    assert_bitwise_equal(answers, padded(alone, 7, where).astype(np.float32))

    targets = [rng.random((n, 2)) for n in lengths]
    for model in (by_step,):
        model.compile("sgd", "mse")
        expected = model.evaluate(sequences, targets)
        assert model.evaluate(x, padded(targets, 7, where)) == expected
        weights = [rng.random(n) for n in lengths]
        expected = model.evaluate(sequences, targets, sample_weight=weights)
        assert model.evaluate(x, padded(targets, 7, where), sample_weight=padded(weights, 7, where)) == expected


def test_a_mask_in_a_graph_belongs_to_its_input(rng):
    text, more = fl.Input((None,), name="text"), fl.Input((2,), name="more")
    summary = fl.LSTM(4)(fl.Embedding(7, 3, mask_zero=True)(text))
    model = fl.Model([text, more], fl.Dense(1)(fl.Concatenate()([summary, more])), seed=0)
    x, extra = np.array([[0, 0, 5, 3], [1, 2, 0, 0]]), rng.random((2, 2))
    assert_bitwise_equal(model.predict([x, extra]), model.predict([[np.array([5, 3]), np.array([1, 2])], extra]))


def test_holes_and_empty_sequences_are_refused_by_name():
    model = models("ids")[1]
    model.build()
    with pytest.raises(DataError, match="predict: x: sequence 1 has a hole: step 1"):
        model.predict([[1, 2, 3], [4, 0, 5]])
    with pytest.raises(DataError, match="sequence 0: all 3 steps are masked"):
        model.predict(np.zeros((2, 3), int))


def test_lengths_that_are_given_are_taken(rng):
    model = models("ids")[1]
    model.build()
    x = np.array([[1, 0, 3], [4, 5, 6]])
    assert_bitwise_equal(model.predict(x, lengths=[3, 2]), model.predict([x[0], x[1][:2]]))
