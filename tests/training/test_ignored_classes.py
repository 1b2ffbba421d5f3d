"""Rows of an ignored class in training: as if they were not there, in the output layer, too."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.training import head

STEPS, CLASSES = 6, 4


@pytest.fixture
def data(rng):
    """Padded targets, and the lengths that they speak of."""
    x, y = rng.standard_normal((10, STEPS, 3)), rng.integers(0, CLASSES, (10, STEPS))
    lengths = rng.integers(1, STEPS + 1, 10)
    return x, np.where(np.arange(STEPS) < lengths[:, None], y, -1), y, lengths


def model(loss, activation="softmax", dtype="float64", **more):
    made = fl.Sequential(
        [fl.LSTM(5, return_sequences=True, dtype=dtype), fl.Dense(CLASSES, activation=activation, dtype=dtype)], seed=1
    )
    made.compile(fl.optimizers.SGD(0.1), loss, **more)
    return made


def ignoring(**more):
    return fl.losses.SparseCategoricalCrossentropy(ignore_class=-1, **more)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_padding_that_is_ignored_trains_as_lengths_do(data, smoothing, weighted, rng):
    """A causal model, so that steps after the length change nothing before; one batch, so that means are alike."""
    x, marked, y, lengths = data
    weights = rng.random((10, STEPS)) if weighted else None
    one = model(ignoring(label_smoothing=smoothing), metrics=["accuracy"], weighted_metrics=["accuracy"])
    other = model(
        fl.losses.SparseCategoricalCrossentropy(label_smoothing=smoothing),
        metrics=["accuracy"],
        weighted_metrics=["accuracy"],
    )
    histories = [
        one.fit(x, marked, sample_weight=weights, epochs=3, batch_size=10, verbose=0).history,
        other.fit(x, y, sample_weight=weights, lengths=lengths, epochs=3, batch_size=10, verbose=0).history,
    ]
    assert histories[0].keys() == histories[1].keys()
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], rtol=1e-9, err_msg=name)
    expected = other.evaluate(x, y, sample_weight=weights, lengths=lengths, return_dict=True)
    for name, value in one.evaluate(x, marked, sample_weight=weights, return_dict=True).items():
        assert value == pytest.approx(expected[name], rel=1e-9), name


def test_blocks_of_the_output_layer_are_no_other_loss(data, monkeypatch):
    """Every block has another number of ignored rows; the mean is that of the whole batch."""
    x, marked, _, _ = data
    whole, cut = model(ignoring()), model(ignoring())
    expected = whole.fit(x, marked, epochs=2, batch_size=10, verbose=0).history["loss"]
    monkeypatch.setattr(head, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(head, "_LEAST_ROWS", 7)
    np.testing.assert_allclose(cut.fit(x, marked, epochs=2, batch_size=10, verbose=0).history["loss"], expected)
    for one, other in zip(whole.get_weights(), cut.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    assert cut.evaluate(x, marked) == pytest.approx(whole.evaluate(x, marked), rel=1e-12)


@pytest.mark.parametrize(("activation", "logits"), [(None, True), ("softmax", False)])
def test_the_output_layer_sees_only_rows_that_count(data, activation, logits, monkeypatch):
    seen = []
    forward = fl.Dense.forward

    def counted(self, x, context, **more):
        seen.append(x.total)
        return forward(self, x, context, **more)

    monkeypatch.setattr(fl.Dense, "forward", counted)
    x, marked, _, lengths = data
    one = model(ignoring(from_logits=logits), activation)
    one.fit(x, marked, epochs=1, batch_size=10, verbose=0)
    assert seen == [lengths.sum()]


def test_a_batch_without_any_row_that_counts_moves_nothing(data):
    x, marked, _, _ = data
    one = model(ignoring())
    one.build(3)
    before = one.get_weights()
    assert one.fit(x, np.full_like(marked, -1), verbose=0).history["loss"] == [0.0]
    assert all((a == b).all() for a, b in zip(before, one.get_weights(), strict=True))
