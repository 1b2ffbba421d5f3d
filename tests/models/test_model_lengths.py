"""Layers that change lengths, within models: targets by step, labels, padded answers, in any form of input."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import ShapeError
from tests.tolerances import assert_bitwise_equal

LENGTHS = [9, 4, 7, 12]


@pytest.fixture
def halving():
    """Return a model that puts out a step for every two."""
    model = fl.Sequential(
        [
            fl.Conv1D(6, 3, strides=2, padding="same", activation="relu"),
            fl.GRU(5, return_sequences=True),
            fl.Dense(3, activation="softmax"),
        ],
        seed=0,
    )
    model.build(2)
    return model


def out(lengths):
    return [-(-n // 2) for n in lengths]


def padded(sequences, steps):
    whole = np.zeros((len(sequences), steps, *np.shape(sequences[0])[1:]), np.asarray(sequences[0]).dtype)
    for row, sequence in zip(whole, sequences, strict=True):
        row[: len(sequence)] = sequence
    return whole


def test_targets_by_step_have_the_lengths_that_go_out(halving, rng):
    x = [rng.standard_normal((n, 2)) for n in LENGTHS]
    y = [rng.integers(0, 3, n) for n in out(LENGTHS)]
    halving.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    answers = halving.predict(x)
    assert [len(answer) for answer in answers] == out(LENGTHS)
    labels, found = np.concatenate(y), np.concatenate(answers)
    loss, accuracy = halving.evaluate(x, y)
    assert loss == pytest.approx(-np.log(found[np.arange(len(found)), labels]).mean(), rel=1e-5)
    assert accuracy == pytest.approx((found.argmax(1) == labels).mean())
    again = halving.evaluate(padded(x, 13), padded(y, 7), lengths=LENGTHS, batch_size=2)
    assert again == pytest.approx([loss, accuracy], rel=1e-5)
    answers_padded = halving.predict(padded(x, 13), lengths=LENGTHS, batch_size=3)
    assert answers_padded.shape == (4, 7, 3)
    for row, answer in zip(answers_padded, answers, strict=True):
        assert_bitwise_equal(row[: len(answer)], answer)
        assert (row[len(answer) :] == 0).all()
    first = halving.fit(x, y, epochs=30, verbose=0).history["loss"]
    assert first[-1] < first[0]
    with pytest.raises(ShapeError, match="other numbers of steps"):
        halving.fit(x, [rng.integers(0, 3, n) for n in LENGTHS], verbose=0)


def test_labels_of_other_lengths_go_with_a_shortened_output(halving, rng):
    x = [rng.standard_normal((n, 2)) for n in LENGTHS]
    halving.compile(fl.optimizers.Adam(0.01), "ctc")
    y = [[1, 2], [1], [2, 1, 2], [1, 2]]
    losses = halving.fit(x, y, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    given = padded([np.array(one) for one in y], 3)
    lengths = {halving.output_names[0]: [2, 1, 3, 2]}
    assert halving.evaluate(x, given, lengths=lengths) == pytest.approx(halving.evaluate(x, y), rel=1e-6)


def test_dense_arrays_go_through_pools_and_strides(halving, rng):
    x = rng.standard_normal((3, 8, 2))
    model = fl.Sequential([fl.MaxPooling1D(2), fl.LSTM(4, return_sequences=True), fl.AveragePooling1D(2), fl.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, rng.standard_normal((3, 2, 1)), epochs=1, verbose=0)
    assert model.predict(x).shape == (3, 2, 1)
    assert halving.predict(x).shape == (3, 4, 3)
