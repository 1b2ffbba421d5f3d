"""The end of a model for training: blocks of rows, rows that count nothing, losses fused or not, shared outputs."""

import numpy as np
import pytest

import fastlstm as fl
from fastlstm.errors import OptionError
from fastlstm.layers import Dense
from fastlstm.training import head
from tests.tolerances import assert_bitwise_equal

CLASSES = 5


def model(seed=0, **options):
    made = fl.Sequential(
        [fl.LSTM(6, return_sequences=True, dtype="float64"), fl.Dense(CLASSES, activation="softmax", dtype="float64")],
        seed=seed,
    )
    made.build(3)
    made.compile(fl.optimizers.SGD(0.5), "sparse_categorical_crossentropy", **options)
    return made


@pytest.fixture
def data(rng):
    lengths = [7, 3, 5, 1]
    x = [rng.standard_normal((n, 3)) for n in lengths]
    return x, [rng.integers(0, CLASSES, n) for n in lengths], [rng.integers(0, 3, n) * 1.0 for n in lengths]


def after_a_step(made, x, y, **options):
    loss = made.train_on_batch(x, y, **options)
    return loss, made.get_weights()


@pytest.fixture
def rows_computed(monkeypatch):
    """Return a list that notes how many rows every pass of a Dense layer computes."""
    noted, forward = [], Dense.forward

    def noting(self, x, context, **how):
        noted.append(x.total)
        return forward(self, x, context, **how)

    monkeypatch.setattr(Dense, "forward", noting)
    return noted


def test_blocks_of_rows_give_what_all_rows_at_once_do(data, monkeypatch, rows_computed):
    x, y, weights = data
    for options in ({}, {"sample_weight": weights}):
        whole = after_a_step(model(), x, y, **options)
        judged = model().evaluate(x, y, **options)
        with monkeypatch.context() as patch:
            patch.setattr(head, "_BLOCK_BYTES", 0)
            patch.setattr(head, "_LEAST_ROWS", 3)
            rows_computed.clear()
            parts = after_a_step(model(), x, y, **options)
            assert max(rows_computed) == 3
            assert model().evaluate(x, y, **options) == pytest.approx(judged, rel=1e-12)
        assert parts[0] == pytest.approx(whole[0], rel=1e-12)
        for one, other in zip(parts[1], whole[1], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-14)


def test_rows_of_weight_0_are_not_computed(data, rows_computed):
    x, y, weights = data
    counting = sum(int((weight > 0).sum()) for weight in weights)
    assert 0 < counting < 16
    rows_computed.clear()
    loss, found = after_a_step(model(), x, y, sample_weight=weights)
    assert rows_computed == [counting]
    rows_computed.clear()
    # a metric without weights looks at all rows
    (same, _), every = after_a_step(model(metrics=["accuracy"]), x, y, sample_weight=weights)
    assert rows_computed == [16]
    assert same == pytest.approx(loss, rel=1e-12)
    for one, other in zip(found, every, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-14)


def test_a_batch_whose_rows_all_weigh_0_moves_nothing(data):
    x, y, _ = data
    made = model()
    before = made.get_weights()
    assert made.train_on_batch(x, y, [np.zeros(len(one)) for one in y]) == 0.0
    for one, other in zip(before, made.get_weights(), strict=True):
        assert_bitwise_equal(one, other)


def test_ignored_classes_are_left_out_of_the_mean_whatever_the_block(data, monkeypatch):
    x, y, _ = data
    y = [np.where(np.arange(len(one)) % 3 == 1, -100, one) for one in y]
    loss = fl.losses.SparseCategoricalCrossentropy(ignore_class=-100)
    made = model()
    made.compile(fl.optimizers.SGD(0.5), loss)
    probabilities = np.concatenate(made.predict(x))
    labels = np.concatenate(y)
    expected = -np.log(probabilities[labels >= 0, labels[labels >= 0]]).mean()
    assert made.evaluate(x, y) == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr(head, "_BLOCK_BYTES", 0)
    monkeypatch.setattr(head, "_LEAST_ROWS", 2)
    assert made.evaluate(x, y) == pytest.approx(expected, rel=1e-9)
    assert made.train_on_batch(x, y) == pytest.approx(expected, rel=1e-9)


