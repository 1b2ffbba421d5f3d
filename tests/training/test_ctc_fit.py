"""A model that is fitted with the CTC loss: it learns, is saved with it, and errors name the sequence."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import DataError
from fastlstm.training.losses import CTC
from tests.naive import ctc_loss as naive


def shown(strings, rng):
    """Return sequences (T_n, 3) that show each label for a step, at places that the loss is not told."""
    xs = []
    for string in strings:
        x = np.zeros((int(rng.integers(12, 18)), 3), np.float32)
        x[np.sort(rng.choice(np.arange(0, 12, 2), len(string), replace=False)), string - 1] = 1.0
        xs.append(x)
    return xs


def learner(**options):
    model = fl.Sequential([fl.Dense(4, activation="softmax")], seed=1)
    model.compile(fl.optimizers.Adam(0.1), CTC(**options) if options else "ctc")
    return model


def test_a_model_learns_where_the_labels_are_and_is_loaded_again(rng, tmp_path):
    strings = [rng.integers(1, 4, rng.integers(0, 4)) for _ in range(40)]
    xs = shown(strings, rng)
    model = learner(zero_infinity=True)
    losses = model.fit(xs, strings, epochs=60, batch_size=10, verbose=0).history["loss"]
    assert losses[-1] < 0.1 * losses[0]
    paths = [p.argmax(axis=1) for p in model.predict(xs)]
    assert all(np.array_equal(path[path > 0], string) for path, string in zip(paths, strings, strict=True))
    found = model.evaluate(xs, strings)
    padded = np.full((40, 3), -1)
    for n, string in enumerate(strings):
        padded[n, : len(string)] = string
    assert model.evaluate(xs, padded) == found
    expected = np.mean(
        [naive.ctc(np.log(p.astype(float)), y)[0] for p, y in zip(model.predict(xs), strings, strict=True)]
    )
    assert found == pytest.approx(expected, rel=1e-4)
    model.save(tmp_path / "model.fl")
    again = fl.load(tmp_path / "model.fl")
    assert again.evaluate(xs, strings) == found
    assert again.fit(xs, [[1] * 20] * 40, verbose=0).history["loss"] == [0.0]  # it is still to leave out what cannot be


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([1, 9], "ctc: sequence 37 has label 9"),
        ([1] * 18, "ctc: sequence 37 has 18 labels"),
        ([0.5], "fit: y: labels of sequence 37 hold 0.5"),
    ],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_fit_names_the_sequence_of_the_whole_set(labels, words, shuffle, rng):
    strings = [rng.integers(1, 4, 3).tolist() for _ in range(39)] + [[2, 1]]
    xs = shown([np.array(string) for string in strings], rng)
    strings[37] = labels
    with pytest.raises(DataError, match=words):
        learner().fit(xs, strings, batch_size=10, shuffle=shuffle, verbose=0)


def test_weights_of_sequences_are_those_of_the_loss(rng):
    strings, weights = [rng.integers(1, 4, 3) for _ in range(6)], rng.random(6)
    xs, model = shown(strings, rng), learner()
    model.build(3)
    each = [model.evaluate(xs[n : n + 1], strings[n : n + 1]) for n in range(6)]
    assert model.evaluate(xs, strings, sample_weight=weights) == pytest.approx(np.mean(weights * each), rel=1e-6)