def test_an_output_that_is_read_elsewhere_keeps_its_activation(rng):
    """The loss may not take the values before the softmax where another layer needs those after it."""
    x = fl.Input((4,))
    classes = fl.Dense(3, activation="softmax", dtype="float64")(x)
    more = fl.Dense(2, dtype="float64")(classes)
    both = fl.Model(x, [classes, more], seed=0)
    alone = fl.Model(x, classes)
    inputs, labels, targets = rng.standard_normal((6, 4)), rng.integers(0, 3, 6), rng.standard_normal((6, 2))
    both.compile("sgd", ["sparse_categorical_crossentropy", "mse"])
    alone.compile("sgd", "sparse_categorical_crossentropy")
    total, of_classes, of_more = both.evaluate(inputs, [labels, targets])
    assert of_classes == pytest.approx(alone.evaluate(inputs, labels), rel=1e-6)
    assert total == pytest.approx(of_classes + of_more)
    twice = fl.Model(x, [classes, classes])
    twice.compile("sgd", "sparse_categorical_crossentropy")
    assert twice.evaluate(inputs, [labels, labels])[0] == pytest.approx(2 * of_classes, rel=1e-6)


def test_a_loss_of_weight_0_is_told_and_moves_nothing(rng):
    x = fl.Input((4,))
    one, other = fl.Dense(3, name="one")(x), fl.Dense(2, name="other")(x)
    made = fl.Model(x, [one, other], seed=0)
    made.compile("sgd", "mse", loss_weights={"one": 1.0, "other": 0.0})
    before = made.state_dict()
    inputs, targets = rng.standard_normal((6, 4)), [rng.standard_normal((6, 3)), rng.standard_normal((6, 2))]
    logs = made.train_on_batch(inputs, targets, return_dict=True)
    assert logs["other_loss"] > 0
    assert logs["loss"] == logs["one_loss"]
    moved = {name.split(".")[0] for name, value in made.state_dict().items() if not np.array_equal(value, before[name])}
    assert moved == {"one"}


def test_a_crf_is_trained_by_its_own_loss_only():
    made = fl.Sequential([fl.Dense(3), fl.CRF()])
    made.build(4)
    made.compile("sgd", "mse")
    with pytest.raises(OptionError, match="it is trained by loss='crf'"):
        made.fit(np.zeros((2, 3, 4)), np.zeros((2, 3, 3)))
    made = fl.Sequential([fl.Dense(3)])
    made.build(4)
    made.compile("sgd", "crf")
    with pytest.raises(OptionError, match="expected a CRF layer last"):
        made.fit(np.zeros((2, 3, 4)), np.zeros((2, 3), int))


def test_an_activation_before_a_loss_from_logits_is_not_left_out(rng):
    """The loss takes what the model puts out, tanh and all, as what a softmax would take."""
    made = fl.Sequential([fl.Dense(CLASSES, activation="tanh", dtype="float64")], seed=0)
    made.build(3, steps=False)
    made.compile(fl.optimizers.SGD(0.5), fl.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = rng.standard_normal((6, 3)), rng.integers(0, CLASSES, 6)
    logits = made.predict(x)
    expected = -(logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(6), y].mean()
    assert made.evaluate(x, y) == pytest.approx(expected, rel=1e-12)
    weight = made.get_weights()[0]
    slope = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(CLASSES)[y]
    gradient = (slope * (1 - logits**2)).T @ x / 6
    assert made.train_on_batch(x, y) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(made.get_weights()[0], weight - 0.5 * gradient, rtol=1e-9)


def test_rows_of_weight_0_are_not_computed_for_a_loss_of_numbers_either(data, rows_computed, rng):
    x, _, weights = data
    made = fl.Sequential([fl.GRU(4, return_sequences=True, dtype="float64"), fl.Dense(2, dtype="float64")], seed=0)
    made.build(3)
    made.compile("sgd", "mse")
    y = [rng.standard_normal((len(one), 2)) for one in x]
    errors = np.concatenate([((a - b) ** 2).mean(1) for a, b in zip(made.predict(x), y, strict=True)])
    rows_computed.clear()
    loss = made.train_on_batch(x, y, sample_weight=weights)
    assert rows_computed == [sum(int((weight > 0).sum()) for weight in weights)]
    assert loss == pytest.approx((errors * np.concatenate(weights)).mean(), rel=1e-12)
